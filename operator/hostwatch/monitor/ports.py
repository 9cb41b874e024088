"""What the monitor needs of the world; ``ssh``, ``store``, ``bus``, ``kube`` fit these.

Nothing that takes a sample or a state waits for a network: it queues, and says in
metrics and log when it cannot keep up.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.credential import Credential, Target
    from hostwatch.model.sample import PinnedKey, Sample, ServerState, Shown
    from hostwatch.model.server import Fingerprint, Server, ServerId, ServerKey


class Shell(Protocol):
    """An authenticated connection with the script running in it."""

    @property
    def host_key(self) -> Fingerprint:
        """The key that the server proved to hold."""
        ...

    async def ask(self, word: str) -> str:
        """Return the body of one document; the shell is closed when this fails.

        Cancelling counts as a failure: a shell with an answer under way is never
        asked again. Raises `CollectionError`.
        """
        ...


class Shells(Protocol):
    """The SSH connections, at most one per server."""

    async def open(self, target: Target, deadline: asyncio.Timeout) -> Shell:
        """Return the live shell made from an equal target, or connect anew.

        Raises `CollectionError`. While it waits its turn for the connect and
        handshake limits the deadline stands still (`asyncio.Timeout.reschedule`):
        our own queue is no failure of the server.
        """
        ...

    async def close(self, server: ServerId) -> None:
        """Close what is open to a server; nothing open is fine."""
        ...


class Credentials(Protocol):
    """The Secrets that servers refer to, cached."""

    async def get(self, namespace: str, name: str) -> Credential:
        """Return a Secret's usable content.

        Raises `CollectionError` with a Secret reason, `TryAgainLaterError` when the
        API server does not answer and nothing is cached.
        """
        ...

    def forget(self, namespace: str, name: str) -> None:
        """Read the Secret anew at the next `get`: it was refused by a server."""
        ...


class HostKeyPins(Protocol):
    """The keys accepted on first use, which outlive the process."""

    async def find(self, server: ServerKey, host: str, port: int) -> PinnedKey | None:
        """Return the pin of exactly that namespace, name, host and port.

        Raises `TryAgainLaterError` while the database is away.
        """
        ...

    async def keep(self, server: ServerKey, pin: PinnedKey) -> None:
        """Store a pin, replacing that server's other; raises `TryAgainLaterError`."""
        ...


class SampleSink(Protocol):
    """Where samples go: the database and the bus each are one."""

    def put(self, sample: Sample) -> None:
        """Take a sample at once, without waiting and without raising."""
        ...


class Roster(Protocol):
    """The record of which servers exist, for those who read the database."""

    def seen(self, server: ServerKey, resource: Server) -> None:
        """Note a server's name, host and labels; cheap when nothing changed."""
        ...

    def gone(self, server: ServerId, when: datetime) -> None:
        """Note that the resource was deleted."""
        ...

    def forget(self, server: ServerId) -> None:
        """Drop what is remembered of a server; in any role, and nothing is written."""
        ...


class Urgency(IntEnum):
    """Which status writes go first when the budget is short; lower is sooner."""

    FORCED = 0
    CHANGE = 1
    REFRESH = 2


class StatusBoard(Protocol):
    """Shows what the monitor knows in each resource's status."""

    def show(self, state: ServerState, urgency: Urgency) -> None:
        """Take a server's newest state at once; a waiting older one is replaced."""
        ...

    def shown(self, server: ServerId) -> Shown:
        """Return what a resource's status said when it was last heard of."""
        ...

    def drop(self, server: ServerId) -> None:
        """Forget a server: its resource is gone."""
        ...


class AlertRelay(Protocol):
    """Keeps alerts and tells of them; the notifications and the sinks behind it."""

    def record(
        self,
        server: ServerKey,
        alerts: tuple[Alert, ...],
        notifications: tuple[Notification, ...],
    ) -> None:
        """Keep a server's alerts as they are now, and tell what happened; at once."""
        ...


class Meter(Protocol):
    """Counts what the monitor did, for ``/metrics`` and the summary line."""

    def collected(self, sample: Sample, *, duration: float, lateness: float) -> None:
        """Count a collection that ended with a sample; both numbers in seconds."""
        ...

    def gave_up(self, server: ServerKey, why: str) -> None:
        """Count a collection without a sample: a service of our own was away."""
        ...

    def skipped(self, server: ServerKey) -> None:
        """Count a slot that came while the last collection still ran."""
        ...

    def gone(self, server: ServerKey) -> None:
        """Drop the series of a server that left the fleet."""
        ...

    def watching(self, servers: int, suspended: int) -> None:
        """Tell how many servers there are, and how many of them are suspended."""
        ...
