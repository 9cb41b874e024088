"""The relay on virtual time; the database and the disk stand still or fail on call."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from hostwatch.model.alert import (
    AlertState,
    EndedReason,
    Notification,
    UndeliverableError,
)
from hostwatch.model.kept import Errand, Kept, Outcome, ServerAlerts
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.notify.relay import Relay
from world.alerts import (
    NOON,
    NotifyTally,
    RecordingSink,
    after,
    firing,
    pending,
    resolved,
    seen,
    told,
)
from world.store import server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hostwatch.model.alert import Alert

pytestmark = pytest.mark.looptime

WEB = server(1)


class FakeLedger:
    """Remembers what it was told; away, slow or broken when a test says so."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self.saved: list[Kept] = []
        self.saved_at: list[float] = []
        self.away = False
        self.takes = 0.0
        self.broken = 0

    async def save(self, kept: Kept) -> None:
        await self._work()
        self.saved.append(kept)
        self._end({alert.id for alert in kept.ended})
        self.saved_at.append(asyncio.get_running_loop().time())

    async def load(self, sinks: Sequence[str]) -> Kept:
        await self._work()
        return self.kept

    def _end(self, ended: set[str]) -> None:
        servers = tuple(
            replace(s, alerts=tuple(a for a in s.alerts if a.id not in ended))
            for s in self.kept.servers
        )
        self.kept = replace(self.kept, servers=servers)

    async def _work(self) -> None:
        if self.away:
            raise TryAgainLaterError("away")
        if self.broken:
            self.broken -= 1
            raise ZeroDivisionError
        await asyncio.sleep(self.takes)

    @property
    def outcomes(self) -> dict[tuple[str, int], Outcome]:
        return {e.key[1:]: e.outcome for kept in self.saved for e in kept.errands}


class FakeFile:
    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self.saves = 0
        self.full = False
        self.hangs = False

    async def save(self, kept: Kept) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept, self.saves = kept, self.saves + 1

    async def load(self) -> Kept:
        if self.hangs:
            await asyncio.sleep(3600)
        return self.kept


class Setup:
    def __init__(self) -> None:
        self.ledger = FakeLedger()
        self.file = FakeFile()
        self.nats, self.events = RecordingSink("nats"), RecordingSink("events")
        self.tally = NotifyTally()
        self.now = NOON

    def relay(self) -> Relay:
        return Relay(
            database=self.ledger,
            file=self.file,
            sinks=[self.nats, self.events],
            meter=self.tally,
            clock=lambda: self.now,
            chance=lambda: 0.0,
        )

    @asynccontextmanager
    async def running(self, drain: float = 3.0) -> AsyncIterator[Relay]:
        relay = self.relay()
        await relay.open()
        try:
            await relay.load()
            yield relay
        finally:
            await relay.close(drain=drain)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def fire(relay: Relay, *alerts: Alert) -> None:
    for alert in alerts:
        relay.record(alert.server, (alert,), (Notification(alert),))


async def test_it_is_on_the_disk_and_in_the_database_before_it_is_told(setup):
    setup.nats.answers.clear()
    async with setup.running() as relay:
        fire(relay, firing())
        while not setup.nats.times:
            await asyncio.sleep(0)
        waiting = [Errand(Notification(firing()), s, NOON) for s in ("nats", "events")]
        state = ServerAlerts(WEB, NOON, (firing(),))
        assert setup.file.kept == Kept((state,), (), tuple(waiting))
        assert setup.ledger.saved[0] == Kept((state,), (), tuple(waiting))
        setup.nats.answers.set()
    assert setup.nats.told == setup.events.told == [told(firing())]
    assert setup.ledger.outcomes == {
        (1, "nats"): Outcome.DELIVERED,
        (1, "events"): Outcome.DELIVERED,
    }
    assert setup.file.kept == Kept((state,))
    assert setup.tally.backlog == 0


