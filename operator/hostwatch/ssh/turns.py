"""Limits on how much happens at once, shared fairly between namespaces."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turns:
    """At most ``limit`` holders at once; those who wait go on namespace by namespace.

    However many servers one namespace has waiting, another's next one is served after
    at most one of each.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def free(self) -> int:
        """How many could start now."""
        return self._free

    @asynccontextmanager
    async def turn(
        self, namespace: str, deadline: asyncio.Timeout
    ) -> AsyncIterator[None]:
        """Hold one place; the deadline stands still while there is none."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(namespace, deadline)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, namespace: str, deadline: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._waiting.setdefault(namespace, deque()).append(place)
        when = deadline.when()
        left = None if when is None else when - loop.time()
        deadline.reschedule(None)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                # The place was handed over in the moment of the cancellation.
                self._release()
            raise
        deadline.reschedule(None if left is None else loop.time() + left)

    def _release(self) -> None:
        while self._waiting:
            namespace = next(iter(self._waiting))
            queue = self._waiting.pop(namespace)
            place = queue.popleft()
            if queue:
                # Back in at the end: the others come first.
                self._waiting[namespace] = queue
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
