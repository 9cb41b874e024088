from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from hostwatch.model.alert import Notification, UndeliverableError
from hostwatch.model.kept import Errand, Outcome
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.notify.outlet import Outlet
from world.alerts import NOON, NotifyTally, RecordingSink, firing, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.looptime


def errand(number: int) -> Errand:
    return Errand(Notification(firing(number)), "nats", NOON)


class Setup:
    def __init__(self) -> None:
        self.sink = RecordingSink()
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