async def test_news_is_told_at_once(setup):
    async with setup.running() as relay:
        fire(relay, firing())
        await asyncio.sleep(0.01)
        assert setup.nats.told == [told(firing())]


async def test_while_a_sink_fails_the_other_is_told(setup):
    setup.nats.down = True
    async with setup.running() as relay:
        fire(relay, firing(1), firing(2))
        await asyncio.sleep(0.1)
        assert setup.events.told == [told(firing(1)), told(firing(2))]
        assert setup.nats.told == []
        assert setup.tally.backlog == 2
        assert setup.tally.failures == {"nats": 1}
        setup.nats.down = False
        await asyncio.sleep(2)
        assert setup.nats.told == setup.events.told


async def test_a_slow_database_holds_an_alert_up_for_two_seconds(setup):
    async with setup.running() as relay:
        setup.ledger.takes = 9
        fire(relay, firing())
        await asyncio.sleep(1.9)
        assert setup.nats.told == []
        await asyncio.sleep(0.2)
        assert setup.nats.told == [told(firing())]
        await asyncio.sleep(18)
        assert setup.ledger.outcomes[1, "nats"] is Outcome.DELIVERED


async def test_a_database_that_is_away_holds_nothing_up_and_gets_it_later(setup):
    with capture_logs() as logs:
        async with setup.running() as relay:
            setup.ledger.away = True
            for number in range(5):
                fire(relay, firing(number))
                await asyncio.sleep(0.01)
                assert setup.nats.told[-1:] == [told(firing(number))]
            await asyncio.sleep(60)
            assert len(setup.file.kept.errands) == 10
            setup.ledger.away = False
            await asyncio.sleep(11)
            assert setup.file.kept.errands == ()
    assert [len(kept.servers) for kept in setup.ledger.saved] == [5]
    assert len(setup.nats.told) == 5
    assert [e["event"] for e in logs] == [
        "Alerts wait for the database, they are told all the same",
        "Alerts are in the database again",
    ]


async def test_an_error_of_the_database_nobody_foresaw_loses_nothing(setup):
    with capture_logs() as logs:
        async with setup.running() as relay:
            setup.ledger.broken = 3
            fire(relay, firing())
            await asyncio.sleep(10)
    assert [e["event"] for e in logs] == ["A task failed and starts again"] * 3
    assert setup.ledger.outcomes[1, "nats"] is Outcome.DELIVERED


async def test_numbers_reach_the_disk_in_seconds_and_the_database_in_a_minute(setup):
    async with setup.running() as relay:
        relay.record(WEB, (firing(),), ())
        await asyncio.sleep(1)
        disk, database = setup.file.saves, len(setup.ledger.saved)
        for second in range(118):
            alert = seen(firing(), after(second), value=50.0 + second)
            relay.record(WEB, (alert,), ())
            await asyncio.sleep(1)
        assert setup.file.saves - disk <= 24
        assert len(setup.ledger.saved) - database == 1
        (state,) = setup.file.kept.servers
        assert state.alerts[0].value is not None
        assert state.alerts[0].value >= 162


async def test_an_inhibited_notification_is_recorded_and_told_to_nobody(setup):
    async with setup.running() as relay:
        note = Notification(firing(), inhibited=True)
        relay.record(WEB, (firing(),), (note,))
        await asyncio.sleep(5)
    assert setup.nats.times == []
    assert setup.ledger.outcomes[1, "nats"] is Outcome.INHIBITED


async def test_a_refused_notification_is_recorded_as_refused(setup):
    setup.nats.errors = [UndeliverableError("no")]
    async with setup.running() as relay:
        fire(relay, firing())
    assert setup.ledger.outcomes == {
        (1, "nats"): Outcome.REFUSED,
        (1, "events"): Outcome.DELIVERED,
    }
    assert setup.tally.losses == {"nats": 1}


