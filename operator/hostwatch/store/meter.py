"""What the store tells about itself, for ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class StoreMeter(Protocol):
    """Counts what the store did; no method may wait or raise."""

    def written(self, rows: int, seconds: float) -> None:
        """Count new sample rows, and how long their insert took."""
        ...

    def dropped(self, rows: int, why: str) -> None:
        """Count sample rows that were not stored.

        ``why`` is one of queue_full, too_old, too_new, refused, no_partition,
        duplicate, unexpected (a mistake of ours), shutdown.
        """
        ...

    def queued(self, rows: int) -> None:
        """Tell how many sample rows wait, those on their way included."""
        ...

    def away(self, away: bool) -> None:  # noqa: FBT001 - the value of a gauge
        """Tell whether the database takes samples."""
        ...

    def maintained(self, *, succeeded: bool) -> None:
        """Count a run of the daily upkeep."""
        ...

    def pruned(self, partitions: Sequence[str]) -> None:
        """Count partitions that were dropped because of their age."""
        ...


class NoMeter:
    """Counts nothing: for a writer whose outages are no measure of the samples."""

    def written(self, rows: int, seconds: float) -> None:
        """Ignore it."""

    def dropped(self, rows: int, why: str) -> None:
        """Ignore it."""

    def queued(self, rows: int) -> None:
        """Ignore it."""

    def away(self, away: bool) -> None:  # noqa: FBT001 - as the protocol
        """Ignore it."""

    def maintained(self, *, succeeded: bool) -> None:
        """Ignore it."""

    def pruned(self, partitions: Sequence[str]) -> None:
        """Ignore it."""
