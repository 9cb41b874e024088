"""The two clocks: one that never jumps, and one that people read."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Times of the running loop, and the epoch they stood at when this was made.

    The grid runs on ``epoch``: anchored to the wall clock once, so that replicas
    agree on the slots, and monotonic from then on, so that a clock that is set moves
    nothing.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._anchor = time.time() - self._loop.time()

    def monotonic(self) -> float:
        """Return seconds on the event loop's clock."""
        return self._loop.time()

    def epoch(self) -> float:
        """Return seconds since 1970, without any jump since the start."""
        return self._anchor + self._loop.time()

    def monotonic_of(self, epoch: float) -> float:
        """Return when, on the event loop's clock, that epoch time comes."""
        return epoch - self._anchor

    def now(self) -> datetime:
        """Return the wall clock, aware, in UTC: what samples are stamped with."""
        return datetime.now(UTC)
