"""How one collection spreads its attempts over its time limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.server import ServerSpec

ATTEMPT_LIMIT = 15.0
"""Seconds one attempt may take at the most."""

FIRST_DELAY = 1.0
"""Seconds before the first retry; each further one waits twice as long."""


@dataclass(slots=True)
class Retry:
    """The attempts of one collection, as a value; seconds throughout.

    ``limit`` is the time for everything, waits included, ``share`` for one attempt.
    """

    limit: float
    share: float
    retries: int
    attempts: int = 0
    spent: float = 0.0

    @classmethod
    def of(cls, spec: ServerSpec, *, failing: bool) -> Retry:
        """Return a collection's attempts; a server that failed last gets just one.

        It is asked again a slot later anyway, and retries against what is down would
        only cost those that are up.
        """
        share = min(ATTEMPT_LIMIT, spec.timeout / (spec.retries + 1))
        return cls(spec.timeout, share, 0 if failing else spec.retries)

    def attempt_limit(self) -> float:
        """Return how long the next attempt may take."""
        return min(self.share, self.limit - self.spent)

    def attempted(self, seconds: float) -> None:
        """Note that an attempt took that long."""
        self.attempts += 1
        self.spent += seconds

    def next_delay(self, chance: float) -> float | None:
        """Return the wait before another attempt, None when there is none left.

        ``chance`` in [0, 1) draws between half and the whole of the doubled delay, so
        that servers that failed together do not come back together.
        """
        if self.attempts > self.retries:
            return None
        delay = FIRST_DELAY * 2.0 ** (self.attempts - 1) * (0.5 + chance / 2)
        if self.spent + delay >= self.limit:
            return None
        self.spent += delay
        return delay
