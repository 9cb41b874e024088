"""The series about who works: the Lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_FAILURES = ("away", "conflict", "forbidden", "refused")
_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class LeaseMetrics:
    """Counts what the election does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._leading = Gauge(
            "hostwatch_leading",
            "1 on the replica that works, 0 on those that stand by.",
            registry=registry,
        )
        self._renewals = Histogram(
            "hostwatch_lease_renewal_duration_seconds",
            "How long renewing the Lease took.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "hostwatch_lease_failures_total",
            "Requests about the Lease without success, by what was wrong.",
            ("why",),
            registry=registry,
        )
        for why in _FAILURES:
            self._failures.labels(why)
        self._transitions = Gauge(
            "hostwatch_lease_transitions",
            "How often the Lease changed hands, as it says itself.",
            registry=registry,
        )

    def leading(self, leading: bool) -> None:  # noqa: FBT001 - as the protocol
        """Tell whether our work runs."""
        self._leading.set(leading)

    def renewed(self, seconds: float) -> None:
        """Count a renewal, and how long its request took."""
        self._renewals.observe(seconds)

    def failed(self, why: str) -> None:
        """Count a failed request: away, conflict, forbidden or refused."""
        self._failures.labels(why).inc()

    def transitions(self, number: int) -> None:
        """Tell how often the holder changed, as the Lease says."""
        self._transitions.set(number)
