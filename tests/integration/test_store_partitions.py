from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from hostwatch.store.commands import migrate, prune
from hostwatch.store.errors import DatabaseAwayError, DatabaseBusyError
from hostwatch.store.partitions import Partitions
from hostwatch.store.upkeep import Upkeep
from world.store import Clock, Tally, execute, link, opened_store, rows, settings
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.store.link import Link

TABLE = "server_resource_metrics"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OLD = date(2026, 10, 24)  # its last moment is 30.5 days before NOW
OLD_NAME = f"{TABLE}_20261024"

COUNT = "SELECT count(*) FROM hostwatch.server_resource_metrics"
READ_OLD = f"TABLE hostwatch.{OLD_NAME}"
ATTACHED = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'hostwatch.server_resource_metrics'::regclass ORDER BY 1
"""
TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'hostwatch'::regnamespace AND relkind = 'r'
    AND relname LIKE 'server\\_resource\\_metrics\\_%' ORDER BY 1
"""
CUT_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
INSERT = """
INSERT INTO hostwatch.server_resource_metrics
    (server_id, organization, collected_at, status)
VALUES ('00000000-0000-0000-0000-000000000001', 'acme', %s, 'healthy')
"""


def attached(dsn: str) -> list[str]:
    return [name for name, _ in rows(dsn, ATTACHED)]


def tables(dsn: str) -> list[str]:
    return [name for (name,) in rows(dsn, TABLES)]


@pytest.fixture
async def dsn(database: str) -> str:
    await migrate(settings(database))
    return database


@pytest.fixture
async def maintenance(dsn: str) -> AsyncIterator[Link]:
    made = link(dsn)
    yield made
    await made.close()


@pytest.fixture
def partitions(maintenance: Link) -> Partitions:
    return Partitions(maintenance, retention=timedelta(days=30), lock_timeout=0.2)


