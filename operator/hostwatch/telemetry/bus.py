"""The series about NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_DROPPED = ("disconnected", "queue_full", "unconfirmed", "forbidden", "invalid")
_FAILED = ("unreachable", "login", "tls", "setting", "unexpected")
_ALERT_FAILED = ("jetstream", "refused", "forbidden", *_FAILED)


class BusMetrics:
    """Counts the live updates, and what keeps alerts from the stream."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connected = Gauge(
            "hostwatch_nats_connected",
            "Whether there is a connection to NATS: 1 or 0.",
            registry=registry,
        )
        self._published = Counter(
            "hostwatch_nats_messages_published_total",
            "Messages that the NATS server has taken.",
            registry=registry,
        )
        self._dropped = Counter(
            "hostwatch_nats_messages_dropped_total",
            "Messages given up, by reason; unconfirmed ones may have arrived.",
            ("reason",),
            registry=registry,
        )
        self._failures = Counter(
            "hostwatch_nats_connection_failures_total",
            "Lost connections and failed attempts to connect to NATS, by reason.",
            ("reason",),
            registry=registry,
        )
        self._alert_failures = Counter(
            "hostwatch_nats_alert_failures_total",
            "Attempts to store an alert in JetStream that failed, by reason.",
            ("reason",),
            registry=registry,
        )
        for reason in _ALERT_FAILED:
            self._alert_failures.labels(reason)
        for reason in _DROPPED:
            self._dropped.labels(reason)
        for reason in _FAILED:
            self._failures.labels(reason)

    def connected(self, *, up: bool) -> None:
        """Tell whether there is a connection now."""
        self._connected.set(up)

    def published(self, count: int) -> None:
        """Count messages that the server has taken."""
        self._published.inc(count)

    def dropped(self, count: int, why: str) -> None:
        """Count messages given up."""
        self._dropped.labels(why).inc(count)

    def failed(self, why: str) -> None:
        """Count a lost connection or a failed attempt at one."""
        self._failures.labels(why).inc()

    def alert_failed(self, why: str) -> None:
        """Count an alert that could not be stored now; it is tried again later."""
        self._alert_failures.labels(why).inc()