async def test_too_many_that_wait_are_given_up_and_said_once(setup):
    setup.nats.down = setup.events.down = True
    with capture_logs() as logs:
        async with setup.running(drain=0) as relay:
            relay._memory._limit = 2
            fire(relay, *(firing(n) for n in range(4)))
            await asyncio.sleep(1)
    assert setup.tally.losses == {"nats": 2, "events": 2}
    told_of = [e for e in logs if e["event"].startswith("Too many")]
    assert len(told_of) == 1
    # The alerts themselves are kept.
    assert len(setup.file.kept.servers) == 4


class TestTheDisk:
    async def test_a_full_one_is_said_once_and_counted(self, setup):
        with capture_logs() as logs:
            async with setup.running() as relay:
                setup.file.full = True
                fire(relay, firing(1))
                await asyncio.sleep(30)
                fire(relay, firing(2))
                await asyncio.sleep(0.1)
                assert len(setup.nats.told) == 2
                failures = setup.tally.file_failures
                assert failures >= 5
                setup.file.full = False
                await asyncio.sleep(6)
                assert len(setup.file.kept.servers) == 2
        assert [(e["event"], e.get("cause")) for e in logs] == [
            (
                "The last state of alerts cannot be saved: only the database has them",
                "No space left on device",
            ),
            ("The last state of alerts is saved again", None),
        ]
        assert setup.tally.file_failures == failures

    async def test_one_that_hangs_holds_an_alert_up_for_a_second(self, setup):
        async with setup.running() as relay:
            setup.file.hangs = True
            fire(relay, firing())
            await asyncio.sleep(0.9)
            assert setup.nats.told == []
            await asyncio.sleep(0.2)
            assert setup.nats.told == [told(firing())]
        assert setup.tally.file_failures >= 1

    async def test_one_that_hangs_at_the_start_is_done_without(self, setup):
        setup.file.hangs = True
        setup.ledger.kept = TestTheStart.LEDGER
        relay = setup.relay()
        await relay.open()
        async with asyncio.timeout(1.1):
            assert set(await relay.load()) == {WEB.id, server(3).id}
        setup.file.hangs = False
        await relay.close()

    async def test_there_may_be_none(self, setup):
        setup.file = None
        async with setup.running() as relay:
            fire(relay, firing())
        assert setup.nats.told == [told(firing())]
        assert setup.tally.file_failures == 0


