"""The composition root: every part is made here, opened in order, closed in reverse."""

from __future__ import annotations

import asyncio
import random
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

import structlog

from hostwatch.bus.alerts import AlertPublisher
from hostwatch.bus.publisher import Publisher
from hostwatch.kube.addresses import cluster_networks
from hostwatch.kube.board import StatusWriter
from hostwatch.kube.changes import Changes
from hostwatch.kube.client import ApiAwayError, ApiRefusedError, KubeClient
from hostwatch.kube.elector import Elector, unique_identity
from hostwatch.kube.events import EventSink
from hostwatch.kube.inventory import CrdMissingError, Inventory
from hostwatch.kube.secrets import Secrets
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.monitor.alerting import AlertDesk
from hostwatch.monitor.clock import Clock
from hostwatch.monitor.collect import Collector
from hostwatch.monitor.hostkeys import HostKeys
from hostwatch.monitor.monitor import Monitor
from hostwatch.monitor.sweep import Sweeper
from hostwatch.notify.relay import Relay
from hostwatch.ssh.shells import Shells
from hostwatch.store.alert_file import alert_file
from hostwatch.store.errors import StoreError
from hostwatch.store.store import Store
from hostwatch.telemetry.http import Endpoints
from hostwatch.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hostwatch.kube.addresses import Network
    from hostwatch.kube.elector import Term
    from hostwatch.model.server import ServerId
    from hostwatch.settings import Settings

_RETRY_SECONDS = 5.0
_LEASE_TIMEOUT_SECONDS = 4.0
_CLOSE_SECONDS = 10.0
_DRAIN_SECONDS = 3.0


class InformerEndedError(Exception):
    """The watch of the resources ended by itself; only a new process helps."""


class Informer(Protocol):
    """Watches the resources and tells of every change."""

    async def __call__(
        self, changes: Changes, *, ready: asyncio.Event, stop: asyncio.Event
    ) -> None:
        """Set ``ready`` once watching, return after ``stop`` was set."""
        ...


