"""What the relay tells about itself, for ``/metrics``."""

from __future__ import annotations

from typing import Protocol


class NotifyMeter(Protocol):
    """Counts what became of the notifications; no method may wait or raise."""

    def delivered(self, sink: str) -> None:
        """Count a notification that a sink has taken."""
        ...

    def failed(self, sink: str) -> None:
        """Count an attempt that failed and is made again."""
        ...

    def given_up(self, sink: str) -> None:
        """Count a notification that a sink will never get."""
        ...

    def waiting(self, errands: int) -> None:
        """Tell how many notifications wait, each as often as there are sinks for it."""
        ...

    def file_failed(self) -> None:
        """Count an attempt to save the last state that failed."""
        ...
