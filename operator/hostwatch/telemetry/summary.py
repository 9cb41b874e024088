"""The line that tells twice a minute how collecting goes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostwatch.model.sample import Sample


class Summary:
    """Counts a window of collections, and begins anew with every line."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(component="telemetry")
        self._servers = 0
        self._suspended = 0
        self._begin()

    def collected(self, sample: Sample, *, duration: float, lateness: float) -> None:
        """Count a collection that ended with a sample; both numbers in seconds."""
        self._durations.append(duration)
        self._latenesses.append(lateness)
        if sample.reason is not None:
            self._failures[sample.reason.value] += 1

    def gave_up(self) -> None:
        """Count a collection without a sample."""
        self._given_up += 1

    def skipped(self) -> None:
        """Count a slot that was not used."""
        self._skipped += 1

    def watching(self, servers: int, suspended: int) -> None:
        """Note how many servers there are; this outlives the window."""
        self._servers, self._suspended = servers, suspended

    async def run(self, interval: float) -> None:
        """Log a line every ``interval`` seconds."""
        while True:
            await asyncio.sleep(interval)
            self._log.info("Summary", **self.take())

    def take(self) -> dict[str, object]:
        """Return the numbers of the window, and begin the next one.

        A number that nothing was measured for is None.
        """
        collections = len(self._durations)
        failed = self._failures.total()
        durations, latenesses = sorted(self._durations), sorted(self._latenesses)
        numbers: dict[str, object] = {
            "servers": self._servers,
            "suspended": self._suspended,
            "collections": collections,
            "failures": dict(self._failures.most_common()),
            "success_percent": _percent(collections - failed, collections),
            "duration_p50_ms": _milliseconds(durations, 0.50),
            "duration_p95_ms": _milliseconds(durations, 0.95),
            "lateness_p95_ms": _milliseconds(latenesses, 0.95),
            "lateness_max_ms": _milliseconds(latenesses, 1),
            "skipped": self._skipped,
            "given_up": self._given_up,
        }
        self._begin()
        return numbers

    def _begin(self) -> None:
        self._durations: list[float] = []
        self._latenesses: list[float] = []
        self._failures: Counter[str] = Counter()
        self._skipped = 0
        self._given_up = 0


def _percent(part: int, whole: int) -> float | None:
    """Round down, so that only a window without a failure reads 100."""
    return math.floor(1000 * part / whole) / 10 if whole else None


def _milliseconds(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted seconds."""
    if not ordered:
        return None
    return round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 1)