class TestTheStart:
    FILE = Kept(
        servers=(
            ServerAlerts(WEB, after(30), (firing(),)),
            ServerAlerts(server(2), NOON, (pending(2),)),
        ),
        errands=(
            Errand(Notification(firing()), "nats", NOON),
            Errand(Notification(firing()), "events", NOON, Outcome.DELIVERED, NOON),
        ),
    )
    LEDGER = Kept(
        servers=(
            ServerAlerts(WEB, NOON, (firing(), pending(label="/old"))),
            ServerAlerts(server(2), after(5), ()),
            ServerAlerts(server(3), after(9), (firing(3),)),
        ),
        errands=(
            Errand(Notification(firing()), "nats", NOON),
            Errand(Notification(firing(3)), "events", after(9)),
        ),
    )

    async def test_the_database_merges_and_its_result_counts(self, setup):
        setup.file.kept, setup.ledger.kept = self.FILE, self.LEDGER
        relay = setup.relay()
        await relay.open()
        loaded = await relay.load()
        assert setup.ledger.saved == [self.FILE]
        assert loaded == {
            s.server.id: s.alerts for s in self.LEDGER.servers if s.alerts
        }
        await asyncio.sleep(1)
        assert setup.nats.told == [told(firing())]
        assert setup.events.told == [told(firing(3))]
        await relay.close()

    async def test_a_database_that_comes_up_in_time_is_waited_for(self, setup):
        setup.file.kept, setup.ledger.kept = self.FILE, self.LEDGER
        setup.ledger.away = True
        relay = setup.relay()
        await relay.open()
        loading = asyncio.create_task(relay.load())
        await asyncio.sleep(4)
        setup.ledger.away = False
        assert set(await loading) == {WEB.id, server(3).id}
        await relay.close()

    @pytest.mark.parametrize("takes", [0, 3600])
    async def test_without_a_database_the_file_serves_after_five_seconds(
        self, setup, takes
    ):
        setup.file.kept = self.FILE
        setup.ledger.away, setup.ledger.takes = not takes, takes
        relay = setup.relay()
        await relay.open()
        started = asyncio.get_running_loop().time()
        loaded = await relay.load()
        assert asyncio.get_running_loop().time() - started == pytest.approx(5, abs=0.1)
        assert loaded == {WEB.id: (firing(),), server(2).id: (pending(2),)}
        await asyncio.sleep(0.1)
        assert setup.nats.told == [told(firing())]
        assert setup.events.told == []
        await relay.close()

    async def test_what_comes_late_is_told_of_servers_that_did_not_go_on(self, setup):
        setup.file.kept, setup.ledger.kept = self.FILE, self.LEDGER
        setup.ledger.away = True
        relay, late = setup.relay(), []
        await relay.open()
        await relay.load(late.append)
        setup.now = after(60)
        relay.record(WEB, (seen(firing(), after(60)),), ())
        setup.ledger.away = False
        await asyncio.sleep(10)
        assert late == [{server(2).id: (), server(3).id: (firing(3),)}]
        assert setup.events.told == [told(firing(3))]
        # What the database had of the server that went on was no more news.
        assert setup.ledger.saved[0].servers[0].alerts == (seen(firing(), after(60)),)
        fire(relay, firing(4))
        await asyncio.sleep(1)
        assert len(late) == 1
        await relay.close()

    async def test_a_server_that_went_on_without_alerts_ends_what_is_left(self, setup):
        setup.ledger.kept = self.LEDGER
        setup.ledger.away = True
        relay = setup.relay()
        await relay.open()
        assert await relay.load() == {}
        relay.record(server(3), (pending(3),), ())
        relay.record(server(3), (), ())
        setup.now = after(77)
        setup.ledger.away = False
        await asyncio.sleep(10)
        states = [s for kept in setup.ledger.saved for s in kept.servers]
        assert states[-1] == ServerAlerts(server(3), after(77), ())
        assert setup.nats.told == [told(firing()), (firing(3).id, 2)]
        assert setup.events.told == [told(firing(3)), (firing(3).id, 2)]
        self.hears_the_end(setup)
        await relay.close()

    async def test_what_was_told_before_and_is_told_anew_ends_under_its_old_id(
        self, setup
    ):
        setup.ledger.kept = Kept((ServerAlerts(WEB, NOON, (firing(),)),))
        setup.ledger.away = True
        relay, anew, late = setup.relay(), firing(1, after(60)), []
        await relay.open()
        await relay.load(late.append)
        fire(relay, anew)
        await asyncio.sleep(1)
        setup.now = after(77)
        setup.ledger.away = False
        await asyncio.sleep(10)
        (ended,) = (a for kept in setup.ledger.saved for a in kept.ended)
        assert setup.ledger.saved[0].ended == (ended,)
        assert setup.ledger.saved[0].servers[0].alerts == (anew,)
        assert setup.nats.told == setup.events.told == [told(anew), (firing().id, 2)]
        self.hears_the_end(setup)
        assert late == [{}]
        await relay.close()

    async def test_what_the_file_alone_knows_anew_ends_the_old_id_too(self, setup):
        setup.ledger.kept = Kept((ServerAlerts(WEB, NOON, (firing(),)),))
        anew = firing(1, after(60))
        setup.file.kept = Kept((ServerAlerts(WEB, after(60), (anew,)),))
        async with setup.running():
            pass
        (ended,) = setup.ledger.saved[0].ended
        assert told(ended) == (firing().id, 2)
        assert {e.key for e in setup.ledger.saved[0].errands} == {
            (firing().id, 2, sink) for sink in ("nats", "events")
        }

    async def test_what_was_ended_here_is_not_ended_twice(self, setup):
        setup.ledger.kept = Kept((ServerAlerts(WEB, NOON, (firing(),)),))
        setup.file.kept = setup.ledger.kept
        setup.ledger.away = True
        relay, end = setup.relay(), resolved(firing(), after(60))
        await relay.open()
        await relay.load()
        relay.record(WEB, (), (Notification(end),))
        await asyncio.sleep(1)
        setup.ledger.away = False
        await asyncio.sleep(3)
        assert setup.ledger.saved[0].ended == (end,)
        assert setup.nats.told == [told(end)]
        await relay.close()

    def hears_the_end(self, setup: Setup) -> None:
        for sink in (setup.nats, setup.events):
            end = sink.notifications[-1].alert
            assert end.state is AlertState.RESOLVED
            assert end.ended_reason is EndedReason.SUPERSEDED
            assert end.ended_at == after(77)
        assert setup.ledger.outcomes[2, "nats"] is Outcome.DELIVERED


