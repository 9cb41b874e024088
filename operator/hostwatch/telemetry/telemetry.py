"""One place that the monitor tells what it did; metrics and summary hear it there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hostwatch.telemetry.loop import watch_loop
from hostwatch.telemetry.metrics import Metrics
from hostwatch.telemetry.summary import Summary

if TYPE_CHECKING:
    from hostwatch.model.sample import Sample
    from hostwatch.model.server import ServerKey
    from hostwatch.settings import TelemetrySettings

_SUMMARY_SECONDS = 30


class Telemetry:
    """The meter of the monitor; the meters of other parts are in ``metrics``.

    Works before `open` and after `close` too; only the summary and the event loop's
    lag need the tasks in between.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        version: str,
        summary_seconds: float = _SUMMARY_SECONDS,
    ) -> None:
        self.metrics = Metrics(version=version, server_metrics=settings.server_metrics)
        self._server_metrics = settings.server_metrics
        self._summary = Summary()
        self._summary_seconds = summary_seconds
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def open(self) -> None:
        """Begin to log summaries and to watch the event loop."""
        self._tasks = (
            asyncio.create_task(
                self._summary.run(self._summary_seconds), name="telemetry summary"
            ),
            asyncio.create_task(
                watch_loop(self.metrics.process.loop_lagged), name="telemetry loop lag"
            ),
        )

    async def close(self) -> None:
        """End both tasks."""
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def problems(self) -> list[str]:
        """Return a sentence for each task that died."""
        return [
            f"The task '{task.get_name()}' has ended."
            for task in self._tasks
            if task.done()
        ]

    def collected(self, sample: Sample, *, duration: float, lateness: float) -> None:
        """Count a collection that ended with a sample; both numbers in seconds."""
        self.metrics.collection.collected(sample, duration=duration, lateness=lateness)
        self._summary.collected(sample, duration=duration, lateness=lateness)
        if self._server_metrics:
            self.metrics.servers.take(sample)

    def gave_up(self, server: ServerKey, why: str) -> None:  # noqa: ARG002 - no label
        """Count a collection without a sample; the log has the details."""
        self.metrics.collection.gave_up()
        self._summary.gave_up()

    def skipped(self, server: ServerKey) -> None:  # noqa: ARG002 - no label
        """Count a slot that came while the last collection still ran."""
        self.metrics.collection.skipped()
        self._summary.skipped()

    def gone(self, server: ServerKey) -> None:
        """Drop the series of a server that left the fleet."""
        self.metrics.servers.drop(server)

    def watching(self, servers: int, suspended: int) -> None:
        """Tell how many servers there are, and how many of them are suspended."""
        self.metrics.collection.watching(servers, suspended)
        self._summary.watching(servers, suspended)
