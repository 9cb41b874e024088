"""All series of the operator, in one registry of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from hostwatch.telemetry.bus import BusMetrics
from hostwatch.telemetry.collection import CollectionMetrics
from hostwatch.telemetry.kube import KubeMetrics
from hostwatch.telemetry.lease import LeaseMetrics
from hostwatch.telemetry.notify import NotifyMetrics
from hostwatch.telemetry.process import ProcessMetrics
from hostwatch.telemetry.servers import ServerSnapshot
from hostwatch.telemetry.store import StoreMetrics

if TYPE_CHECKING:
    from collections.abc import Callable


class Metrics:
    """The meters of every part, by part."""

    def __init__(
        self,
        *,
        version: str,
        server_metrics: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        # A third of all series would say when a counter was made: at our start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.process = ProcessMetrics(self._registry, version)
        self.collection = CollectionMetrics(self._registry)
        self.store = StoreMetrics(self._registry, now)
        self.bus = BusMetrics(self._registry)
        self.kube = KubeMetrics(self._registry)
        self.lease = LeaseMetrics(self._registry)
        self.notify = NotifyMetrics(self._registry)
        self.servers = ServerSnapshot()
        if server_metrics:
            self._registry.register(self.servers)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page that an Accept header asks for, and its content type.

        Takes a second of CPU at 10,000 servers: not for the event loop.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # asked for a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type