class TestTheEnd:
    async def test_all_that_waits_is_told_and_written(self, setup):
        setup.ledger.takes = 0.5
        async with setup.running() as relay:
            fire(relay, *(firing(n) for n in range(50)))
            relay.record(WEB, (), (Notification(resolved(firing(1), after(5))),))
        assert len(setup.nats.told) == 51
        last = {e.key: e.outcome for kept in setup.ledger.saved for e in kept.errands}
        assert len(last) == 102
        assert set(last.values()) == {Outcome.DELIVERED}

    async def test_it_ends_in_time_and_the_next_tells_what_is_left(self, setup):
        setup.nats.answers.clear()
        async with setup.running() as relay:
            fire(relay, firing(1), firing(2))
            await asyncio.sleep(1)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started <= 4.1
        assert {e.sink for e in setup.file.kept.errands} == {"nats"}
        setup.nats.answers.set()
        setup.ledger.kept = setup.file.kept
        async with setup.running():
            await asyncio.sleep(1)
        assert setup.nats.told == [told(firing(1)), told(firing(2))]
        assert setup.events.told == setup.nats.told

    async def test_without_time_it_only_saves(self, setup):
        async with setup.running(drain=0) as relay:
            setup.ledger.takes = 1
            fire(relay, firing())
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started == pytest.approx(0, abs=0.1)
        assert setup.nats.told == []
        assert setup.ledger.saved == []
        assert len(setup.file.kept.errands) == 2

    async def test_what_nobody_keeps_is_said(self, setup):
        setup.file = None
        with capture_logs() as logs:
            async with setup.running() as relay:
                setup.ledger.away = setup.nats.down = setup.events.down = True
                fire(relay, firing())
        lost = [e for e in logs if e["event"].startswith("Notifications are lost")]
        assert [e["some"] for e in lost] == [2]

    async def test_a_load_that_was_cancelled_leaves_the_file_alone(self, setup):
        setup.file.kept = TestTheStart.FILE
        setup.ledger.away = True
        relay = setup.relay()
        await relay.open()
        loading = asyncio.create_task(relay.load())
        await asyncio.sleep(1)
        loading.cancel()
        await asyncio.wait({loading})
        started = asyncio.get_running_loop().time()
        await relay.close()
        assert asyncio.get_running_loop().time() == started
        assert setup.file.kept == TestTheStart.FILE
        assert setup.file.saves == 0

    async def test_it_can_be_opened_again_for_another_term(self, setup):
        relay = setup.relay()
        for number in range(3):
            await relay.open()
            assert await relay.load() == {}
            fire(relay, firing(number))
            await relay.close()
            setup.file.kept = Kept()
        assert setup.nats.told == [told(firing(n)) for n in range(3)]
