"""The series about each server, rendered from its last sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as Series

from hostwatch.model.sample import Health, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from hostwatch.model.server import ServerKey

_HEALTH = {Health.HEALTHY: 0, Health.WARNING: 1, Health.CRITICAL: 2, Health.ERROR: 3}


class _Family(NamedTuple):
    """One name; ``value`` gives None where the sample does not have the number."""

    name: str
    help: str
    value: Callable[[Sample], float | None]
    type: str = "gauge"


class ServerSnapshot(Collector):
    """The last sample of every server; what was not measured is absent.

    Written by the event loop, read by the thread that renders. Kept by name, not by
    id: of two resources that had one name, only the newer one's series may show.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[dict[str, str], Sample]] = {}

    def take(self, sample: Sample) -> None:
        """Replace the sample of a server."""
        server = sample.server
        labels = {
            "namespace": server.namespace,
            "name": server.name,
            "organization": server.organization,
        }
        self._last[server.namespace, server.name] = (labels, sample)

    def drop(self, server: ServerKey) -> None:
        """Forget a server; an unknown one is fine."""
        key = (server.namespace, server.name)
        known = self._last.get(key)
        if known is not None and known[1].server.id == server.id:
            del self._last[key]

    def collect(self) -> Iterator[Metric]:
        """Yield every family, in the order of the table below."""
        last = list(self._last.values())  # one step: no other thread comes between
        for family in _FAMILIES:
            metric = Metric(family.name, family.help, family.type)
            name = family.name + ("_total" if family.type == "counter" else "")
            metric.samples = [
                Series(name, labels, value)
                for labels, sample in last
                if (value := family.value(sample)) is not None
            ]
            yield metric


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _unix_time(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


_FAMILIES = (
    _Family(
        "hostwatch_server_up",
        "Whether the last collection of the server succeeded: 1 or 0.",
        lambda sample: 1 if sample.reason is None else 0,
    ),
    _Family(
        "hostwatch_server_health",
        "Health of the server: 0 healthy, 1 warning, 2 critical, 3 error.",
        lambda sample: _HEALTH.get(sample.status),
    ),
    _Family(
        "hostwatch_server_last_collection_timestamp_seconds",
        "When the server was last collected, with success or without.",
        lambda sample: _unix_time(sample.collected_at),
    ),
    _Family(
        "hostwatch_server_cpu_usage_ratio",
        "Share of all CPU time that was used between the last two samples, 0 to 1.",
        lambda sample: _ratio(sample.metrics.cpu.total if sample.metrics.cpu else None),
    ),
    _Family(
        "hostwatch_server_memory_usage_ratio",
        "Share of the memory that is not available, 0 to 1.",
        lambda sample: _ratio(sample.metrics.memory_percent),
    ),
    _Family(
        "hostwatch_server_memory_total_bytes",
        "Memory of the server.",
        lambda sample: sample.metrics.memory_total,
    ),
    _Family(
        "hostwatch_server_disk_usage_ratio",
        "Share of the fullest filesystem that is used, as df counts, 0 to 1.",
        lambda sample: _ratio(sample.metrics.disk_percent),
    ),
    _Family(
        "hostwatch_server_disk_available_bytes",
        "What ordinary users can still write to the fullest filesystem.",
        lambda sample: sample.metrics.disk_available,
    ),
    _Family(
        "hostwatch_server_network_receive_bytes",
        "Received since boot by all physical interfaces.",
        lambda sample: sample.metrics.network_receive_bytes,
        "counter",
    ),
    _Family(
        "hostwatch_server_network_transmit_bytes",
        "Sent since boot by all physical interfaces.",
        lambda sample: sample.metrics.network_transmit_bytes,
        "counter",
    ),
    _Family(
        "hostwatch_server_load1",
        "Load average over one minute.",
        lambda sample: sample.metrics.load[0] if sample.metrics.load else None,
    ),
    _Family(
        "hostwatch_server_boot_time_seconds",
        "When the server was started, as a Unix time.",
        lambda sample: _unix_time(sample.metrics.boot_time),
    ),
)
