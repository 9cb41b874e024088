"""What the relay needs from others; they fit it without knowing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostwatch.model.alert import Notification
    from hostwatch.model.kept import Kept


class Sink(Protocol):
    """One way of telling."""

    @property
    def name(self) -> str:
        """Name it for rows, logs and metrics: stays the same over versions."""
        ...

    async def deliver(self, notification: Notification) -> None:
        """Return once it was told; the same one may come again.

        Raises `TryAgainLaterError`, `TryOthersMeanwhileError` where only this server's
        namespace or organization must wait, or `UndeliverableError` where trying again
        would not help.
        """
        ...


class Ledger(Protocol):
    """The record for good, shared with the replicas before and after this one."""

    async def save(self, kept: Kept) -> None:
        """Take that in, all or nothing of each server; never older over newer.

        A server's alerts that are not among its given ones are over. Bears to be told
        the same twice. Raises `TryAgainLaterError`.
        """
        ...

    async def load(self, sinks: Sequence[str]) -> Kept:
        """Return all pending and firing alerts, and these sinks' waiting errands.

        Raises `TryAgainLaterError`.
        """
        ...


class LastState(Protocol):
    """This replica's own copy of what the ledger may not have yet."""

    async def save(self, kept: Kept) -> None:
        """Replace it all; it is on the disk on return. Raises `OSError`."""
        ...

    async def load(self) -> Kept:
        """Return what was saved last; nothing where that cannot be read."""
        ...
