"""``hostwatch prune``: samples older than the retention, dropped by the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hostwatch.cli.database import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hostwatch.settings import PostgresSettings


def prune() -> None:
    """Drop the days of samples older than HOSTWATCH_RETENTION_DAYS, and print them.

    HOSTWATCH_POSTGRES_DSN is needed; HOSTWATCH_POSTGRES_MAINTENANCE_DSN, where it is
    set, names the login to use instead. Exit codes: 0 nothing old is left, 2 a bad
    setting, 3 a refused or absent database, or a reader in the way: the next run goes
    on from there.
    """
    run(_prune)


async def _prune(settings: PostgresSettings) -> None:
    from datetime import UTC, datetime

    from hostwatch.store import commands
    from hostwatch.store.errors import StoreError

    try:
        dropped = await commands.prune(settings, datetime.now(UTC))
    except StoreError as error:
        _tell(error.dropped)
        raise
    _tell(dropped)
    if not dropped:
        typer.echo("nothing to drop")


def _tell(dropped: Iterable[str]) -> None:
    for name in dropped:
        typer.echo(f"dropped {name}")
