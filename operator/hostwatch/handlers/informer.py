"""The watches: MonitoredServers and Namespaces, read by kopf, never written.

kopf's timers and daemons put finalizers on resources and its changing handlers write
annotations; plain event handlers do neither.
"""

from __future__ import annotations

import asyncio
import signal
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol

import kopf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from hostwatch.model.server import ServerId

_DELETED = "DELETED"


class Fleet(Protocol):
    """Who is told of resources; the bodies are those of the API."""

    def server_seen(self, body: Mapping[str, Any]) -> None:
        """Take a MonitoredServer as it is now; must cost next to nothing."""
        ...

    def server_gone(self, server: ServerId) -> None:
        """Forget a MonitoredServer."""
        ...

    def namespace_seen(self, body: Mapping[str, Any]) -> None:
        """Take a Namespace as it is now."""
        ...


def registry_for(fleet: Fleet) -> kopf.OperatorRegistry:
    """Return the handlers that tell ``fleet`` of every event."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**details: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**details)

    @kopf.on.event("hostwatch.dev", "v1alpha1", "monitoredservers", registry=registry)
    async def on_server(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's name
        metadata = body["metadata"]
        if type == _DELETED or metadata.get("deletionTimestamp"):
            fleet.server_gone(metadata["uid"])
        else:
            fleet.server_seen(body)

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def on_namespace(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's name
        if type != _DELETED:
            fleet.namespace_seen(body)

    return registry


class Patience:
    """Seconds between attempts at the API server, without an end.

    With an end, half a minute of 503 would end the process: etcd needs longer to
    elect a leader, and the watch is all that would be lost.
    """

    def __iter__(self) -> Iterator[float]:
        """Count anew for each request."""
        return chain((1.0, 2.0, 4.0, 8.0), repeat(15.0))


def informer_settings() -> kopf.OperatorSettings:
    """Return settings that keep kopf a reader, and make it end when it cannot read.

    Scanning stays on: without it kopf dies with the CRD instead of waiting for it.
    """
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 610
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = Patience()
    settings.queueing.idle_timeout = 1.0
    # A cancelled operator would otherwise arm a SIGKILL for ten minutes later.
    settings.process.ultimate_exiting_timeout = None
    return settings


async def watch(
    fleet: Fleet,
    *,
    namespaces: Collection[str],
    ready: asyncio.Event,
    stop: asyncio.Event,
    on_signal: Callable[[], None],
) -> None:
    """Tell ``fleet`` of every event until ``stop`` is set.

    Must be stopped, not cancelled: when it ends, kopf cancels every task younger than
    itself. It takes SIGTERM and SIGINT for itself when it starts; ``on_signal`` gets
    them back once ``ready`` is set.
    """
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry_for(fleet),
            settings=informer_settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=sorted(namespaces),
            ready_flag=ready,
            stop_flag=stop,
        ),
        name="kopf",
    )
    listening = asyncio.create_task(ready.wait(), name="kopf ready")
    await asyncio.wait({watching, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    await watching
