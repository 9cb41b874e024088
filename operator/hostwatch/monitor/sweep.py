"""Deletions that no watch told of: the servers that exist against those we know."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.reason import TryAgainLaterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from hostwatch.model.server import ServerId
    from hostwatch.monitor.monitor import Monitor

    Servers = Callable[[], Awaitable[AbstractSet[ServerId]]]
    """Lists servers; raises `TryAgainLaterError` where nobody answers."""

EVERY = 60.0
"""Seconds between two sweeps."""

PATIENCE = 120.0
"""Seconds that a server may exist without the watch having told of it."""

_RETRY = 5.0
_UNTIL_SYNCED = 1.0


class WatchStalledError(Exception):
    """The watch does not tell of servers that exist; only a new one will."""


class Sweep:
    """Decides which servers are gone: those absent from two lists running."""

    def __init__(self) -> None:
        self._absent: frozenset[ServerId] = frozenset()

    def gone(
        self, known: AbstractSet[ServerId], present: AbstractSet[ServerId]
    ) -> set[ServerId]:
        """Compare a list with what is known; a server that is back starts anew."""
        absent = known - present
        gone = absent & self._absent
        self._absent = frozenset(absent - gone)
        return set(gone)


class Sweeper:
    """Sweeps for ever, and knows whether every server that exists is known.

    ``present`` lists what the API server has, ``recorded`` what the database holds as
    not deleted, ``gone`` is told of each deletion.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        present: Servers,
        recorded: Servers,
        gone: Callable[[ServerId], None],
    ) -> None:
        self._monitor = monitor
        self._present = present
        self._recorded = recorded
        self._gone = gone
        self._sweep = Sweep()
        self._trouble = "the Kubernetes API has not answered yet"
        self._synced = False
        self._missed: dict[ServerId, float] = {}
        self._log = structlog.get_logger(component="sweep")

    def obstacles(self) -> list[str]:
        """Return what keeps this replica from being ready, in sentences."""
        obstacles = [self._trouble] if self._trouble else []
        if not self._synced:
            obstacles.append("not every server is known yet")
        return obstacles

    async def run(self) -> None:
        """Sweep every minute; more often while something is amiss.

        Raises `WatchStalledError`: kopf may miss that a CRD was put back, when it asks
        the API server for its resources a moment too early.
        """
        while True:
            self._monitor.started.clear()
            pause = await self._once()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._monitor.started.wait()

    async def _once(self) -> float:
        """Sweep, and return the seconds until the next time."""
        try:
            present = await self._present()
        except TryAgainLaterError as error:
            if not self._trouble:
                self._log.warning("The servers cannot be listed", why=str(error))
            self._trouble = "the Kubernetes API does not answer"
            self._missed = {}  # the watch had no chance either
            return _RETRY if self._synced else _UNTIL_SYNCED
        if self._trouble and self._synced:
            self._log.info("The servers can be listed again")
        self._trouble = ""
        known = self._monitor.servers()
        self._note_missed(present - known)
        self._synced = self._synced or not self._missed
        if not self._synced:
            return _UNTIL_SYNCED
        await self._remove(known, present)
        return _RETRY if self._missed else EVERY

    def _note_missed(self, missed: AbstractSet[ServerId]) -> None:
        now = asyncio.get_running_loop().time()
        self._missed = {server: self._missed.get(server, now) for server in missed}
        if any(now - since > PATIENCE for since in self._missed.values()):
            raise WatchStalledError(
                f"{len(missed)} servers exist that the watch does not tell of"
            )

    async def _remove(
        self, known: AbstractSet[ServerId], present: AbstractSet[ServerId]
    ) -> None:
        if self._monitor.works:
            known |= self._monitor.alerting()
            try:
                known |= await self._recorded()
            except TryAgainLaterError:
                self._log.debug("The servers in the database are compared later")
        for server in self._sweep.gone(known, present):
            self._log.info("A server is gone without a word", server_id=server)
            self._gone(server)
