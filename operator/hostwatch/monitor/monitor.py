"""The fleet and its rhythm: who is due, who runs, and what becomes of a sample."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from hostwatch.model.sample import CollectResult, Failure
from hostwatch.model.server import Organization, ServerKey
from hostwatch.monitor import request as forced
from hostwatch.monitor.collect import Job
from hostwatch.monitor.grid import Grid
from hostwatch.monitor.ports import Urgency
from hostwatch.monitor.schedule import Schedule
from hostwatch.monitor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from hostwatch.model.sample import Sample, Shown
    from hostwatch.model.server import Server, ServerId, ServerSpec
    from hostwatch.monitor.clock import Clock
    from hostwatch.monitor.collect import Collector, Outcome
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
        self._meter = meter
        self._clock = clock
        self._log = structlog.get_logger(component="monitor")
        self._watches: dict[ServerId, Watch] = {}
        self._organizations: dict[str, Organization | None] = {}
        self._slots = Schedule(self._slot_due)
        self._forced = Schedule(self._forced_due)
        self._pace = forced.Pace()
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

    def update(self, server: Server, shown: Shown) -> None:
        """Take a server as the API server has it now.

        ``shown``, its status, counts only when the server is new here.
        """
        watch = self._watches.get(server.id)
        if watch is None:
            watch = self._watches[server.id] = Watch(server, shown)
            self._place(watch, changed=True)
            return
        old, watch.server = watch.server, server
        changed = old.spec != server.spec
        if changed:
            watch.renew()
        if old.accept_host_key != server.accept_host_key:
            watch.hold, changed = None, True
        self._place(watch, changed=changed)

    def remove(self, server: ServerId) -> None:
        """Forget a server: its resource is gone."""
        watch = self._watches.pop(server, None)
        if watch is None:
            return
        self._rest(watch)
        self._board.drop(server)
        self._roster.gone(server, self._clock.now())
        if watch.key is not None:
            self._host_keys.forget(watch.key)
            self._meter.gone(watch.key)
        self._count()

    # The work

    async def start(self) -> None:
        """Begin to work: every server is due at once, in the order of its slots."""
        self._tasks = [
            asyncio.create_task(self._slots.run(), name="slots"),
            asyncio.create_task(self._forced.run(), name="forced runs"),
        ]
        for watch in self._watches.values():
            self._place(watch, changed=True)

    async def stop(self) -> None:
        """End the work: nothing is collected, stored or shown when this returns."""
        tasks, self._tasks = self._tasks, []
        self._slots.clear()
        self._forced.clear()
        ending = [*tasks, *self._runs]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def problems(self) -> list[str]:
        """Return what keeps the work from going on, for the health endpoint."""
        return [f"task {t.get_name()} has ended" for t in self._tasks if t.done()]

    def _place(self, watch: Watch, *, changed: bool) -> None:
        """Put a server where its spec and its namespace say it belongs."""
        namespace = watch.server.namespace
        if namespace not in self._organizations:
            return
        self._identify(watch, self._organizations[namespace])
        if watch.key is not None:
            self._roster.seen(watch.key, watch.server)
        if not self._tasks:
            return
        self._count()
        spec = watch.runnable()
        if spec is not None and not spec.suspend:
            if changed:
                self._begin(watch, spec)
        elif changed:
            self._rest(watch)
        if spec is None or spec.suspend or watch.outcome is not None:
            self._show_news(watch)
        if spec is not None:
            self._heed(watch)

    def _identify(self, watch: Watch, organization: Organization | None) -> None:
        server = watch.server
        key = None
        if organization is not None:
            key = ServerKey(server.id, server.namespace, server.name, organization)
        if watch.key is not None and key != watch.key:
            self._meter.gone(watch.key)
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
        """Leave a server alone, and close what is open to it."""
        self._slots.drop(watch.server.id)
        watch.again = False
        if watch.task is not None:
            watch.task.cancel()
        self._start(self._shells.close(watch.server.id), "close")

    # Due times

    def _slot_due(self, server: ServerId, when: float) -> None:
        watch = self._watches.get(server)
        spec = watch.runnable() if watch is not None else None
        if watch is None or watch.key is None or spec is None:
            return
        slot = Grid.of(server, spec.interval).after(self._clock.epoch())
        self._slots.put(server, self._clock.monotonic_of(slot))
        if watch.task is not None:
            self._meter.skipped(watch.key)
            return
        self._run(watch, lateness=self._clock.monotonic() - max(when, watch.since))

    def _heed(self, watch: Watch) -> None:
        """Answer the annotation that asks for a collection, or plan one."""
        asked = watch.server.collect_request
        if not watch.wants(asked):
            return
        if not forced.is_valid(asked):
            now = self._clock.now()
            answer = CollectResult(
                request=forced.acknowledged_as(asked),
                succeeded=False,
                reason=Reason.INVALID_SPEC,
                finished_at=now,
                duration_milliseconds=0,
            )
            self._show(watch, watch.answered(answer))
            return
        start = self._pace.start(self._clock.monotonic(), watch.forced_at)
        self._forced.put(watch.server.id, start)

    def _forced_due(self, server: ServerId, _when: float) -> None:
        watch = self._watches.get(server)
        if watch is None or watch.runnable() is None or not watch.requested:
            return
        if watch.task is not None:
            watch.again = True
            return
        self._run(watch, lateness=0.0)

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
            watch.task = None
        if self._watches.get(key.id) is not watch or not self._tasks:
            return
        if watch.again:
            self._run(watch, lateness=0.0)
        elif request and watch.requested:
            self._forced.put(key.id, self._clock.monotonic() + forced.EVERY)

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
        before = watch.outcome
        sample = watch.finished(key, spec, outcome)
        watch.hold_back(outcome, spec, self._clock.monotonic())
        for sink in self._sinks:
            sink.put(sample)
        self._meter.collected(sample, duration=outcome.duration, lateness=lateness)
        self._tell(sample, outcome, before)
        self._show(watch, watch.result(request, outcome, self._clock.now()))

    def _tell(self, sample: Sample, outcome: Outcome, before: object) -> None:
        """Log what changed: once when a server begins to fail, once when it is back."""
        key, failure = sample.server, outcome.failure
        log = self._log.bind(
            server=key.name, namespace=key.namespace, organization=key.organization
        )
        was = before.reason if isinstance(before, Failure) else None
        if failure is not None:
            say = log.debug if failure.reason is was else log.warning
            say(
                "Collection failed",
                reason=failure.reason,
                detail=failure.detail,
                attempts=outcome.attempts,
            )
        elif was is not None:
            log.info("Collection works again", after=was, health=sample.status)
        else:
            log.debug(
                "Collected",
                health=sample.status,
                missing=dict(sample.metrics.missing),
            )

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

    def _count(self) -> None:
        suspended = sum(
            1
            for watch in self._watches.values()
            if watch.server.spec is not None and watch.server.spec.suspend
        )
        self._meter.watching(len(self._watches), suspended)
