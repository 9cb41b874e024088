"""Alerts over restarts and outages: the real database, the real disk."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from hostwatch.model.alert import Notification
from hostwatch.notify.relay import Relay
from hostwatch.store.alert_file import AlertFile
from world.alerts import (
    NotifyTally,
    RecordingSink,
    after,
    firing,
    pending,
    resolved,
    seen,
    told,
)
from world.postgres import Postgres
from world.store import execute, opened_store, rows, server
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hostwatch.model.alert import Alert

WEB = server(1)

WAITING = """
SELECT count(*) FROM hostwatch.notifications
WHERE delivered_at IS NULL AND refused_at IS NULL AND NOT inhibited
"""
DELIVERED = """
SELECT alert_id::text, transition, sink FROM hostwatch.notifications
WHERE delivered_at IS NOT NULL ORDER BY created_at, transition, sink
"""
STATES = "SELECT state, transition FROM hostwatch.alerts ORDER BY state, transition"


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory) -> Iterator[Postgres]:
    """Start a server that is ours to stop."""
    with Postgres(tmp_path_factory.mktemp("own-postgres")) as started:
        yield started


@pytest.fixture
def own_database(own_postgres: Postgres) -> Iterator[str]:
    name = f"alerts_{time.monotonic_ns()}"
    yield own_postgres.create_database(name)
    own_postgres.drop_database(name)


@dataclass
class Replica:
    """One process's relay; each opening is a new one on what is kept outside."""

    dsn: str
    spool: Path | None
    sinks: list[RecordingSink] = field(
        default_factory=lambda: [RecordingSink("nats"), RecordingSink("events")]
    )
    tally: NotifyTally = field(default_factory=NotifyTally)

    @asynccontextmanager
    async def running(
        self, *, drain: float = 3.0, prepared: bool = True
    ) -> AsyncIterator[tuple[Relay, dict[Any, tuple[Alert, ...]]]]:
        async with opened_store(self.dsn, prepared=prepared) as store:
            relay = Relay(
                database=store.alerts,
                file=AlertFile(self.spool) if self.spool else None,
                sinks=self.sinks,
                meter=self.tally,
            )
            await relay.open()
            try:
                yield relay, await relay.load()
            finally:
                await relay.close(drain=drain)

    async def hear(self, *alerts: Alert) -> None:
        """Wait until each sink was told exactly that."""
        expected = sorted(told(alert) for alert in alerts)
        await eventually(lambda: all(sorted(s.told) == expected for s in self.sinks))


@pytest.fixture
def replica(database: str, tmp_path: Path) -> Replica:
    return Replica(database, tmp_path / "spool")


@pytest.fixture
def own_replica(own_database: str, tmp_path: Path) -> Replica:
    return Replica(own_database, tmp_path / "spool")


def fire(relay: Relay, *alerts: Alert) -> None:
    for alert in alerts:
        relay.record(alert.server, (alert,), (Notification(alert),))


def resolve(relay: Relay, alert: Alert) -> None:
    relay.record(alert.server, (), (Notification(alert),))


@pytest.mark.parametrize("keeps", ["both", "database", "file"])
async def test_a_restart_neither_repeats_nor_forgets(replica, tmp_path, keeps):
    if keeps == "database":
        replica.spool = None
    waits, alert = pending(2), seen(firing(), after(30), value=91.5)
    async with replica.running() as (relay, loaded):
        assert loaded == {}
        fire(relay, firing())
        relay.record(waits.server, (waits,), ())
        relay.record(WEB, (alert,), ())
        await replica.hear(firing())
    if keeps == "file":
        # Another database, of which nothing is known: the file brings it all.
        execute(replica.dsn, "DELETE FROM hostwatch.alerts")
        execute(replica.dsn, "DELETE FROM hostwatch.notifications")
    for _ in range(2):
        async with replica.running() as (_, loaded):
            assert loaded == {WEB.id: (alert,), waits.server.id: (waits,)}
    end = resolved(alert, after(60))
    async with replica.running() as (relay, _):
        resolve(relay, end)
    await replica.hear(firing(), end)
    async with replica.running() as (_, loaded):
        assert loaded == {waits.server.id: (waits,)}
    await replica.hear(firing(), end)
    assert replica.tally.failures == {}


