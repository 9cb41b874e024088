"""Limits on how much happens at once, shared fairly between namespaces."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turns:
    """At most ``limit`` holders at once; those who wait go on namespace by namespace.

    However many servers one namespace has waiting, another's next one is served after
    at most one of each. With ``each`` no namespace holds more than that many places.
    """

    def __init__(self, limit: int, *, each: int | None = None) -> None:
        self._free = limit
        self._each = limit if each is None else each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def free(self) -> int:
        """How many places nobody holds."""
        return self._free

    @asynccontextmanager
    async def turn(
        self, namespace: str, deadline: asyncio.Timeout
    ) -> AsyncIterator[None]:
        """Hold one place; the deadline stands still while there is none."""
        await self.take(namespace, deadline)
        try:
            yield
        finally:
            self.give_back(namespace)

    async def take(self, namespace: str, deadline: asyncio.Timeout) -> None:
        """Take a place that `give_back` ends; the deadline stands still until then."""
        if self._free and self._has_room(namespace):
            self._hold(namespace)
        else:
            await self._wait(namespace, deadline)

    def give_back(self, namespace: str) -> None:
        """End what `take` began, and let the next in."""
        self._free += 1
        self._held[namespace] -= 1
        if not self._held[namespace]:
            del self._held[namespace]
        self._let_in()

    def _has_room(self, namespace: str) -> bool:
        return self._held[namespace] < self._each

    def _hold(self, namespace: str) -> None:
        self._free -= 1
        self._held[namespace] += 1

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
                self.give_back(namespace)
            raise
        deadline.reschedule(None if left is None else loop.time() + left)

    def _let_in(self) -> None:
        """Hand the free place to the first namespace that may have one more."""
        for namespace in [name for name in self._waiting if self._has_room(name)]:
            queue = self._waiting.pop(namespace)
            while queue and queue[0].done():
                queue.popleft()
            if not queue:
                continue
            self._hold(namespace)
            queue.popleft().set_result(None)
            if queue:
                # Back in at the end: the others come first.
                self._waiting[namespace] = queue
            return
