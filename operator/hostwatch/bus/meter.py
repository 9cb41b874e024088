"""What the publishers count, for ``/metrics``."""

from __future__ import annotations

from typing import Protocol


class BusMeter(Protocol):
    """Counts what happened on the way to NATS."""

    def connected(self, *, up: bool) -> None:
        """Tell whether there is a connection now."""
        ...

    def published(self, count: int) -> None:
        """Count messages that the server has taken."""
        ...

    def dropped(self, count: int, why: str) -> None:
        """Count messages given up.

        ``why`` is ``disconnected``, ``queue_full``, ``unconfirmed`` (lost with the
        connection, perhaps after they arrived), ``forbidden`` or ``invalid``.
        """
        ...

    def failed(self, why: str) -> None:
        """Count a lost connection or a failed attempt at one.

        ``why`` is ``unreachable``, ``login``, ``tls``, ``setting`` or ``unexpected``.
        """
        ...


class AlertMeter(Protocol):
    """Counts what keeps alerts from the stream."""

    def alert_failed(self, why: str) -> None:
        """Count an alert that could not be stored now; it is tried again later.

        ``why`` is ``jetstream`` (there is none), ``refused`` (JetStream said no),
        ``forbidden``, or a reason why there is no connection, as above.
        """
        ...
