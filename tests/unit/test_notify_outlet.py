from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from hostwatch.model.alert import Notification, UndeliverableError
from hostwatch.model.kept import Errand, Outcome
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError
from hostwatch.notify.outlet import Outlet
from world.alerts import NOON, NotifyTally, RecordingSink, after, firing, resolved, told
from world.store import server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.looptime


def errand(number: int) -> Errand:
    return Errand(Notification(firing(number)), "nats", NOON)


class PickySink(RecordingSink):
    """Refuses namespaces for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.full: set[str] = set()
        self.tried: list[tuple[str, float]] = []

    async def deliver(self, notification: Notification) -> None:
        namespace = notification.alert.server.namespace
        self.tried.append((namespace, asyncio.get_running_loop().time()))
        if namespace in self.full:
            raise TryOthersMeanwhileError("exceeded quota")
        await super().deliver(notification)

    def tried_at(self, namespace: str) -> list[float]:
        return [at for tried, at in self.tried if tried == namespace]


class Setup:
    def __init__(self) -> None:
        self.sink = PickySink()
        self.tally = NotifyTally()
        self.done: list[tuple[str, Outcome]] = []
        self.outlet = Outlet(
            self.sink,
            done=lambda e, outcome: self.done.append((e.key.alert_id, outcome)),
            meter=self.tally,
            chance=lambda: 0.0,
        )
        self.task = asyncio.create_task(self.outlet.run())

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.outlet.put(errand(number))


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    yield made
    made.task.cancel()
    await asyncio.wait({made.task})


async def test_all_are_told_in_order(setup):
    setup.put(1, 2)
    await asyncio.sleep(0.1)
    setup.put(3)
    await asyncio.sleep(0.1)
    assert setup.sink.told == [told(firing(n)) for n in (1, 2, 3)]
    assert setup.done == [(firing(n).id, Outcome.DELIVERED) for n in (1, 2, 3)]
    assert setup.tally.deliveries == {"nats": 3}
    assert len(setup.outlet) == 0


async def test_a_failing_sink_is_tried_at_growing_distances_up_to_a_minute(setup):
    setup.sink.down = True
    setup.put(1, 2)
    await asyncio.sleep(260)
    # Waits of 2, 4, 8, 16, 32, and then 60 seconds.
    assert setup.sink.times == [0, 2, 6, 14, 30, 62, 122, 182, 242]
    assert setup.tally.failures == {"nats": 9}
    assert setup.sink.told == []
    setup.sink.down = False
    await asyncio.sleep(60)
    assert setup.sink.told == [told(firing(1)), told(firing(2))]


async def test_trouble_is_said_once_and_its_end_too(setup):
    with capture_logs() as logs:
        setup.sink.errors = [TryAgainLaterError("no route"), TryAgainLaterError("no")]
        setup.put(1, 2)
        await asyncio.sleep(10)
    assert [(e["event"], e.get("cause"), e["waiting"]) for e in logs] == [
        ("Alerts cannot be told, they wait", "no route", 2),
        ("Alerts are told again", None, 1),
    ]
    assert logs[0]["sink"] == "nats"


async def test_what_can_never_be_told_is_given_up_and_the_next_told(setup):
    with capture_logs() as logs:
        setup.sink.errors = [UndeliverableError("too large")]
        setup.put(1, 2)
        await asyncio.sleep(0.1)
    assert setup.done == [
        (firing(1).id, Outcome.REFUSED),
        (firing(2).id, Outcome.DELIVERED),
    ]
    assert setup.tally.losses == {"nats": 1}
    assert [(e["event"], e["server"], e["cause"]) for e in logs] == [
        ("An alert cannot be told and is given up", "web-1", "too large")
    ]


async def test_an_answer_that_does_not_come_is_a_failure(setup):
    setup.sink.answers.clear()
    setup.put(1)
    await asyncio.sleep(19.9)
    assert setup.tally.failures == {}
    await asyncio.sleep(0.2)
    assert setup.tally.failures == {"nats": 1}
    setup.sink.answers.set()
    await asyncio.sleep(2)
    assert setup.sink.told == [told(firing(1))]


async def test_an_error_nobody_foresaw_is_retried_and_then_given_up(setup):
    with capture_logs() as logs:
        setup.sink.errors = [ZeroDivisionError() for _ in range(5)]
        setup.put(1, 2)
        await asyncio.sleep(31)
    assert setup.done == [
        (firing(1).id, Outcome.REFUSED),
        (firing(2).id, Outcome.DELIVERED),
    ]
    unexpected = [e for e in logs if "unexpectedly" in e["event"]]
    assert len(unexpected) == 5


async def test_outages_do_not_count_as_errors_nobody_foresaw(setup):
    setup.sink.errors = [
        *(TryAgainLaterError("down") for _ in range(8)),
        ZeroDivisionError(),
    ]
    setup.put(1)
    await asyncio.sleep(600)
    assert setup.done == [(firing(1).id, Outcome.DELIVERED)]


async def test_when_stopped_it_tells_what_it_has_and_ends(setup):
    setup.put(1, 2)
    setup.outlet.stop()
    async with asyncio.timeout(0.1):
        await setup.task
    assert setup.sink.told == [told(firing(1)), told(firing(2))]


async def test_when_stopped_without_work_it_ends(setup):
    await asyncio.sleep(1)
    setup.outlet.stop()
    async with asyncio.timeout(0.1):
        await setup.task


async def test_when_stopped_it_does_not_wait_for_a_failing_sink(setup):
    setup.sink.down = True
    setup.put(1, 2)
    await asyncio.sleep(100)
    setup.outlet.stop()
    async with asyncio.timeout(0.1):
        await setup.task
    assert len(setup.outlet) == 2


class TestANamespaceThatMustWait:
    FULL = firing(replace(server(1), namespace="full"))
    OTHER = firing(replace(server(2), namespace="other"))

    def put(self, setup, *alerts):
        for alert in alerts:
            setup.outlet.put(Errand(Notification(alert), "nats", NOON))

    async def test_does_not_keep_another_waiting(self, setup):
        setup.sink.full = {"full"}
        self.put(setup, self.FULL, self.OTHER)
        await asyncio.sleep(0.1)
        assert setup.sink.told == [told(self.OTHER)]
        self.put(setup, self.FULL, resolved(self.OTHER, after(9)))
        await asyncio.sleep(0.1)
        assert setup.sink.told[1:] == [(self.OTHER.id, 2)]
        assert len(setup.outlet) == 2

    async def test_is_tried_at_growing_distances_of_its_own(self, setup):
        setup.sink.full = {"full", "other"}
        self.put(setup, self.FULL)
        await asyncio.sleep(1)
        self.put(setup, self.OTHER)
        await asyncio.sleep(199)
        assert setup.sink.tried_at("full") == [0, 2, 6, 14, 30, 62, 122, 182]
        assert setup.sink.tried_at("other") == [1, 3, 7, 15, 31, 63, 123, 183]

    async def test_is_told_all_in_order_later(self, setup):
        setup.sink.full = {"full"}
        end = resolved(self.FULL, after(9))
        with capture_logs() as logs:
            self.put(setup, self.FULL, self.OTHER, end)
            await asyncio.sleep(3)
            setup.sink.full = set()
            again = firing(self.FULL.server, after(60))
            self.put(setup, again)
            await asyncio.sleep(4)
        expected = [self.OTHER, self.FULL, end, again]
        assert setup.sink.told == [told(alert) for alert in expected]
        assert [(e["event"], e["namespace"]) for e in logs] == [
            ("Alerts of a namespace cannot be told, they wait", "full"),
            ("Alerts of a namespace are told again", "full"),
        ]

    async def test_waits_with_all_while_the_sink_is_away(self, setup):
        setup.sink.full = {"full"}
        self.put(setup, self.FULL)
        await asyncio.sleep(1)
        setup.sink.down = True
        self.put(setup, self.OTHER)
        await asyncio.sleep(30)
        setup.sink.down = False
        setup.sink.full = set()
        await asyncio.sleep(60)
        assert sorted(setup.sink.told) == sorted([told(self.FULL), told(self.OTHER)])

    async def test_is_not_waited_for_when_stopped(self, setup):
        setup.sink.full = {"full"}
        self.put(setup, self.FULL, self.OTHER)
        setup.outlet.stop()
        async with asyncio.timeout(0.1):
            await setup.task
        assert setup.sink.told == [told(self.OTHER)]
        assert len(setup.outlet) == 1
