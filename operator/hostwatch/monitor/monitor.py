"""The fleet and its rhythm: who is due, who runs, and what becomes of a sample."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.alert import EndedReason
from hostwatch.model.reason import CollectionError, TryAgainLaterError
from hostwatch.model.server import Organization, ServerKey
from hostwatch.monitor.collect import Job
from hostwatch.monitor.forced import ForcedRuns
from hostwatch.monitor.grid import Grid
from hostwatch.monitor.journal import Journal
from hostwatch.monitor.ports import Urgency
from hostwatch.monitor.schedule import Schedule
from hostwatch.monitor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from hostwatch.model.alert import Alert
    from hostwatch.model.sample import CollectResult
    from hostwatch.model.server import Server, ServerId, ServerSpec
    from hostwatch.monitor.alerting import AlertDesk
    from hostwatch.monitor.clock import Clock
    from hostwatch.monitor.collect import Collector
    from hostwatch.monitor.hostkeys import HostKeys
    from hostwatch.monitor.ports import (
        Credentials,
        Meter,
        Roster,
        SampleSink,
        Shells,
        StatusBoard,
    )


class Monitor:
    """Watches every server it was told of, while it works.

    The cache of servers and namespaces is kept warm whether or not it works; `start`
    and `stop` begin and end the work itself.
    """

    def __init__(
        self,
        *,
        collector: Collector,
        host_keys: HostKeys,
        credentials: Credentials,
        shells: Shells,
        sinks: Iterable[SampleSink],
        roster: Roster,
        board: StatusBoard,
        alerts: AlertDesk,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._collector = collector
        self._host_keys = host_keys
        self._credentials = credentials
        self._shells = shells
        self._sinks = tuple(sinks)
        self._roster = roster
        self._board = board
        self._alerts = alerts
        self._meter = meter
        self._clock = clock
        self._log = structlog.get_logger(component="monitor")
        self._journal = Journal(self._log)
        self._watches: dict[ServerId, Watch] = {}
        self.started = asyncio.Event()
        """Set when a term begins: whoever compares anew begins at once."""
        self._suspended: set[ServerId] = set()
        self._organizations: dict[str, Organization | None] = {}
        self._slots = Schedule(self._slot_due)
        self._forced = ForcedRuns(
            find=self._watches.get,
            start=lambda watch: self._run(watch, lateness=0.0),
            answer=self._show,
            clock=clock,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._runs: set[asyncio.Task[None]] = set()

    # The fleet

    def servers(self) -> frozenset[ServerId]:
        """Return the servers that are known."""
        return frozenset(self._watches)

    def organize(self, namespace: str, organization: Organization | None) -> None:
        """Take a namespace's organization; None where it names none that is valid."""
        if self._organizations.get(namespace, ...) == organization:
            return
        self._organizations[namespace] = organization
        for watch in list(self._watches.values()):
            if watch.server.namespace == namespace:
                self._place(watch, changed=True)

    def update(self, server: Server) -> None:
        """Take a server as the API server has it now."""
        watch = self._watches.get(server.id)
        if watch is None:
            watch = self._watches[server.id] = self._watch(server)
            self._place(watch, changed=True)
            return
        old, watch.server = watch.server, server
        changed = old.spec != server.spec
        if changed:
            watch.renew(old.spec)
        if old.accept_host_key != server.accept_host_key:
            watch.hold, changed = None, True
        self._place(watch, changed=changed)

    def remove(self, server: ServerId) -> None:
        """Forget a server: its resource is gone."""
        watch = self._watches.pop(server, None)
        self._board.drop(server)
        self._suspended.discard(server)
        if self.works:
            self._alerts.end(server, EndedReason.SERVER_DELETED, self._clock.now())
            self._roster.gone(server, self._clock.now())
        self._roster.forget(server)
        if watch is None:
            return
        self._rest(watch)
        self._host_keys.forget(server)
        if watch.key is not None:
            self._meter.gone(watch.key)
        if self.works:
            self._count(watch)

    # The work

    @property
    def works(self) -> bool:
        """Whether this replica is the one that works now."""
        return bool(self._tasks)

    async def start(
        self, alerts: Mapping[ServerId, tuple[Alert, ...]] = MappingProxyType({})
    ) -> None:
        """Begin to work: every server is due at once, in the order of its slots.

        ``alerts`` are those of the last term. What an earlier term of our own knew is
        forgotten: another replica may have worked since, and the status has its word.
        """
        self._alerts.restore(alerts)
        self._host_keys.clear()
        self.started.set()
        self._tasks = [
            asyncio.create_task(self._slots.run(), name="slots"),
            asyncio.create_task(self._forced.run(), name="forced runs"),
        ]
        for server in [watch.server for watch in self._watches.values()]:
            watch = self._watches[server.id] = self._watch(server)
            self._place(watch, changed=True)

    def adopt(self, alerts: Mapping[ServerId, tuple[Alert, ...]]) -> None:
        """Take alerts of the last term that were found out after `start`."""
        self._alerts.adopt(alerts)
        for server in alerts:
            watch = self._watches.get(server)
            if watch is not None and watch.suspended:
                why = EndedReason.SERVER_SUSPENDED
                self._alerts.end(server, why, self._clock.now())

    def alerting(self) -> frozenset[ServerId]:
        """Return who alerts; those that are gone are the sweep's to find."""
        return self._alerts.holders()

    async def stop(self) -> None:
        """End the work: nothing is collected, stored or shown when this returns."""
        tasks, self._tasks = self._tasks, []
        self._slots.clear()
        self._forced.clear()
        ending = [*tasks, *self._runs]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._meter.watching(0, 0)

    def problems(self) -> list[str]:
        """Return what keeps the work from going on, for the health endpoint."""
        return [f"task {t.get_name()} has ended" for t in self._tasks if t.done()]

    def _watch(self, server: Server) -> Watch:
        return Watch(server, self._board.shown(server.id))

    def _place(self, watch: Watch, *, changed: bool) -> None:
        """Put a server where its spec and its namespace say it belongs."""
        namespace = watch.server.namespace
        if namespace not in self._organizations:
            return
        self._identify(watch, self._organizations[namespace])
        if not self._tasks:
            return
        if watch.key is not None:
            self._roster.seen(watch.key, watch.server)
        self._count(watch)
        spec = watch.runnable()
        if spec is not None and not spec.suspend:
            if changed:
                self._begin(watch, spec)
        else:
            if changed:
                self._rest(watch)
                self._end_alerts(watch, spec)
            self._show_news(watch)
        self._forced.heed(watch)

    def _end_alerts(self, watch: Watch, spec: ServerSpec | None) -> None:
        """End a suspended server's alerts; of an invalid one nothing is known."""
        if spec is not None:
            why = EndedReason.SERVER_SUSPENDED
            self._alerts.end(watch.server.id, why, self._clock.now())

    def _identify(self, watch: Watch, organization: Organization | None) -> None:
        server = watch.server
        key = None
        if organization is not None:
            key = ServerKey(server.id, server.namespace, server.name, organization)
        if watch.key is not None and key != watch.key:
            self._meter.gone(watch.key)
            if self.works:
                why = EndedReason.ORGANIZATION_CHANGED
                self._alerts.end(server.id, why, self._clock.now())
        watch.key = key

    def _begin(self, watch: Watch, spec: ServerSpec) -> None:
        """Make a server due now, and on its grid from then on."""
        watch.since = self._clock.monotonic()
        grid, epoch = Grid.of(watch.server.id, spec.interval), self._clock.epoch()
        running = watch.task is not None
        slot = grid.after(epoch) if running else grid.last(epoch)
        watch.again = running
        self._slots.put(watch.server.id, self._clock.monotonic_of(slot))
        if watch.is_new():
            self._show_news(watch)

    def _rest(self, watch: Watch) -> None:
        """Leave a server alone, and close what is open to it.

        A request that its run was to answer is planned anew by who calls.
        """
        self._slots.drop(watch.server.id)
        watch.again, watch.requested = False, ""
        task, watch.task = watch.task, None
        if task is not None:
            task.cancel()
        self._start(self._shells.close(watch.server.id), "close")

    # Due times

    def _slot_due(self, server: ServerId, when: float) -> None:
        watch = self._watches.get(server)
        spec = watch.runnable() if watch is not None else None
        if watch is None or watch.key is None or spec is None:
            return
        now = self._clock.monotonic()
        # A timer may be a moment early; that slot is this one, not the next.
        early = max(0.0, when - now)
        slot = Grid.of(server, spec.interval).after(self._clock.epoch() + early)
        self._slots.put(server, self._clock.monotonic_of(slot))
        if watch.task is not None:
            self._meter.skipped(watch.key)
            return
        self._run(watch, lateness=max(0.0, now - max(when, watch.since)))

    # One run

    def _run(self, watch: Watch, *, lateness: float) -> None:
        key, spec = watch.key, watch.runnable()
        if key is None or spec is None:
            return
        watch.again = False
        if watch.requested:
            watch.forced_at = self._clock.monotonic()
        watch.task = self._start(
            self._guarded(watch, key, spec, lateness),
            f"collect {key.namespace}/{key.name}",
        )

    def _start(
        self, work: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return task

    async def _guarded(
        self, watch: Watch, key: ServerKey, spec: ServerSpec, lateness: float
    ) -> None:
        """Run one collection; the one place where nothing may escape."""
        log = self._log.bind(
            server=key.name, namespace=key.namespace, organization=key.organization
        )
        request = watch.requested
        try:
            if request or not await self._held(watch, key, spec):
                await self._collect(watch, key, spec, request, lateness)
        except TryAgainLaterError as error:
            self._meter.gave_up(key, str(error))
            log.debug("Collection given up", why=str(error))
        except Exception:
            self._meter.gave_up(key, "an error of our own")
            log.exception("Collection given up on an error of our own")
        finally:
            # A run that was cancelled may end after its successor began.
            current = watch.task is asyncio.current_task()
            if current:
                watch.task = None
        if current and self._watches.get(key.id) is watch and self._tasks:
            self._go_on(watch, request)

    def _go_on(self, watch: Watch, request: str) -> None:
        """Start what was asked for meanwhile, or try a request again later."""
        if watch.again:
            self._run(watch, lateness=0.0)
        elif watch.requested:
            self._forced.plan(watch, after_failure=watch.requested == request)

    async def _held(self, watch: Watch, key: ServerKey, spec: ServerSpec) -> bool:
        """Tell whether a server that refused us is still to be left alone."""
        hold = watch.hold
        if hold is None or self._clock.monotonic() >= hold.until:
            return False
        try:
            credential = await self._credentials.get(key.namespace, spec.secret_name)
        except CollectionError:
            return False
        return credential.version == hold.secret

    async def _collect(
        self,
        watch: Watch,
        key: ServerKey,
        spec: ServerSpec,
        request: str,
        lateness: float,
    ) -> None:
        job = Job(
            server=key,
            resource=watch.server,
            spec=spec,
            failing=watch.failures > 0,
            shown=watch.pinned,
            history=tuple(watch.history),
        )
        outcome = await self._collector.collect(job)
        if (watch.key, watch.runnable()) != (key, spec):
            return  # collected by what no longer holds; the next run is planned
        before = watch.outcome
        sample = watch.finished(key, spec, outcome)
        watch.hold_back(outcome, spec, self._clock.monotonic())
        for sink in self._sinks:
            sink.put(sample)
        if not spec.suspend:
            self._alerts.judge(
                sample, spec, failure=outcome.failure, failures=watch.failures
            )
        self._meter.collected(sample, duration=outcome.duration, lateness=lateness)
        self._journal.note(sample, outcome, before)
        self._show(watch, watch.result(request, outcome, self._clock.now()))

    # What is shown

    def _show(self, watch: Watch, result: CollectResult | None = None) -> None:
        state = watch.state(self._key_of(watch), result)
        urgency = Urgency.CHANGE if watch.is_news(state) else Urgency.REFRESH
        self._board.show(state, Urgency.FORCED if result else urgency)

    def _show_news(self, watch: Watch) -> None:
        """Show what changed without a collection: suspended, invalid, or new."""
        state = watch.state(self._key_of(watch), None)
        if watch.is_news(state):
            self._board.show(state, Urgency.CHANGE)

    def _key_of(self, watch: Watch) -> ServerKey:
        server = watch.server
        return watch.key or ServerKey(
            server.id, server.namespace, server.name, Organization("")
        )

    def _count(self, watch: Watch) -> None:
        """Keep the number of servers up to date, at no cost that grows with it."""
        server = watch.server.id
        if watch.suspended and server in self._watches:
            self._suspended.add(server)
        else:
            self._suspended.discard(server)
        self._meter.watching(len(self._watches), len(self._suspended))
