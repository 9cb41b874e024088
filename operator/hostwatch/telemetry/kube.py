"""The series about the Kubernetes API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_URGENCIES = ("forced", "change", "refresh")
_OUTCOMES = (
    "written",
    "unchanged",
    "conflict",
    "throttled",
    "retried",
    "refused",
    "gone",
)


class KubeMetrics:
    """Counts the traffic with the API server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._writes = Counter(
            "hostwatch_kubernetes_status_writes_total",
            "Decisions about status writes, by urgency and outcome.",
            ("urgency", "outcome"),
            registry=registry,
        )
        for urgency in _URGENCIES:
            for outcome in _OUTCOMES:
                self._writes.labels(urgency, outcome)
        self._waiting = Gauge(
            "hostwatch_kubernetes_status_writes_waiting",
            "Servers with a state that is not written yet.",
            registry=registry,
        )
        self._secrets = Gauge(
            "hostwatch_kubernetes_secrets_cached",
            "Secrets held in memory.",
            registry=registry,
        )
        self._failures = Counter(
            "hostwatch_kubernetes_request_failures_total",
            "Requests without success, by HTTP status; none stands for no answer.",
            ("code",),
            registry=registry,
        )
        self._failures.labels("none")

    def status_written(self, urgency: str, outcome: str) -> None:
        """Count one decision about a status write."""
        self._writes.labels(urgency, outcome).inc()

    def status_waiting(self, states: int) -> None:
        """Tell how many servers have a state that is not written yet."""
        self._waiting.set(states)

    def secrets_cached(self, secrets: int) -> None:
        """Tell how many Secrets are held in memory."""
        self._secrets.set(secrets)

    def api_failed(self, status: int | None) -> None:
        """Count a request without success; None stands for no answer at all."""
        self._failures.labels("none" if status is None else str(status)).inc()
