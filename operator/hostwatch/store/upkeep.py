"""The daily upkeep: partitions for the days to come, none for those long gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from hostwatch.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.store.link import Link
    from hostwatch.store.meter import StoreMeter
    from hostwatch.store.partitions import Partitions

_RETRY = timedelta(hours=1)
_AT = timedelta(minutes=30)
"""After midnight UTC."""


class Upkeep:
    """Runs at the start, then every day at 00:30 UTC, hourly after a failure."""

    def __init__(
        self,
        partitions: Partitions,
        *,
        link: Link,
        meter: StoreMeter,
        clock: Callable[[], datetime],
    ) -> None:
        self._partitions = partitions
        self._link = link
        self._meter = meter
        self._clock = clock
        self._log = structlog.get_logger(component="store")

    async def run(self) -> None:
        """Keep up for ever."""
        while True:
            succeeded = await self._try()
            await self._link.close()
            now = self._clock()
            pause = next_run(now, succeeded=succeeded) - now
            await asyncio.sleep(pause.total_seconds())

    async def maintain(self, now: datetime) -> None:
        """Make the partitions ahead, then drop the old ones; raises a `StoreError`."""
        made = await self._partitions.make_ahead(now)
        if made:
            self._log.info("Partitions are made", partitions=made)
        try:
            self._note_pruned(await self._partitions.prune(now))
        except StoreError as error:
            self._note_pruned(error.dropped)
            raise

    async def _try(self) -> bool:
        succeeded = True
        try:
            await self.maintain(self._clock())
        except StoreError as error:
            succeeded = False
            self._log.warning(
                "Upkeep of the partitions failed, again in an hour", error=str(error)
            )
        self._meter.maintained(succeeded=succeeded)
        return succeeded

    def _note_pruned(self, names: list[str] | tuple[str, ...]) -> None:
        if names:
            self._log.info("Old partitions are dropped", partitions=list(names))
            self._meter.pruned(names)


def next_run(now: datetime, *, succeeded: bool) -> datetime:
    """Return the next 00:30 UTC after ``now``, or in an hour if that is sooner."""
    utc = now.astimezone(UTC)
    today = utc.replace(hour=0, minute=0, second=0, microsecond=0) + _AT
    daily = today if today > utc else today + timedelta(days=1)
    return daily if succeeded else min(daily, utc + _RETRY)