async def test_while_the_database_is_away_alerts_are_told_and_written_later(
    own_replica, own_postgres
):
    first, second = firing(1), firing(2)
    end = resolved(first, after(60))
    async with own_replica.running() as (relay, _):
        fire(relay, first)
        await own_replica.hear(first)
        own_postgres.stop()
        try:
            fire(relay, second)
            resolve(relay, end)
            await own_replica.hear(first, second, end)
        finally:
            own_postgres.start()
        await eventually(lambda: rows(own_replica.dsn, WAITING) == [(0,)])
        await eventually(lambda: len(rows(own_replica.dsn, DELIVERED)) == 6)
    assert rows(own_replica.dsn, STATES) == [("firing", 1), ("resolved", 2)]
    assert set(rows(own_replica.dsn, DELIVERED)) == {
        (*told(alert), sink)
        for alert in (first, second, end)
        for sink in ("nats", "events")
    }


async def test_the_file_alone_carries_over_a_restart(own_replica, own_postgres):
    first, second = firing(1), firing(2)
    end = resolved(first, after(60))
    nats, events = own_replica.sinks
    async with own_replica.running() as (relay, _):
        fire(relay, first)
        await own_replica.hear(first)
    own_postgres.stop()
    try:
        async with own_replica.running(prepared=False) as (relay, loaded):
            assert loaded == {first.server.id: (first,)}
            nats.down = True
            fire(relay, second)
            resolve(relay, end)
            await eventually(
                lambda: events.told == list(map(told, (first, second, end)))
            )
        nats.down = False
        async with own_replica.running(prepared=False) as (_, loaded):
            assert loaded == {second.server.id: (second,)}
            await own_replica.hear(first, second, end)
    finally:
        own_postgres.start()
    async with own_replica.running() as (_, loaded):
        assert loaded == {second.server.id: (second,)}
    await own_replica.hear(first, second, end)
    assert rows(own_replica.dsn, STATES) == [("firing", 1), ("resolved", 2)]
    assert len(rows(own_replica.dsn, DELIVERED)) == 6


async def test_a_database_that_comes_back_brings_what_the_file_lacks(
    own_replica, own_postgres, tmp_path
):
    alert = firing()
    nats, events = own_replica.sinks
    events.down = True
    async with own_replica.running() as (relay, _):
        fire(relay, alert)
        await eventually(lambda: nats.told == [told(alert)])
    events.down = False
    own_replica.spool = tmp_path / "another"
    own_postgres.stop()
    late: list[Any] = []
    async with opened_store(own_replica.dsn, prepared=False) as store:
        relay = Relay(
            database=store.alerts,
            file=AlertFile(own_replica.spool),
            sinks=own_replica.sinks,
            meter=own_replica.tally,
        )
        await relay.open()
        try:
            assert await relay.load(late.append) == {}
        finally:
            own_postgres.start()
        await eventually(lambda: late)
        await own_replica.hear(alert)
        await relay.close()
    assert late == [{WEB.id: (alert,)}]
    assert rows(own_replica.dsn, WAITING) == [(0,)]


async def test_a_successor_that_knew_nothing_ends_what_was_told_before(
    own_replica, own_postgres, tmp_path
):
    old, anew = firing(), firing(1, after(60))
    nats, events = own_replica.sinks
    async with own_replica.running() as (relay, _):
        fire(relay, old)
        await own_replica.hear(old)
    own_replica.spool = tmp_path / "another"
    own_postgres.stop()
    async with own_replica.running(prepared=False) as (relay, loaded):
        try:
            assert loaded == {}
            fire(relay, anew)
            await own_replica.hear(old, anew)
        finally:
            own_postgres.start()
        await own_replica.hear(old, anew, resolved(old, after(90)))
        await eventually(lambda: len(rows(own_replica.dsn, DELIVERED)) == 6)
    assert nats.told == events.told == [told(old), told(anew), (old.id, 2)]
    assert rows(own_replica.dsn, STATES) == [("firing", 1), ("resolved", 2)]


