"""How long to wait before the next try, as a value."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Delays in seconds that double from ``first`` to ``limit``, each with jitter.

    The jitter takes up to half off, so that many writers do not come back at once;
    ``chance`` draws from [0, 1).
    """

    def __init__(
        self,
        *,
        first: float = 0.5,
        limit: float = 5,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._limit = limit
        self._chance = chance
        self._next = first

    def next_delay(self) -> float:
        """Return the seconds to wait now, and wait longer the next time."""
        delay = self._next
        self._next = min(self._limit, 2 * delay)
        return delay * (1 - self._chance() / 2)

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._next = self._first
