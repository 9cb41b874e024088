from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from hostwatch.store.commands import migrate
from hostwatch.store.errors import (
    DatabaseAwayError,
    DatabaseRefusedError,
    SchemaError,
    SchemaTooNewError,
)
from hostwatch.store.schema import Migration, Schema, known_migrations
from world.process import free_ports
from world.store import execute, link, rows, settings
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from world.postgres import Postgres

ALL = [f"{m.version:04}_{m.name}" for m in known_migrations()]

APPLIED = "SELECT version, name, checksum FROM hostwatch.migrations ORDER BY version"
COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'hostwatch' AND table_name = %s
"""


@pytest.fixture
async def schema(database: str) -> AsyncIterator[Callable[..., Schema]]:
    links = []

    def make(migrations: Sequence[Migration] | None = None) -> Schema:
        links.append(link(database))
        return Schema(links[-1], migrations=migrations)

    yield make
    for each in links:
        await each.close()


async def test_an_empty_database_gets_every_table(database):
    assert await migrate(settings(database)) == ALL
    assert rows(database, APPLIED) == [
        (m.version, m.name, m.checksum) for m in known_migrations()
    ]
    assert dict(rows(database, COLUMNS, "server_resource_metrics")) == {
        "server_id": "uuid",
        "organization": "text",
        "collected_at": "timestamp with time zone",
        "status": "text",
        "reason": "text",
        "cpu_usage": "real",
        "cpu_user": "real",
        "cpu_system": "real",
        "cpu_iowait": "real",
        "cpu_steal": "real",
        "memory_usage": "bigint",
        "memory_total": "bigint",
        "disk_usage": "bigint",
        "disk_available": "bigint",
        "disk_total": "bigint",
        "disk_mount": "text",
        "network_rx_bytes": "bigint",
        "network_tx_bytes": "bigint",
        "load_1": "real",
        "load_5": "real",
        "load_15": "real",
        "uptime_seconds": "bigint",
        "filesystems": "jsonb",
        "interfaces": "jsonb",
    }


async def test_a_second_run_applies_nothing(database):
    await migrate(settings(database))
    assert await migrate(settings(database)) == []


async def test_only_what_is_missing_is_applied(database, schema):
    first = known_migrations()
    more = Migration(len(first) + 1, "more", b"CREATE TABLE hostwatch.more ()")
    await schema(first).migrate()
    assert await schema([*first, more]).migrate() == [f"{more.version:04}_more"]


async def test_of_four_that_migrate_at_once_each_file_is_applied_by_one(schema):
    applied = await asyncio.gather(*(schema().migrate() for _ in range(4)))
    assert [name for names in applied for name in names] == ALL


async def test_migrating_waits_for_another_that_is_at_it(database, schema):
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT pg_advisory_xact_lock(7525360697158496355)")
        waiting = asyncio.create_task(schema().migrate())
        tried = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND query = 'COMMIT'"
        )
        await eventually(lambda: rows(database, tried))
        assert not waiting.done()
        await other.rollback()
        assert await waiting == ALL


async def test_a_changed_file_is_refused(database, schema):
    await migrate(settings(database))
    first, *others = known_migrations()
    changed = replace(first, sql=first.sql + b"\n-- mended")
    with pytest.raises(SchemaError, match=f"{ALL[0]} was changed after"):
        await schema([changed, *others]).migrate()


async def test_a_newer_schema_is_refused(database):
    await migrate(settings(database))
    execute(database, "INSERT INTO hostwatch.migrations VALUES (9001, 'x', 'y')")
    with pytest.raises(SchemaTooNewError) as refused:
        await migrate(settings(database))
    assert (refused.value.found, refused.value.known) == (9001, len(ALL))


async def test_a_migration_that_was_never_known_is_refused(database):
    await migrate(settings(database))
    execute(database, "INSERT INTO hostwatch.migrations VALUES (0, 'x', 'y')")
    with pytest.raises(SchemaError, match="unknown migration 0000"):
        await migrate(settings(database))


@pytest.mark.parametrize("last", [b"SELECT nonsense", b"SELECT 1/0"])
async def test_a_file_that_fails_leaves_nothing_behind(database, schema, last):
    broken = Migration(1, "broken", b"CREATE TABLE hostwatch.half (); " + last)
    with pytest.raises(SchemaError):
        await schema([broken]).migrate()
    assert rows(database, "SELECT to_regnamespace('hostwatch')") == [(None,)]


async def test_a_role_that_may_not_create_is_refused(database, postgres: Postgres):
    name = rows(database, "SELECT current_database()")[0][0]
    role = f"{name}_weak"
    execute(database, f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(
            DatabaseRefusedError, match=r"HOSTWATCH_POSTGRES_DSN.*42501"
        ):
            await migrate(settings(postgres.dsn(name, user=role)))
    finally:
        execute(database, f"DROP ROLE {role}")


async def test_the_maintenance_string_is_the_one_that_migrates(database):
    (port,) = free_ports(1)
    away = f"host=127.0.0.1 port={port}"
    assert await migrate(settings(away, postgres_maintenance_dsn=database)) == ALL
    with pytest.raises(DatabaseAwayError):
        await migrate(settings(database, postgres_maintenance_dsn=away))


async def test_a_refusal_names_the_maintenance_setting_where_it_is_set(
    database, postgres: Postgres
):
    wrong = postgres.dsn("no_such_database")
    with pytest.raises(
        DatabaseRefusedError, match=r"^HOSTWATCH_POSTGRES_MAINTENANCE_DSN: "
    ):
        await migrate(settings(database, postgres_maintenance_dsn=wrong))
