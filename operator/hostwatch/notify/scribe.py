"""The ledger kept up to date with the memory, and at the start the other way round."""

from __future__ import annotations

import asyncio
import contextlib
from math import inf
from typing import TYPE_CHECKING

import structlog

from hostwatch.health.alerts import end_all
from hostwatch.model.alert import EndedReason
from hostwatch.model.kept import Kept
from hostwatch.model.reason import TryAgainLaterError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from hostwatch.model.alert import Alert, Notification
    from hostwatch.model.kept import Errand, ServerAlerts
    from hostwatch.model.server import ServerId
    from hostwatch.notify.memory import Memory
    from hostwatch.notify.ports import Ledger

    Active = dict[ServerId, tuple[Alert, ...]]

_PATIENCE = 5.0
"""Seconds that a start waits for the database."""

_HOLD_UP = 2.0
"""Seconds that telling waits for the database."""

_TICK = 1.0
_PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts, the last one again and again."""


class Scribe:
    """Writes what the ledger lacks; while it is away that waits and nothing else.

    ``written`` is called after each write.
    """

    def __init__(
        self,
        ledger: Ledger,
        memory: Memory,
        *,
        sinks: Sequence[str],
        clock: Callable[[], datetime],
        written: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._memory = memory
        self._sinks = sinks
        self._clock = clock
        self._written = written
        self._log = structlog.get_logger(component="notify")
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._progress = asyncio.Condition()
        self._away = False
        self._failures = 0
        # Servers that went on without what the ledger has of them; None: it was read.
        self._advanced: set[ServerId] | None = None
        # What the ledger had of servers not written since; None: it was not read.
        self._before: dict[ServerId, ServerAlerts] | None = None
        self._late: Callable[[Active], None] | None = None

    async def merge(self, late: Callable[[Active], None] | None) -> None:
        """Bring what the memory has to the ledger and begin with what that makes of it.

        Where it does not answer in 5 s, that is done by `run`, which tells ``late``.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._merge()
        except TimeoutError:
            self._away, self._advanced, self._late = True, set(), late
            self._before = None
            self._log.warning("The database is away: its alerts are taken up later")

    def recorded(self, server: ServerId) -> None:
        """Note that a server has a newer state, which should be written soon."""
        if self._advanced is not None:
            self._advanced.add(server)

    def wake(self) -> None:
        """Write soon what is due."""
        self._some.set()

    def stop(self) -> None:
        """Let `run` end once all is written, or at the first failure."""
        self._stopping.set()
        self._some.set()

    async def run(self) -> None:
        """Write for ever, until `stop`."""
        while True:
            stopping = self._stopping.is_set()
            batch = self._next_batch(inf if stopping else _now())
            if batch or self._advanced is not None:
                if not await self._try(batch) and stopping:
                    return
            elif stopping:
                return
            else:
                await _wait_for(self._some, _TICK)
                self._some.clear()

    async def until_written(self, errands: Collection[Errand]) -> None:
        """Wait for the ledger to have them, but not long, nor while it is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_UP), self._progress:
                await self._progress.wait_for(
                    lambda: self._away or not self._memory.unwritten(errands)
                )

    async def _merge(self) -> None:
        while True:
            try:
                self._before = _by_server(await self._ledger.load(self._sinks))
                while batch := self._next_batch(inf):
                    await self._write(batch)
                kept = await self._ledger.load(self._sinks)
            except TryAgainLaterError as error:
                self._log.debug("The database has no alerts yet", cause=str(error))
                await asyncio.sleep(_PAUSES[0])
            else:
                self._before = None
                self._memory.clear()
                self._memory.adopt(kept, written=True, now=_now())
                return

    def _next_batch(self, until: float) -> Kept:
        """Return what to write; nothing before the ledger was read at the start."""
        if self._before is not None:
            self._end_lost(self._before)
        elif self._advanced is not None:
            return Kept()
        return self._memory.next_batch(until)

    def _end_lost(self, before: dict[ServerId, ServerAlerts]) -> None:
        """Tell the end of what a write would end in the ledger without a word.

        Another replica told of it, and this one, which could not know, goes on
        without it or told of the same anew under another id.
        """
        for server, theirs in before.items():
            ours = self._memory.state_of(server)
            if ours is None:
                continue
            if server in (self._advanced or ()) or ours.as_of >= theirs.as_of:
                self._memory.tell(self._ends(theirs), at=self._clock())

    def _ends(self, state: ServerAlerts) -> list[Notification]:
        lost, at = self._memory.lacks(state), self._clock()
        ends = (end_all((alert,), at, EndedReason.SUPERSEDED) for alert in lost)
        return [notification for end in ends for notification in end.notifications]

    async def _write(self, batch: Kept) -> None:
        await self._ledger.save(batch)
        self._memory.written(batch, _now())
        if self._before is not None:
            for state in batch.servers:
                self._before.pop(state.server.id, None)

    async def _try(self, batch: Kept) -> bool:
        """Write a batch, or where there is none read what was not read at the start.

        That is read twice: before anything is written, and as the ledger merged it.
        """
        try:
            if batch:
                await self._write(batch)
            elif self._before is None:
                kept = await self._ledger.load(self._sinks)
                self._before = _by_server(kept)
                # A beginning that waits there must be told before its end.
                errands = Kept(errands=kept.errands)
                self._memory.adopt(errands, written=True, now=_now())
            else:
                self._take_late(await self._ledger.load(self._sinks))
        except TryAgainLaterError as error:
            await self._note(away=True, cause=str(error))
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._failures += 1
            await _wait_for(self._stopping, pause)
            return False
        self._failures = 0
        await self._note(away=False)
        self._written()
        return True

    def _take_late(self, kept: Kept) -> None:
        """Replace what is known of servers that did not go on; end what others left."""
        advanced, self._advanced = self._advanced or set(), None
        self._before = None
        known = {s.server.id for s in self._memory.everything().servers}
        stale, left = known - advanced, advanced - known
        current = tuple(s for s in kept.servers if s.server.id not in advanced)
        self._memory.forget(stale)
        self._memory.adopt(Kept(current, (), kept.errands), written=True, now=_now())
        at = self._clock()
        for state in kept.servers:
            if state.server.id in advanced:
                self._memory.tell(self._ends(state), at=at)
            if state.server.id in left:
                self._memory.record(state.server, (), (), at=at, now=_now())
        if self._late is not None:
            alerts: Active = dict.fromkeys(stale, ())
            self._late(alerts | {s.server.id: s.alerts for s in current})

    async def _note(self, *, away: bool, cause: str = "") -> None:
        """Say once that it went away or came back, and let nobody wait for it."""
        if away and not self._away:
            self._log.warning(
                "Alerts wait for the database, they are told all the same", cause=cause
            )
        elif self._away and not away:
            self._log.info("Alerts are in the database again")
        self._away = away
        async with self._progress:
            self._progress.notify_all()


def _by_server(kept: Kept) -> dict[ServerId, ServerAlerts]:
    return {state.server.id: state for state in kept.servers}


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
