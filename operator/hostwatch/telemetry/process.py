"""The series about this process itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class ProcessMetrics:
    """Tells which version runs, and how late its event loop is."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        build = Gauge(
            "hostwatch_build_info",
            "Always 1; the label tells the version.",
            ("version",),
            registry=registry,
        )
        build.labels(version).set(1)
        self._lag = Histogram(
            "hostwatch_event_loop_lag_seconds",
            "By how much a sleep of the event loop was too long, twice a second.",
            buckets=_LAGS,
            registry=registry,
        )

        self._tasks = Gauge(
            "hostwatch_event_loop_tasks",
            "Tasks of the event loop; it grows where one is forgotten.",
            registry=registry,
        )

    def loop_lagged(self, seconds: float, tasks: int) -> None:
        """Count one look at the event loop."""
        self._lag.observe(seconds)
        self._tasks.set(tasks)
