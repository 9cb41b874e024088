"""``hostwatch migrate``: the database's tables, brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hostwatch.cli.database import run

if TYPE_CHECKING:
    from hostwatch.settings import PostgresSettings


def migrate() -> None:
    """Bring the database's tables up to date, and print what was applied.

    HOSTWATCH_POSTGRES_DSN is needed; HOSTWATCH_POSTGRES_MAINTENANCE_DSN, where it is
    set, names the login to use instead. Exit codes: 0 it is up to date, 2 a bad
    setting, 3 a refused, absent or newer database.
    """
    run(_migrate)


async def _migrate(settings: PostgresSettings) -> None:
    from hostwatch.store import commands

    applied = await commands.migrate(settings)
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("up to date")
