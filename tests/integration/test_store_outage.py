from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.store.errors import DatabaseAwayError, DatabaseRefusedError
from hostwatch.store.store import Store
from hostwatch.telemetry.metrics import Metrics
from world.postgres import Postgres
from world.process import free_ports
from world.proxy import TcpProxy
from world.store import (
    CLUSTER,
    Tally,
    execute,
    link,
    opened_store,
    resource,
    rows,
    sample,
    server,
    settings,
)
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

_FROZEN_SECONDS = 13  # longer than a statement's deadline of 10
_FLUSH = 5

STORED = "SELECT server_id::text, collected_at FROM hostwatch.server_resource_metrics"


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory) -> Iterator[Postgres]:
    """Start a server that is ours to stop."""
    with Postgres(tmp_path_factory.mktemp("own-postgres")) as started:
        yield started


@pytest.fixture
def own_database(own_postgres: Postgres) -> Iterator[str]:
    name = f"outage_{time.monotonic_ns()}"
    yield own_postgres.create_database(name)
    own_postgres.drop_database(name)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    """Stop all of the server's processes: connections stay, nothing answers."""
    postmaster = psutil.Process(postgres.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


class Fleet:
    """Puts samples at a steady pace, and remembers them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pause = 0.01
        self.generated: set[tuple[str, datetime]] = set()

    async def put(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number in range(3):
                at = datetime.now(UTC)
                self._store.samples.put(sample(server(number), at))
                self.generated.add((server(number).id, at))
            await asyncio.sleep(self._pause)

    async def all_stored(self, tally: Tally) -> None:
        await eventually(
            lambda: tally.rows + tally.lost["duplicate"] >= len(self.generated)
        )


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
async def test_no_sample_is_lost_or_doubled_over_a_restart(
    own_postgres, own_database, tally, end
):
    with capture_logs() as logs:
        async with opened_store(own_database, meter=tally) as store:
            fleet = Fleet(store)
            await fleet.put(1)
            for _ in range(2):
                putting = asyncio.create_task(fleet.put(3))
                await asyncio.to_thread(end, own_postgres)
                await eventually(lambda: tally.outages[-1:] == [True])
                own_postgres.start()
                await putting
                await eventually(lambda: tally.outages[-1:] == [False])
            await fleet.all_stored(tally)
    stored = rows(own_database, STORED)
    assert set(stored) == fleet.generated
    assert len(stored) == len(fleet.generated)
    assert tally.outages == [False, *[True, False] * 2]
    away, back = "Database is away, rows wait", "Database is back"
    assert outages_told(logs) == [("samples", away), ("samples", back)] * 2


def outages_told(logs: list[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        (line["writer"], line["event"])
        for line in logs
        if line["event"].startswith("Database is")
    ]


async def test_a_frozen_server_makes_nobody_wait_and_loses_nothing(
    own_postgres, own_database, tally
):
    async with opened_store(own_database, meter=tally) as store:
        fleet = Fleet(store)
        await fleet.put(0.7)
        with frozen(own_postgres):
            longest = 0.0
            putting = asyncio.create_task(fleet.put(_FROZEN_SECONDS))
            while not putting.done():
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)
            # Nothing held the event loop, and the writer gave its statement up.
            assert longest < _FROZEN_SECONDS / 3
            assert tally.outages == [False, True]
        await fleet.all_stored(tally)
    stored = rows(own_database, STORED)
    assert set(stored) == fleet.generated
    assert len(stored) == len(fleet.generated)


async def test_a_statement_ends_at_its_deadline_on_a_frozen_server(
    own_postgres, own_database
):
    tried = link(own_database)

    async def select(connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SELECT 1")

    await tried.run(select, deadline=5)
    with frozen(own_postgres):
        started = time.monotonic()
        with pytest.raises(DatabaseAwayError):
            await tried.run(select, deadline=0.5)
        with pytest.raises(DatabaseAwayError):  # connects anew
            await tried.run(select, deadline=0.5)
        assert time.monotonic() - started < 10
    await tried.run(select, deadline=5)
    await tried.close()


async def test_pins_say_try_again_within_seconds_of_a_frozen_server(
    own_postgres, own_database
):
    async with opened_store(own_database) as store:
        assert await store.pins.find(server(1), "web-1", 22) is None
        with frozen(own_postgres):
            started = time.monotonic()
            with pytest.raises(TryAgainLaterError):
                await store.pins.find(server(1), "web-1", 22)
            assert time.monotonic() - started < 10
        await eventually_finds(store)


async def eventually_finds(store: Store) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.pins.find(server(1), "web-1", 22)
            except TryAgainLaterError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_black_hole_in_the_network_is_survived(database, tally):
    at = psycopg.conninfo.conninfo_to_dict(database)
    async with TcpProxy(str(at["host"]), int(str(at["port"]))) as proxy:
        through = make_conninfo(database, host=proxy.host, port=proxy.port)
        async with opened_store(through, meter=tally) as store:
            fleet = Fleet(store)
            await fleet.put(0.7)
            proxy.pause()
            await fleet.put(0.2)
            await eventually(lambda: tally.outages == [False, True])
            await proxy.cut()
            await proxy.resume()
            await fleet.all_stored(tally)
    stored = rows(database, STORED)
    assert set(stored) == fleet.generated
    assert len(stored) == len(fleet.generated)


async def test_idle_connections_that_were_cut_are_replaced_unnoticed(database, tally):
    at = psycopg.conninfo.conninfo_to_dict(database)
    async with TcpProxy(str(at["host"]), int(str(at["port"]))) as proxy:
        through = make_conninfo(database, host=proxy.host, port=proxy.port)
        async with opened_store(through, meter=tally) as store:
            await store.pins.find(server(1), "web-1", 22)
            await proxy.cut()
            assert await store.pins.find(server(1), "web-1", 22) is None
            store.samples.put(sample(server(1), datetime.now(UTC)))
            await eventually(lambda: tally.rows == 1)
    assert tally.outages == [False]


async def test_closing_writes_what_is_queued(database, tally):
    async with opened_store(database, meter=tally) as store:
        now = datetime.now(UTC)
        for number in range(1200):
            store.samples.put(sample(server(number), now))
    assert len(rows(database, STORED)) == 1200
    store.samples.put(sample(server(1), now))
    assert tally.lost == {"shutdown": 1}


async def test_closing_gives_up_after_seconds_and_counts_what_is_lost(
    own_postgres, own_database, tally
):
    async with opened_store(own_database, meter=tally) as store:
        with frozen(own_postgres):
            now = datetime.now(UTC)
            for number in range(700):
                store.samples.put(sample(server(number), now))
            started = time.monotonic()
            await store.close()
            assert time.monotonic() - started < 20
    assert tally.lost == {"shutdown": 700}


async def test_a_store_that_never_found_its_database_closes_at_once(tally):
    (port,) = free_ports(1)
    async with opened_store(
        f"host=127.0.0.1 port={port}", meter=tally, prepared=False
    ) as store:
        preparing = asyncio.create_task(store.prepare())
        store.samples.put(sample(server(1), datetime.now(UTC)))
        await eventually(lambda: tally.outages == [True])
        preparing.cancel()
        started = time.monotonic()
    # It does not wait for what no writer can do.
    assert time.monotonic() - started < _FLUSH
    assert tally.lost == {"shutdown": 1}


async def test_a_database_that_is_away_is_waited_for(own_postgres, own_database, tally):
    own_postgres.stop()
    async with opened_store(own_database, meter=tally, prepared=False) as store:
        preparing = asyncio.create_task(store.prepare())
        at = datetime.now(UTC)
        store.samples.put(sample(server(1), at))
        await eventually(lambda: tally.outages == [True])
        assert not preparing.done()
        own_postgres.start()
        await asyncio.wait_for(preparing, 30)
        await eventually(lambda: tally.rows == 1)
    assert tally.outages == [True, False]
    assert rows(own_database, STORED) == [(server(1).id, at)]


@pytest.fixture
def password_role(database: str) -> Iterator[str]:
    """Make a role that must give a password; the server trusts all others."""
    role = f"{rows(database, 'SELECT current_database()')[0][0]}_login"
    file = Path(rows(database, "SHOW hba_file")[0][0])
    rules = file.read_text()
    execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'right' SUPERUSER")
    file.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules}")
    execute(database, "SELECT pg_reload_conf()")
    yield role
    file.write_text(rules)
    execute(database, "SELECT pg_reload_conf()")
    execute(database, f"DROP OWNED BY {role} CASCADE")
    execute(database, f"DROP ROLE {role}")


async def refusal(dsn: str) -> str:
    store = Store(settings(dsn), cluster_id=CLUSTER, meter=Tally())
    with pytest.raises(DatabaseRefusedError) as refused:
        await asyncio.wait_for(store.prepare(), 10)
    await store.close()
    assert refused.value.setting == "HOSTWATCH_POSTGRES_DSN"
    assert refused.value.__cause__ is None
    return str(refused.value)


async def test_a_wrong_password_is_refused_and_not_shown(database, password_role):
    login = make_conninfo(database, user=password_role)
    assert await refusal(make_conninfo(login, password="guessed")) == (
        "HOSTWATCH_POSTGRES_DSN: the database refuses the login: "
        "check user, password, database name and pg_hba.conf"
    )
    assert "refuses the login" in await refusal(login)  # none given
    async with opened_store(make_conninfo(login, password="right")):
        pass


@pytest.mark.parametrize(
    "wrong", [{"dbname": "no_such_database"}, {"user": "no_such_role"}]
)
async def test_a_wrong_name_is_refused(database, wrong):
    assert "refuses the login" in await refusal(make_conninfo(database, **wrong))


async def test_what_is_no_connection_string_is_refused_and_not_shown():
    message = await refusal("postgresql//hostwatch:secret@db/hostwatch")
    assert message == "HOSTWATCH_POSTGRES_DSN: is not a libpq connection string"


async def test_a_schema_that_is_lost_while_running_is_an_outage(database, tally):
    async with opened_store(database, meter=tally) as store:
        table = "hostwatch.server_resource_metrics"
        execute(database, f"ALTER TABLE {table} RENAME TO lost")
        store.samples.put(sample(server(1), datetime.now(UTC)))
        await eventually(lambda: tally.outages == [False, True])
        execute(
            database,
            "ALTER TABLE hostwatch.lost RENAME TO server_resource_metrics",
        )
        await eventually(lambda: tally.rows == 1)
    assert tally.outages == [False, True, False]


async def test_servers_that_cannot_be_written_are_no_outage_of_the_samples(
    database, tally
):
    with capture_logs() as logs:
        async with opened_store(database, meter=tally) as store:
            execute(database, "ALTER TABLE hostwatch.servers RENAME labels TO lost")
            store.roster.seen(server(1), resource(1))
            away = ("servers", "Database is away, rows wait")
            await eventually(lambda: away in outages_told(logs))
            for number in range(3):
                store.samples.put(sample(server(number), datetime.now(UTC)))
                await eventually(lambda n=number: tally.rows > n)
            assert outages_told(logs) == [away]
            execute(database, "ALTER TABLE hostwatch.servers RENAME lost TO labels")
            back = ("servers", "Database is back")
            await eventually(lambda: outages_told(logs) == [away, back])
    assert tally.outages == [False]


async def test_the_metrics_tell_whether_the_database_takes_samples(
    own_postgres, own_database
):
    metrics = Metrics(version="1")

    def shown(series: str) -> float:
        (line,) = re.findall(rf"^{series} (.+)$", page(metrics), re.MULTILINE)
        return float(line)

    assert shown("hostwatch_postgres_up") == 0
    async with opened_store(own_database, meter=metrics.store) as store:
        assert shown("hostwatch_postgres_up") == 1
        own_postgres.stop()
        for number in range(3):
            store.samples.put(sample(server(number), datetime.now(UTC)))
        assert shown("hostwatch_postgres_rows_queued") == 3
        await eventually(lambda: shown("hostwatch_postgres_up") == 0)
        # On their way, and not forgotten.
        assert shown("hostwatch_postgres_rows_queued") == 3
        store.samples.put(sample(server(4), datetime.now(UTC)))
        assert shown("hostwatch_postgres_rows_queued") == 4
        own_postgres.start()
        await eventually(lambda: shown("hostwatch_postgres_rows_queued") == 0)
        assert shown("hostwatch_postgres_up") == 1
        assert shown("hostwatch_postgres_rows_written_total") == 4


def page(metrics: Metrics) -> str:
    return metrics.render()[0].decode()


async def test_a_lock_that_stays_ends_the_statement_on_the_server_too(database, tally):
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    async with opened_store(database, meter=tally) as store:
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute("LOCK TABLE hostwatch.servers IN EXCLUSIVE MODE")
            at = datetime.now(UTC)
            store.samples.put(sample(server(1), at))
            await eventually(lambda: rows(database, waiting))
            await eventually(lambda: tally.outages == [False, True])
            # 57014: ended by its own limit, before the connection was given up.
            assert store._rows._connection is not None
        await eventually(lambda: tally.rows == 1)
    assert rows(database, STORED) == [(server(1).id, at)]
