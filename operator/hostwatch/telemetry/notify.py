"""The series about alerts on their way to those who must hear of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class NotifyMetrics:
    """Counts the notifications, each as often as there are sinks for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delivered = Counter(
            "hostwatch_notifications_delivered_total",
            "Notifications that a sink has taken, by sink.",
            ("sink",),
            registry=registry,
        )
        self._failed = Counter(
            "hostwatch_notification_failures_total",
            "Attempts to deliver a notification that failed and are repeated, by sink.",
            ("sink",),
            registry=registry,
        )
        self._given_up = Counter(
            "hostwatch_notifications_given_up_total",
            "Notifications that a sink will never get, by sink.",
            ("sink",),
            registry=registry,
        )
        self._waiting = Gauge(
            "hostwatch_notifications_waiting",
            "Notifications that wait for a sink, over all sinks.",
            registry=registry,
        )
        self._file_failures = Counter(
            "hostwatch_alert_file_failures_total",
            "Attempts to save the last state of the alerts on the disk that failed.",
            registry=registry,
        )

    def delivered(self, sink: str) -> None:
        """Count a notification that a sink has taken."""
        self._delivered.labels(sink).inc()

    def failed(self, sink: str) -> None:
        """Count an attempt that failed and is made again."""
        self._failed.labels(sink).inc()

    def given_up(self, sink: str) -> None:
        """Count a notification that a sink will never get."""
        self._given_up.labels(sink).inc()

    def waiting(self, errands: int) -> None:
        """Tell how many notifications wait."""
        self._waiting.set(errands)

    def file_failed(self) -> None:
        """Count an attempt to save the last state that failed."""
        self._file_failures.inc()