class App:
    """The operator: made of settings, run once, inside a running loop.

    Every replica watches; the one that holds the Lease works.
    """

    def __init__(self, settings: Settings) -> None:
        self._log = structlog.get_logger(component="app")
        self._stop = asyncio.Event()
        self._closers: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._settings = settings
        self._identity = unique_identity(settings.replica.identity)
        self._telemetry = Telemetry(settings.telemetry, version=version("hostwatch"))
        self._metrics = metrics = self._telemetry.metrics
        self._http = Endpoints(
            settings.telemetry.http_port,
            render=metrics.render,
            alive=self._ailments,
            ready=self._obstacles,
        )
        self._client = KubeClient(meter=metrics.kube)
        # Renewals must not wait for a connection behind status writes.
        self._lease_client = KubeClient(
            meter=metrics.kube, timeout=_LEASE_TIMEOUT_SECONDS
        )
        self._inventory = Inventory(
            self._client, namespaces=settings.kubernetes.namespaces
        )
        self._board = StatusWriter(
            self._client,
            writes_per_second=settings.kubernetes.status_writes_per_second,
            meter=metrics.kube,
        )
        self._secrets = Secrets(self._client, meter=metrics.kube)
        self._publisher = Publisher(settings.nats, metrics.bus)
        self._alert_publisher = AlertPublisher(settings.nats, metrics.bus)
        self._monitor: Monitor | None = None
        self._sweeper: Sweeper | None = None

    def stop(self) -> None:
        """End the work in order; `run` returns when that is done."""
        self._stop.set()

    async def run(self, informer: Informer) -> None:
        """Work until `stop` is called.

        Raises what no waiting would mend: `KubeConfigError`, `CrdMissingError`,
        `ClusterIdError`, `ApiRefusedError`, `DatabaseRefusedError`, `SchemaError`,
        `HttpPortError`, `InformerEndedError` and `WatchStalledError`.
        """
        try:
            await self._open("http", self._http)
            await self._open("kubernetes client", self._client)
            await self._open("lease client", self._lease_client)
            await self._open("telemetry", self._telemetry)
            await _until_one_ends(stop=self._stop.wait(), work=self._work(informer))
        finally:
            await self._close()

    async def _work(self, informer: Informer) -> None:
        cluster_id, closed = await self._cluster()
        shells = Shells(self._settings.ssh, closed=closed)
        store = Store(
            self._settings.postgres,
            cluster_id=cluster_id,
            namespaces=self._settings.kubernetes.namespaces,
            meter=self._metrics.store,
        )
        relay = self._make_relay(store)
        self._monitor = monitor = self._make_monitor(store, shells, relay)
        changes = Changes(
            fleet=monitor,
            statuses=self._board,
            settings=self._settings.kubernetes,
            allow_trust_on_first_use=self._settings.ssh.allow_trust_on_first_use,
        )
        self._sweeper = sweeper = self._make_sweeper(
            monitor, changes, store, cluster_id
        )
        self._closers.append(("ssh", shells.close_all))
        await self._open("database", store)
        await self._open("message bus", self._publisher)
        await self._open("alerts on the bus", self._alert_publisher)
        await self._open("secrets", self._secrets)

        async def lead(term: Term) -> None:
            await self._lead(term, monitor, shells, store, relay)

        await _until_one_ends(
            database=self._prepare(store),
            sweep=sweeper.run(),
            informer=self._inform(informer, changes),
            elector=self._make_elector().run(lead),
        )

    async def _lead(
        self,
        term: Term,
        monitor: Monitor,
        shells: Shells,
        store: Store,
        relay: Relay,
    ) -> None:
        """Work for one term; all of it has ended when this returns."""
        await relay.open()
        try:
            alerts = await relay.load(late=monitor.adopt)
            await self._board.open(may_write=term.valid)
            await monitor.start(alerts)
            await store.keep_up()
        finally:
            await self._retire(term, monitor, store, relay)
            await shells.disconnect()

    async def _retire(
        self, term: Term, monitor: Monitor, store: Store, relay: Relay
    ) -> None:
        """End what a term does, and what it has to say while it may."""
        if not term.valid():
            # Another replica may write already: all at once, the writers too.
            store.roster.forget_all()
            await asyncio.gather(
                monitor.stop(), self._board.close(drain=0), relay.close(drain=0)
            )
            return
        await monitor.stop()
        drain = min(_DRAIN_SECONDS, term.left() / 2)
        await asyncio.gather(self._board.close(drain=drain), relay.close(drain=drain))

    async def _prepare(self, store: Store) -> None:
        await store.prepare()
        self._log.info("The database is ready")
        await self._stop.wait()

    def _make_elector(self) -> Elector:
        replica = self._settings.replica
        return Elector(
            self._lease_client,
            namespace=replica.lease_namespace or self._lease_client.namespace,
            name=f"{replica.instance}-shard-0-of-1",
            identity=self._identity,
            meter=self._metrics.lease,
        )

    def _make_relay(self, store: Store) -> Relay:
        return Relay(
            database=store.alerts,
            file=alert_file(self._settings.replica.spool_dir),
            sinks=[
                EventSink(self._client, identity=self._identity),
                self._alert_publisher,
            ],
            meter=self._metrics.notify,
        )

    def _make_monitor(self, store: Store, shells: Shells, relay: Relay) -> Monitor:
        clock = Clock()
        host_keys = HostKeys(store.pins)
        return Monitor(
            collector=Collector(
                shells=shells,
                credentials=self._secrets,
                host_keys=host_keys,
                clock=clock,
                chance=random.random,
            ),
            host_keys=host_keys,
            credentials=self._secrets,
            shells=shells,
            sinks=[store.samples, self._publisher],
            roster=store.roster,
            board=self._board,
            alerts=AlertDesk(relay),
            meter=self._telemetry,
            clock=clock,
        )

    def _make_sweeper(
        self, monitor: Monitor, changes: Changes, store: Store, cluster_id: str
    ) -> Sweeper:
        async def present() -> set[ServerId]:
            try:
                return await self._inventory.list_present()
            except (ApiAwayError, ApiRefusedError, CrdMissingError) as error:
                raise TryAgainLaterError(str(error)) from error

        async def recorded() -> set[ServerId]:
            namespaces = self._settings.kubernetes.namespaces
            try:
                return await store.roster.known(cluster_id, namespaces)
            except StoreError as error:
                raise TryAgainLaterError(str(error)) from error

        return Sweeper(
            monitor, present=present, recorded=recorded, gone=changes.server_gone
        )

    async def _cluster(self) -> tuple[str, tuple[Network, ...]]:
        """Return the cluster's id and own networks, once the API server answers."""
        while True:
            try:
                await self._inventory.require_crd()
                cluster_id = await self._inventory.cluster_id()
                networks = await cluster_networks(self._client)
            except ApiAwayError as error:
                self._log.warning("Waiting for the Kubernetes API", why=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return cluster_id, networks

    async def _inform(self, informer: Informer, changes: Changes) -> None:
        """Run the watches; stop them with their own flag, never by cancelling."""
        ready, stop = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(
            informer(changes, ready=ready, stop=stop), name="watches"
        )

        async def end() -> None:
            stop.set()
            await asyncio.wait({watching})

        self._closers.insert(0, ("watches", end))
        await asyncio.wait({watching})
        error = None if watching.cancelled() else watching.exception()
        if error is not None:
            raise InformerEndedError("the watch of the resources failed") from error
        # kopf took a signal that came before our handler was back in its place.
        self.stop()

    def _ailments(self) -> list[str]:
        monitor = self._monitor.problems() if self._monitor is not None else []
        return monitor + self._telemetry.problems()

    def _obstacles(self) -> list[str]:
        if self._sweeper is None:
            return ["the Kubernetes API has not answered yet"]
        return self._sweeper.obstacles()

    async def _open(self, name: str, part: _Part) -> None:
        await part.open()
        self._closers.append((name, part.close))

    async def _close(self) -> None:
        """Close in reverse; the watches last, whose end takes every younger task."""
        while self._closers:
            name, close = self._closers.pop()
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await close()
            except TimeoutError:
                self._log.warning("A part did not close in time", part=name)


class _Part(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _until_one_ends(**works: Coroutine[None, None, object]) -> None:
    """Run all, end the others when the first ends, and raise what that one raised."""
    tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
