"""How many status writes are made, and how old a shown number may get."""

from __future__ import annotations

REFRESHES_PER_SECOND = 20.0

INSTANT = 1e-6
"""Seconds too short to wait for: sums of floats miss their mark by less."""

_BURST_SECONDS = 10.0
_LEAST_SHARE = 1 / 16
_RECOVERY_SECONDS = 120.0
_HALVING_PAUSE_SECONDS = 1.0


class TokenBucket:
    """A budget of ``rate`` writes per second with a burst of ten seconds' worth.

    A throttled writer halves its rate and wins it back over two minutes. ``now`` is
    monotonic time in seconds.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._full_rate = self._rate = rate
        self._capacity = max(1.0, rate * _BURST_SECONDS)
        self._tokens = self._capacity
        self._counted_at = now
        self._closed_until = now
        self._halved_at = now - _HALVING_PAUSE_SECONDS

    def rate(self, now: float) -> float:
        """Return the writes per second that are allowed at present."""
        self._count(now)
        return self._rate

    def wait(self, now: float) -> float:
        """Return the seconds until a token can be taken; 0 where one is there."""
        self._count(now)
        missing = max(0.0, 1.0 - self._tokens) / self._rate
        wait = max(missing, self._closed_until - now)
        return wait if wait > INSTANT else 0.0

    def take(self, now: float) -> None:
        """Take a token, even one that is not there yet."""
        self._count(now)
        self._tokens -= 1

    def give_back(self) -> None:
        """Return a token that was not needed."""
        self._tokens = min(self._capacity, self._tokens + 1)

    def throttled(self, retry_after: float, now: float) -> None:
        """Close for ``retry_after`` seconds and halve the rate.

        Several writes are under way at once: their refusals within a second count as
        one.
        """
        self._count(now)
        self._closed_until = max(self._closed_until, now + retry_after)
        if now - self._halved_at >= _HALVING_PAUSE_SECONDS:
            self._halved_at = now
            self._rate = max(self._full_rate * _LEAST_SHARE, self._rate / 2)
            self._tokens = min(self._tokens, 0.0)

    def _count(self, now: float) -> None:
        passed = max(0.0, now - self._counted_at)
        self._counted_at = now
        self._tokens = min(self._capacity, self._tokens + passed * self._rate)
        recovered = passed * self._full_rate / _RECOVERY_SECONDS
        self._rate = min(self._full_rate, self._rate + recovered)


def refresh_interval(
    interval: float, fleet: int, *, rate: float = REFRESHES_PER_SECOND
) -> float:
    """Return the seconds between two refreshes of one server's numbers.

    A small fleet shows each sample; a large one spends ``rate`` writes per second.
    """
    return max(interval, fleet / rate)


def due_for_refresh(
    last_written: float | None,
    now: float,
    interval: float,
    fleet: int,
    *,
    rate: float = REFRESHES_PER_SECOND,
) -> bool:
    """Tell whether a status without news may be written again already."""
    if last_written is None:
        return True
    return now >= last_written + refresh_interval(interval, fleet, rate=rate)
