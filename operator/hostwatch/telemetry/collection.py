"""The series about collecting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from hostwatch.model.reason import Reason

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from hostwatch.model.sample import Sample

_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
_LATENESSES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)


class CollectionMetrics:
    """Counts what the monitor did, over all servers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        collections = Counter(
            "hostwatch_collections_total",
            "Collections that ended with a sample, by result and reason.",
            ("result", "reason"),
            registry=registry,
        )
        # All of them from the start, so that a rate sees the first failure too.
        self._success = collections.labels("success", "Collected")
        self._failures = {
            reason: collections.labels("failure", reason.value) for reason in Reason
        }
        self._duration = Histogram(
            "hostwatch_collection_duration_seconds",
            "Time from the start of a collection to its sample, retries included.",
            buckets=_DURATIONS,
            registry=registry,
        )
        self._lateness = Histogram(
            "hostwatch_collection_lateness_seconds",
            "Time from the moment a collection was due to its start.",
            buckets=_LATENESSES,
            registry=registry,
        )
        self._given_up = Counter(
            "hostwatch_collections_given_up_total",
            "Collections without a sample, because a service of ours was away.",
            registry=registry,
        )
        self._skipped = Counter(
            "hostwatch_slots_skipped_total",
            "Slots that came while the last collection of their server still ran.",
            registry=registry,
        )
        servers = Gauge(
            "hostwatch_servers",
            "Servers of this replica, by whether they are collected.",
            ("state",),
            registry=registry,
        )
        self._active = servers.labels("active")
        self._suspended = servers.labels("suspended")

    def collected(self, sample: Sample, *, duration: float, lateness: float) -> None:
        """Count a collection that ended with a sample; both numbers in seconds."""
        reason = sample.reason
        counter = self._success if reason is None else self._failures[reason]
        counter.inc()
        self._duration.observe(duration)
        self._lateness.observe(lateness)

    def gave_up(self) -> None:
        """Count a collection without a sample."""
        self._given_up.inc()

    def skipped(self) -> None:
        """Count a slot that was not used."""
        self._skipped.inc()

    def watching(self, servers: int, suspended: int) -> None:
        """Tell how many servers there are, the suspended ones included."""
        self._active.set(servers - suspended)
        self._suspended.set(suspended)
