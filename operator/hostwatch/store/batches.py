"""Bringing rows to the database whatever happens: retry, and halve what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from hostwatch.store.backoff import Backoff
from hostwatch.store.errors import BadRowsError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hostwatch.store.meter import StoreMeter

_T = TypeVar("_T")


class Outage:
    """Tells once that the database is away for a writer, and once that it is back.

    ``meter`` hears of every failure and every success.
    """

    def __init__(self, writer: str, meter: StoreMeter) -> None:
        self._meter = meter
        self._log = structlog.get_logger(component="store", writer=writer)
        self._since: StoreError | None = None

    def goes_on(self, error: StoreError) -> None:
        """Note that it failed just now."""
        if self._since is None:
            self._log.warning("Database is away, rows wait", error=str(error))
        self._meter.away(True)  # noqa: FBT003 - the value of a gauge
        self._since = error

    def is_over(self) -> None:
        """Note that it worked just now."""
        if self._since is not None:
            self._log.info("Database is back")
        self._meter.away(False)  # noqa: FBT003 - the value of a gauge
        self._since = None


class Delivery(Generic[_T]):
    """Delivers one batch after the other by ``insert``, each as often as it takes.

    A batch with a bad row is halved until the row stands alone.
    """

    def __init__(
        self,
        insert: Callable[[Sequence[_T]], Awaitable[None]],
        *,
        outage: Outage,
        backoff: Backoff | None = None,
    ) -> None:
        self._insert = insert
        self._outage = outage
        self._backoff = backoff or Backoff()
        self._parts: list[Sequence[_T]] = []

    @property
    def left(self) -> int:
        """Rows of the batch under way, or of one that was cancelled or failed."""
        return sum(len(part) for part in self._parts)

    def abandon(self) -> list[_T]:
        """Drop and return what is left; one under way ends after this insert."""
        left, self._parts = [row for part in self._parts for row in part], []
        return left

    async def deliver(self, rows: Sequence[_T]) -> list[tuple[_T, BadRowsError]]:
        """Store all rows but those returned, which the database refuses."""
        refused = []
        parts = self._parts = [rows]
        while parts and parts is self._parts:
            part = parts[-1]
            try:
                await self._insert(part)
            except BadRowsError as error:
                parts.pop()
                if len(part) == 1:
                    refused.append((part[0], error))
                half = len(part) // 2
                parts += [p for p in (part[half:], part[:half]) if len(part) > 1]
            except StoreError as error:
                self._outage.goes_on(error)
                await asyncio.sleep(self._backoff.next_delay())
            else:
                parts.pop()
                self._outage.is_over()
                self._backoff.reset()
        return refused
