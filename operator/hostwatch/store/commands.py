"""One-off runs for the command line; they raise a `StoreError` and wait for nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hostwatch.store.partitions import Partitions
from hostwatch.store.schema import Schema
from hostwatch.store.store import maintenance_link

if TYPE_CHECKING:
    from datetime import datetime

    from hostwatch.settings import PostgresSettings


async def migrate(settings: PostgresSettings) -> list[str]:
    """Bring the schema up to date; return the names of the migrations applied."""
    link = maintenance_link(settings)
    try:
        return await Schema(link).migrate()
    finally:
        await link.close()


async def prune(settings: PostgresSettings, now: datetime) -> list[str]:
    """Drop the partitions older than the retention; return their names.

    Raises `DatabaseBusyError` where a reader is in the way; every error carries what
    was dropped before.
    """
    link = maintenance_link(settings)
    retention = timedelta(days=settings.retention_days)
    try:
        return await Partitions(link, retention=retention).prune(now)
    finally:
        await link.close()
