"""One heap of due times, and the one task that waits for them."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.server import ServerId

_BATCH = 64
"""Servers started before the loop gets its turn: a herd must not stall it."""

_GRAIN = 0.001
"""Seconds: what is due this soon is due; timers are no finer."""


class Schedule:
    """Call ``due`` with a server and its due time, in order, when that time comes.

    Times are those of the event loop's clock. A server has one due time; putting it
    again moves it.
    """

    def __init__(self, due: Callable[[ServerId, float], None]) -> None:
        self._due = due
        self._heap: list[tuple[float, int, ServerId]] = []
        self._tickets: dict[ServerId, int] = {}
        self._numbers = count()
        self._sooner = asyncio.Event()

    def put(self, server: ServerId, when: float) -> None:
        """Make a server due then, whatever was planned before."""
        ticket = next(self._numbers)
        self._tickets[server] = ticket
        heapq.heappush(self._heap, (when, ticket, server))
        if self._heap[0][1] == ticket:
            self._sooner.set()

    def drop(self, server: ServerId) -> None:
        """Forget a server's due time; its entry is passed over when it comes up."""
        self._tickets.pop(server, None)

    def clear(self) -> None:
        """Forget every due time."""
        self._heap.clear()
        self._tickets.clear()

    async def run(self) -> None:
        """Wait and call, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._sooner.clear()
            self._start_due(loop.time())
            timeout = self._heap[0][0] - loop.time() if self._heap else None
            if timeout is not None and timeout <= _GRAIN:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(timeout):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    def _start_due(self, now: float) -> None:
        started = 0
        while self._heap and self._heap[0][0] <= now + _GRAIN and started < _BATCH:
            when, ticket, server = heapq.heappop(self._heap)
            if self._tickets.get(server) != ticket:
                continue
            del self._tickets[server]
            self._due(server, when)
            started += 1
