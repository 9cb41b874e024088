"""Forced collections: what the annotation asks for, and how often it is heard."""

from __future__ import annotations

from hashlib import sha256

LONGEST = 128

EVERY = 5.0
"""Seconds between two forced starts of one server."""

PER_SECOND = 50
"""Forced starts per second and replica."""


def is_valid(request: str) -> bool:
    """Tell whether a request is 1 to 128 printable ASCII characters."""
    return 0 < len(request) <= LONGEST and all(" " <= c <= "~" for c in request)


def acknowledged_as(request: str) -> str:
    """Return what the status shows for a request: itself, or a digest of a bad one."""
    if is_valid(request):
        return request
    return "sha256:" + sha256(request.encode(errors="surrogatepass")).hexdigest()


class Pace:
    """Gives forced runs places to start, so many per second.

    Times are those of the event loop's clock.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return when a run may start, and keep that place for it."""
        start = max(now, self._next)
        self._next = start + 1 / PER_SECOND
        return start
