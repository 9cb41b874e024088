"""Alerts on their way: to the disk, to the database, to whoever must hear of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from hostwatch.notify.memory import Memory
from hostwatch.notify.outlet import Outlet
from hostwatch.notify.saver import Saver
from hostwatch.notify.scribe import Scribe

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.kept import Errand, Outcome
    from hostwatch.model.server import ServerId, ServerKey
    from hostwatch.notify.meter import NotifyMeter
    from hostwatch.notify.ports import LastState, Ledger, Sink

    Active = dict[ServerId, tuple[Alert, ...]]

_TICK = 1.0
_REFRESH = 5.0
"""Seconds that the last state may lack news of numbers and times only."""

_OUTCOME = 0.5
"""Seconds that it may lack what became of an errand: the database has it sooner."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Relay:
    """Keeps alerts and tells of them, so that a restart neither repeats nor forgets.

    In this order: the last state in ``file``, the ``database`` in one transaction with
    the errands, the ``sinks``, and what became of it in both. A file that cannot be
    written and a database that is away hold nothing up: then a restart may repeat
    what was told, under the same id and number.
    """

    def __init__(
        self,
        *,
        database: Ledger,
        file: LastState | None,
        sinks: Sequence[Sink],
        meter: NotifyMeter,
        clock: Callable[[], datetime] = _utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._file = file
        self._sinks = tuple(sinks)
        self._meter = meter
        self._clock = clock
        self._chance = chance
        self._log = structlog.get_logger(component="notify")

    async def open(self) -> None:
        """Make ready for `load`; opened again it knows nothing of before."""
        names = tuple(sink.name for sink in self._sinks)
        self._memory = Memory(names, full=self._overflow)
        self._overflowed = False
        self._saver = Saver(self._file, self._memory, meter=self._meter)
        self._scribe = Scribe(
            self._database,
            self._memory,
            sinks=names,
            clock=self._clock,
            written=lambda: self._saver.due_in(_REFRESH),
        )
        self._outlets = {sink.name: self._make_outlet(sink) for sink in self._sinks}
        self._loaded = asyncio.Event()
        self._news = asyncio.Event()
        self._stopping = False
        self._keeper = self._start("alerts", self._keep)
        self._writer = self._start("alerts to the database", self._scribe.run)
        self._tellers = [
            self._start(f"alerts to {name}", outlet.run)
            for name, outlet in self._outlets.items()
        ]

    async def load(self, late: Callable[[Active], None] | None = None) -> Active:
        """Return what a former term left, once after `open`; what waits is told.

        File and database are merged by the database, newer over older. It is waited
        for 5 s; then the file alone serves, and ``late`` is told once the database is
        back: of each server not recorded by then, all its alerts.
        """
        kept = await self._saver.load()
        self._memory.adopt(kept, written=False, now=_now())
        await self._scribe.merge(late)
        self._loaded.set()
        self._saver.due_in(0)
        self._news.set()
        return self._memory.active()

    def record(
        self,
        server: ServerKey,
        alerts: tuple[Alert, ...],
        notifications: tuple[Notification, ...],
    ) -> None:
        """Keep a server's alerts as they are now, and tell what happened; at once.

        Between `load` and `close`.
        """
        self._scribe.recorded(server.id)
        news = self._memory.record(
            server, alerts, notifications, at=self._clock(), now=_now()
        )
        self._saver.due_in(0 if news else _REFRESH)
        if news:
            self._news.set()
            self._scribe.wake()

    async def close(self, *, drain: float = 3.0) -> None:
        """Tell and write what waits, within ``drain`` seconds, then stop.

        What is not told by then is told after the next `load`.
        """
        loaded = self._loaded.is_set()
        until = _now() + (drain if loaded else 0)
        self._stopping = True
        self._news.set()
        await _end([self._keeper], until)
        for outlet in self._outlets.values():
            outlet.stop()
        await _end(self._tellers, until)
        self._scribe.stop()
        await _end([self._writer], until)
        if loaded:
            self._saver.due_in(0)
            await self._saver.save()
            self._note_lost()

    async def _keep(self) -> None:
        """Save the last state, let the database follow, and only then tell."""
        while not self._stopping or self._news.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._news.wait()
            self._news.clear()
            fresh = self._memory.take_fresh()
            await self._saver.save()
            await self._scribe.until_written(fresh)
            for errand in fresh:
                self._outlets[errand.sink].put(errand)
            self._count_waiting()

    def _done(self, errand: Errand, outcome: Outcome) -> None:
        self._memory.end(errand, outcome, self._clock())
        self._count_waiting()
        self._saver.due_in(_OUTCOME)
        self._scribe.wake()

    def _count_waiting(self) -> None:
        self._meter.waiting(sum(map(len, self._outlets.values())))

    def _overflow(self, errand: Errand) -> None:
        self._meter.given_up(errand.sink)
        if not self._overflowed:
            self._log.error("Too many notifications wait, new ones are given up")
        self._overflowed = True

    def _note_lost(self) -> None:
        """Say what no restart will tell: neither the disk nor the database has it."""
        lost = self._memory.next_batch().errands
        if lost and not self._saver.reliable:
            self._log.warning("Notifications are lost in the shutdown", some=len(lost))

    def _make_outlet(self, sink: Sink) -> Outlet:
        return Outlet(sink, done=self._done, meter=self._meter, chance=self._chance)

    def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> Task[None]:
        return asyncio.create_task(self._keep_running(name, run), name=name)

    async def _keep_running(
        self, name: str, run: Callable[[], Awaitable[None]]
    ) -> None:
        """Run one of the tasks to its own end, whatever mistake of ours it meets."""
        await self._loaded.wait()
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - the one runner of these tasks
                self._log.exception("A task failed and starts again", task=name)
                await asyncio.sleep(_TICK)
            else:
                return


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _end(tasks: Collection[Task[None]], until: float) -> None:
    """Wait for the ends of the tasks until then, and end them for good."""
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, until - _now()))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
