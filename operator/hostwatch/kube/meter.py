"""What this package counts, for whoever renders metrics."""

from __future__ import annotations

from typing import Protocol


class KubeMeter(Protocol):
    """Counts the traffic with the API server."""

    def status_written(self, urgency: str, outcome: str) -> None:
        """Count one decision about a status write.

        ``urgency`` is forced, change or refresh; ``outcome`` is written, unchanged,
        conflict, throttled, retried, refused or gone.
        """
        ...

    def status_waiting(self, states: int) -> None:
        """Tell how many servers have a state that is not written yet."""
        ...

    def secrets_cached(self, secrets: int) -> None:
        """Tell how many Secrets are held in memory."""
        ...

    def api_failed(self, status: int | None) -> None:
        """Count a request without success; None stands for no answer at all."""
        ...


class Unmetered:
    """Counts nothing: for a command, which renders no metrics."""

    def status_written(self, urgency: str, outcome: str) -> None:
        """Let it pass."""

    def status_waiting(self, states: int) -> None:
        """Let it pass."""

    def secrets_cached(self, secrets: int) -> None:
        """Let it pass."""

    def api_failed(self, status: int | None) -> None:
        """Let it pass: whoever made the request is told."""
