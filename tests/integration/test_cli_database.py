"""``hostwatch migrate`` and ``hostwatch prune`` against a real database."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from hostwatch.store.partitions import Partitions
from hostwatch.store.schema import known_migrations
from world.command import Ended, hostwatch
from world.process import free_ports
from world.store import execute, link, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world.postgres import Postgres

TABLE = "server_resource_metrics"
APPLIED = [f"applied {m.version:04}_{m.name}" for m in known_migrations()]
TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'hostwatch'::regnamespace AND relkind = 'r'
    AND relname LIKE 'server\\_resource\\_metrics\\_%' ORDER BY 1
"""


def run(command: str, dsn: str, **environment: str) -> Ended:
    return hostwatch(command, HOSTWATCH_POSTGRES_DSN=dsn, **environment)


def make_day(dsn: str, days_ago: int) -> str:
    """Make the partition of a day and return its name."""

    async def make() -> list[str]:
        maintenance = link(dsn)
        partitions = Partitions(maintenance, retention=timedelta(days=30))
        day = datetime.now(UTC).date() - timedelta(days=days_ago)
        made = await partitions.make([day])
        await maintenance.close()
        return made

    (name,) = asyncio.run(make())
    return name


@contextmanager
def reader(dsn: str) -> Iterator[None]:
    """Hold a transaction open that has read the whole table."""
    with psycopg.connect(dsn) as connection:
        connection.execute(b"SELECT count(*) FROM hostwatch.server_resource_metrics")
        yield


def test_migrate_prints_what_it_applied_and_then_that_nothing_is_left(database):
    first, second = run("migrate", database), run("migrate", database)

    assert (first.code, first.out) == (0, APPLIED)
    assert (second.code, second.out, second.err) == (0, ["up to date"], [])


def test_migrate_uses_the_maintenance_login_where_there_is_one(database):
    nowhere = make_conninfo(database, port=free_ports(1)[0])
    done = run("migrate", nowhere, HOSTWATCH_POSTGRES_MAINTENANCE_DSN=database)

    assert (done.code, done.out) == (0, APPLIED)


def test_migrate_refuses_a_database_of_a_newer_version(database):
    run("migrate", database)
    execute(
        database,
        "INSERT INTO hostwatch.migrations (version, name, checksum)"
        " VALUES (9999, 'later', 'x')",
    )
    done = run("migrate", database)

    assert (done.code, done.out) == (3, [])
    (line,) = done.err
    assert line.startswith("error: the database has schema 9999, this version knows")
    assert line.endswith("run a newer version of hostwatch")


def test_a_refused_login_names_the_setting_and_no_password(database):
    stranger = make_conninfo(database, user="stranger", password="s3cret")
    for command in ("migrate", "prune"):
        done = run(command, stranger)

        assert (done.code, done.out) == (3, [])
        (line,) = done.err
        assert line.startswith("error: HOSTWATCH_POSTGRES_DSN: the database refuses")
        assert "s3cret" not in line


def test_a_database_that_is_away_is_told(postgres: Postgres):
    nowhere = make_conninfo(postgres.dsn(), port=free_ports(1)[0])
    for command in ("migrate", "prune"):
        done = run(command, nowhere)

        assert (done.code, done.out) == (3, [])
        assert done.err == ["error: the database does not answer"]


def test_prune_drops_what_is_older_than_the_retention_and_prints_it(database):
    run("migrate", database)
    old, kept = make_day(database, 32), make_day(database, 3)
    first, second = run("prune", database), run("prune", database)

    assert (first.code, first.out, first.err) == (0, [f"dropped {old}"], [])
    assert (second.code, second.out) == (0, ["nothing to drop"])
    assert rows(database, TABLES) == [(kept,)]


def test_prune_follows_the_retention_of_the_environment(database):
    run("migrate", database)
    day = make_day(database, 3)
    done = run("prune", database, HOSTWATCH_RETENTION_DAYS="1")

    assert (done.code, done.out) == (0, [f"dropped {day}"])


def test_prune_that_meets_a_reader_says_so_and_goes_on_the_next_time(database):
    run("migrate", database)
    older, old = make_day(database, 40), make_day(database, 35)
    with reader(database):
        held = run("prune", database)
    done = run("prune", database)

    assert held.code == 3
    (line,) = held.err
    assert f"a transaction keeps an old partition of {TABLE} in use" in line
    assert (done.code, held.out + done.out) == (
        0,
        [f"dropped {older}", f"dropped {old}"],
    )


def test_prune_without_tables_drops_nothing_and_fails(database):
    done = run("prune", database)

    assert (done.code, done.out, len(done.err)) == (3, [], 1)