@asynccontextmanager
async def reader(dsn: str, query: str = COUNT) -> AsyncIterator[None]:
    """Hold a transaction open that has read: the whole table, if nothing else."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(query.encode())
        yield


async def leave_pending(dsn: str) -> None:
    """Interrupt a detaching half-way, as a lock timeout or a crash does."""
    async with (
        reader(dsn),
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other,
    ):
        await other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await other.execute(
                f"ALTER TABLE hostwatch.{TABLE} DETACH PARTITION"
                f" hostwatch.{OLD_NAME} CONCURRENTLY".encode()
            )


async def test_days_are_made_from_two_days_ago_to_seven_ahead(dsn, partitions):
    made = await partitions.make_ahead(NOW)
    assert made == [
        f"{TABLE}_202611{day}"
        for day in ("22", "23", "24", "25", "26", "27", "28", "29", "30")
    ] + [f"{TABLE}_20261201"]
    assert attached(dsn) == made
    assert rows(f"{dsn} options='-c timezone=UTC'", ATTACHED)[2] == (
        f"{TABLE}_20261124",
        "FOR VALUES FROM ('2026-11-24 00:00:00+00') TO ('2026-11-25 00:00:00+00')",
    )


async def test_made_again_nothing_is_new(dsn, partitions):
    await partitions.make_ahead(NOW)
    assert await partitions.make_ahead(NOW) == []
    assert await partitions.make_ahead(NOW + timedelta(days=1)) == [f"{TABLE}_20261202"]


async def test_two_that_make_days_at_once_do_not_collide(dsn, partitions):
    other = link(dsn)
    made = await asyncio.gather(
        partitions.make_ahead(NOW),
        Partitions(other, retention=timedelta(days=30)).make_ahead(NOW),
    )
    await other.close()
    assert sorted(len(names) for names in made) == [0, 10]


async def test_days_are_counted_in_utc(dsn, partitions):
    east = datetime(2026, 11, 25, 1, tzinfo=UTC).astimezone(
        tz=datetime.strptime("+0900", "%z").tzinfo
    )
    assert f"{TABLE}_20261202" in await partitions.make_ahead(east)
    assert attached(dsn)[0] == f"{TABLE}_20261123"


async def test_a_partition_has_the_key_and_the_checks_of_its_table(dsn, partitions):
    await partitions.make([NOW.date()])
    execute(dsn, INSERT, NOW)
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(dsn, INSERT, NOW)
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(dsn, INSERT.replace("healthy", "splendid"), NOW)


async def test_days_are_made_behind_a_reader_that_stays(dsn, partitions):
    async with reader(dsn):
        assert len(await partitions.make_ahead(NOW)) == 10


async def test_a_table_that_stands_loose_is_attached_again(dsn, partitions):
    (name,) = await partitions.make([NOW.date()])
    execute(dsn, INSERT, NOW)
    execute(dsn, f"ALTER TABLE hostwatch.{TABLE} DETACH PARTITION hostwatch.{name}")
    assert await partitions.make([NOW.date()]) == [name]
    assert rows(dsn, COUNT) == [(1,)]


async def test_only_whole_days_older_than_the_retention_are_dropped(dsn, partitions):
    await partitions.make([date(2026, 10, day) for day in (22, 23, 24, 25)])
    assert await partitions.prune(datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)) == [
        f"{TABLE}_20261022",
        f"{TABLE}_20261023",
    ]
    # The 25th begins 30.5 days ago, but ends 29.5 days ago.
    assert await partitions.prune(NOW) == [f"{TABLE}_20261024"]
    assert tables(dsn) == attached(dsn) == [f"{TABLE}_20261025"]


async def test_pruned_again_nothing_is_dropped(partitions):
    await partitions.make([OLD])
    assert await partitions.prune(NOW) == [OLD_NAME]
    assert await partitions.prune(NOW) == []


async def test_tables_of_other_names_are_left_alone(dsn, partitions):
    others = [f"{TABLE}_00000000", f"{TABLE}_5m", f"{TABLE}_old_20200101"]
    for name in others:
        execute(dsn, f"CREATE TABLE hostwatch.{name} ()")
    assert await partitions.prune(NOW) == []
    assert tables(dsn) == others


async def test_a_reader_holds_up_the_prune_and_the_next_run_goes_on(dsn, partitions):
    await partitions.make([OLD, OLD + timedelta(days=30)])
    async with reader(dsn):
        with pytest.raises(DatabaseBusyError) as busy:
            await partitions.prune(NOW)
        # Who writes and reads other days is not disturbed meanwhile.
        execute(dsn, INSERT, NOW - timedelta(days=1))
    assert busy.value.dropped == ()
    assert await partitions.prune(NOW) == [OLD_NAME]
    assert attached(dsn) == [f"{TABLE}_20261123"]


async def test_a_prune_that_is_cut_off_tells_what_it_dropped_before(dsn, partitions):
    before = f"{TABLE}_20261023"
    await partitions.make([OLD - timedelta(days=1), OLD])
    other = link(dsn)
    patient = Partitions(other, retention=timedelta(days=30), lock_timeout=60)
    async with reader(dsn, READ_OLD):
        pruning = asyncio.create_task(patient.prune(NOW))
        await eventually(lambda: rows(dsn, CUT_WAITING))
        with pytest.raises(DatabaseAwayError) as cut:
            await pruning
    await other.close()
    assert cut.value.dropped == (before,)
    assert tables(dsn) == [OLD_NAME]


async def test_a_reader_that_leaves_in_time_holds_up_nothing(dsn, partitions):
    await partitions.make([OLD])
    async with reader(dsn):
        pruning = asyncio.create_task(partitions.prune(NOW))
        pending = "SELECT inhdetachpending FROM pg_inherits WHERE inhdetachpending"
        await eventually(lambda: rows(dsn, pending))
    assert await pruning == [OLD_NAME]


async def test_an_interrupted_detaching_is_completed_first(dsn, partitions):
    await partitions.make([OLD - timedelta(days=1), OLD])
    await leave_pending(dsn)
    assert await partitions.prune(NOW) == [f"{TABLE}_20261023", OLD_NAME]


async def test_what_was_detached_and_not_dropped_is_dropped(dsn, partitions):
    await partitions.make([OLD])
    execute(dsn, f"ALTER TABLE hostwatch.{TABLE} DETACH PARTITION hostwatch.{OLD_NAME}")
    assert await partitions.prune(NOW) == [OLD_NAME]
    assert tables(dsn) == []


async def test_two_that_prune_at_once_drop_everything_between_them(dsn, partitions):
    old = [OLD - timedelta(days=n) for n in range(6)]
    await partitions.make(old)
    other = link(dsn)
    rival = Partitions(other, retention=timedelta(days=30))
    await asyncio.gather(partitions.prune(NOW), rival.prune(NOW))
    await other.close()
    assert tables(dsn) == []


async def test_the_command_prunes_by_the_settings(dsn, partitions):
    await partitions.make([OLD])
    assert await prune(settings(dsn, retention_days=31), NOW) == []
    assert await prune(settings(dsn, retention_days=30), NOW) == [OLD_NAME]


async def test_the_upkeep_makes_and_prunes_and_counts(dsn, partitions, maintenance):
    await partitions.make([OLD])
    tally = Tally()
    upkeep = Upkeep(partitions, link=maintenance, meter=tally, clock=Clock(NOW))
    running = asyncio.create_task(upkeep.run())
    await eventually(lambda: tally.upkeeps)
    running.cancel()
    assert tally.upkeeps == [True]
    assert tally.dropped_partitions == [OLD_NAME]
    assert len(attached(dsn)) == 10


async def test_an_upkeep_that_is_cut_off_counts_what_it_dropped_before(
    dsn, partitions, maintenance
):
    await partitions.make([OLD - timedelta(days=1), OLD])
    tally = Tally()
    patient = Partitions(maintenance, retention=timedelta(days=30), lock_timeout=60)
    upkeep = Upkeep(patient, link=maintenance, meter=tally, clock=Clock(NOW))
    async with reader(dsn, READ_OLD):
        running = asyncio.create_task(upkeep.run())
        # Twice: a connection from before is made anew once.
        await eventually(lambda: rows(dsn, CUT_WAITING) == [] and tally.upkeeps)
    running.cancel()
    assert tally.upkeeps == [False]
    assert tally.dropped_partitions == [f"{TABLE}_20261023"]


async def test_the_store_keeps_up_only_while_it_is_told_to(dsn, partitions):
    tally = Tally()
    async with opened_store(dsn, meter=tally, clock=Clock(NOW)) as store:
        await partitions.make([OLD])
        execute(dsn, f"DROP TABLE hostwatch.{TABLE}_20261201")
        assert (tally.upkeeps, tally.dropped_partitions) == ([], [])
        keeping = asyncio.create_task(store.keep_up())
        await eventually(lambda: tally.upkeeps)
        assert tally.dropped_partitions == [OLD_NAME]
        assert tables(dsn) == attached(dsn)
        assert attached(dsn)[0] == f"{TABLE}_20261122"
        assert attached(dsn)[-1] == f"{TABLE}_20261201"
        keeping.cancel()
        await asyncio.wait({keeping})
        # Another term begins with another upkeep.
        await partitions.make([OLD])
        keeping = asyncio.create_task(store.keep_up())
        await eventually(lambda: len(tally.upkeeps) == 2)
        keeping.cancel()
    assert tally.upkeeps == [True, True]
    assert tally.dropped_partitions == [OLD_NAME] * 2


async def test_keeping_up_begins_once_the_store_is_prepared(database):
    tally = Tally()
    async with opened_store(
        database, meter=tally, clock=Clock(NOW), prepared=False
    ) as store:
        keeping = asyncio.create_task(store.keep_up())
        await store.prepare()
        await eventually(lambda: tally.upkeeps)
        keeping.cancel()
    assert tally.upkeeps == [True]


async def test_an_upkeep_that_a_reader_holds_up_counts_as_failed(
    dsn, partitions, maintenance
):
    await partitions.make([OLD])
    tally = Tally()
    upkeep = Upkeep(partitions, link=maintenance, meter=tally, clock=Clock(NOW))
    async with reader(dsn):
        running = asyncio.create_task(upkeep.run())
        await eventually(lambda: tally.upkeeps)
    running.cancel()
    assert tally.upkeeps == [False]
    assert len(attached(dsn)) == 11
