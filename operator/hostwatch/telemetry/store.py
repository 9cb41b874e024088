"""The series about PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

_DROPPED = (
    "queue_full",
    "too_old",
    "too_new",
    "refused",
    "no_partition",
    "duplicate",
    "unexpected",
    "shutdown",
)
_INSERTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10)


class StoreMetrics:
    """Counts the rows, and what becomes of them."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        self._now = now
        self._up = Gauge(
            "hostwatch_postgres_up",
            "Whether the database takes samples: 1 or 0.",
            registry=registry,
        )
        self._written = Counter(
            "hostwatch_postgres_rows_written_total",
            "Sample rows stored.",
            registry=registry,
        )
        self._insert = Histogram(
            "hostwatch_postgres_insert_duration_seconds",
            "Time that storing one batch of sample rows took.",
            buckets=_INSERTS,
            registry=registry,
        )
        self._dropped = Counter(
            "hostwatch_postgres_rows_dropped_total",
            "Sample rows that were not stored, by reason.",
            ("reason",),
            registry=registry,
        )
        for reason in _DROPPED:
            self._dropped.labels(reason)
        self._queued = Gauge(
            "hostwatch_postgres_rows_queued",
            "Sample rows that wait to be stored.",
            registry=registry,
        )
        self._describe_upkeep(registry)

    def _describe_upkeep(self, registry: CollectorRegistry) -> None:
        upkeep = Counter(
            "hostwatch_postgres_upkeep_runs_total",
            "Runs of the daily upkeep of partitions, by result.",
            ("result",),
            registry=registry,
        )
        self._upkeep_succeeded = upkeep.labels("success")
        self._upkeep_failed = upkeep.labels("failure")
        self._upkeep_time = Gauge(
            "hostwatch_postgres_upkeep_last_success_timestamp_seconds",
            "When the upkeep last succeeded in this process; 0 is never.",
            registry=registry,
        )
        self._pruned = Counter(
            "hostwatch_postgres_partitions_dropped_total",
            "Partitions that were dropped because of their age.",
            registry=registry,
        )

    def written(self, rows: int, seconds: float) -> None:
        """Count new sample rows, and how long their insert took."""
        self._written.inc(rows)
        self._insert.observe(seconds)

    def dropped(self, rows: int, why: str) -> None:
        """Count sample rows that were not stored."""
        self._dropped.labels(why).inc(rows)

    def queued(self, rows: int) -> None:
        """Tell how many sample rows wait, those on their way included."""
        self._queued.set(rows)

    def away(self, away: bool) -> None:  # noqa: FBT001 - the value of a gauge
        """Tell whether the database takes samples."""
        self._up.set(not away)

    def maintained(self, *, succeeded: bool) -> None:
        """Count a run of the daily upkeep."""
        if succeeded:
            self._upkeep_succeeded.inc()
            self._upkeep_time.set(self._now())
        else:
            self._upkeep_failed.inc()

    def pruned(self, partitions: Sequence[str]) -> None:
        """Count partitions that were dropped because of their age."""
        self._pruned.inc(len(partitions))