async def test_dying_between_telling_and_marking_repeats_under_the_same_number(
    replica,
):
    nats, events = replica.sinks
    alert = firing()
    events.confirms.clear()
    async with replica.running(drain=0) as (relay, _):
        fire(relay, alert)
        await eventually(lambda: events.told and rows(replica.dsn, WAITING) == [(1,)])
    events.confirms.set()
    for _ in range(2):
        async with replica.running() as (_, loaded):
            assert loaded == {WEB.id: (alert,)}
            await eventually(lambda: len(events.told) == 2)
    assert nats.told == [told(alert)]
    assert events.told == [told(alert)] * 2
    assert [n.alert for n in events.notifications] == [alert] * 2


async def test_one_sink_that_fails_for_a_while_gets_all_in_order(replica):
    nats, events = replica.sinks
    nats.down = True
    alert = firing()
    end = resolved(alert, after(60))
    async with replica.running() as (relay, _):
        fire(relay, alert)
        resolve(relay, end)
        await eventually(lambda: events.told == [told(alert), told(end)])
        await eventually(lambda: rows(replica.dsn, WAITING) == [(2,)])
        assert nats.told == []
        nats.down = False
        await eventually(lambda: nats.told == events.told)
    assert len(rows(replica.dsn, DELIVERED)) == 4


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b'{"version":1,"servers":['])
async def test_a_damaged_file_costs_nothing_while_the_database_is_there(
    replica, damage
):
    async with replica.running() as (relay, _):
        fire(relay, firing())
    (replica.spool / "alerts.json").write_bytes(damage)
    async with replica.running() as (relay, loaded):
        assert loaded == {WEB.id: (firing(),)}
        fire(relay, firing(2))
    await replica.hear(firing(), firing(2))
    names = {path.name for path in replica.spool.iterdir()}
    assert names == {"alerts.json", "alerts.json.bad"}


async def test_a_disk_that_takes_nothing_costs_nothing_either(replica, tmp_path):
    # For root no directory is read-only: a file in its place refuses all the same.
    replica.spool = tmp_path / "file" / "spool"
    (tmp_path / "file").write_text("")
    async with replica.running() as (relay, _):
        fire(relay, firing())
        await replica.hear(firing())
    assert replica.tally.file_failures >= 1
    async with replica.running() as (_, loaded):
        assert loaded == {WEB.id: (firing(),)}
    await replica.hear(firing())


async def test_an_old_file_of_a_replica_that_led_before_changes_nothing(
    replica, tmp_path
):
    alert, waits = firing(), pending(2)
    async with replica.running(drain=0) as (relay, _):
        for sink in replica.sinks:
            sink.answers.clear()
        fire(relay, alert)
        relay.record(waits.server, (waits,), ())
        await eventually(lambda: rows(replica.dsn, WAITING) == [(2,)])
        await eventually(lambda: len(rows(replica.dsn, STATES)) == 2)
    for sink in replica.sinks:
        sink.answers.set()
    other = Replica(replica.dsn, tmp_path / "other", replica.sinks)
    end, new = resolved(alert, after(60)), firing(2, after(60))
    async with other.running() as (relay, loaded):
        assert loaded == {WEB.id: (alert,), waits.server.id: (waits,)}
        await replica.hear(alert)
        resolve(relay, end)
        fire(relay, new)
    await replica.hear(alert, end, new)
    async with replica.running() as (_, loaded):
        assert loaded == {new.server.id: (new,)}
    await replica.hear(alert, end, new)


async def test_a_thousand_at_once_are_all_told_and_kept(replica):
    alerts = [firing(n) for n in range(1000)]
    async with replica.running(drain=20) as (relay, _):
        fire(relay, *alerts)
    await replica.hear(*alerts)
    assert rows(replica.dsn, WAITING) == [(0,)]
    assert len(rows(replica.dsn, DELIVERED)) == 2000
    async with replica.running() as (_, loaded):
        assert len(loaded) == 1000


async def test_a_term_that_was_lost_stops_at_once_and_the_next_goes_on(replica):
    nats, events = replica.sinks
    nats.down = events.down = True
    async with replica.running(drain=0) as (relay, _):
        fire(relay, firing())
        await eventually(lambda: rows(replica.dsn, WAITING) == [(2,)])
        started = time.monotonic()
    assert time.monotonic() - started < 2
    nats.down = events.down = False
    async with replica.running():
        await replica.hear(firing())
