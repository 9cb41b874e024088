"""Forced collections: heard, paced, and answered where they cannot be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostwatch.model.reason import Reason
from hostwatch.model.sample import CollectResult
from hostwatch.monitor.request import EVERY, Pace, acknowledged_as, is_valid
from hostwatch.monitor.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.server import ServerId
    from hostwatch.monitor.clock import Clock
    from hostwatch.monitor.watch import Watch


class ForcedRuns:
    """Starts a run for each request that a server's annotation makes.

    ``find`` returns a server that is still watched, ``start`` begins a run, ``answer``
    shows a result. A request is answered at least once: it stays with its `Watch`
    until a run that began after it has ended.
    """

    def __init__(
        self,
        *,
        find: Callable[[ServerId], Watch | None],
        start: Callable[[Watch], None],
        answer: Callable[[Watch, CollectResult], None],
        clock: Clock,
    ) -> None:
        self._find = find
        self._start = start
        self._answer = answer
        self._clock = clock
        self._pace = Pace()
        self._places: dict[ServerId, float] = {}
        self._schedule = Schedule(self._due)

    async def run(self) -> None:
        """Start what is due, for ever."""
        await self._schedule.run()

    def clear(self) -> None:
        """Forget what is planned."""
        self._schedule.clear()
        self._places.clear()

    def heed(self, watch: Watch) -> None:
        """Answer the annotation that asks for a collection, or plan one."""
        asked = watch.server.collect_request
        if not watch.wants(asked):
            return
        refused = _refusal(watch, asked)
        if refused is None:
            self.plan(watch)
            return
        answer = CollectResult(
            request=acknowledged_as(asked),
            succeeded=False,
            reason=refused,
            finished_at=self._clock.now(),
            duration_milliseconds=0,
        )
        self._answer(watch, watch.answered(answer))

    def plan(self, watch: Watch, *, after_failure: bool = False) -> None:
        """Plan a run: now, or a while after one that ended without an answer.

        A server keeps the place it has: asking more often takes none from others.
        """
        if watch.server.id in self._places:
            return
        start = self._clock.monotonic()
        if after_failure:
            start += EVERY
        if watch.forced_at is not None:
            start = max(start, watch.forced_at + EVERY)
        self._schedule.put(watch.server.id, start)

    def _due(self, server: ServerId, _when: float) -> None:
        placed = self._places.pop(server, None)
        watch = self._find(server)
        if watch is None or watch.runnable() is None or not watch.requested:
            return
        if watch.task is not None:
            return  # planned again when that run ends
        now = self._clock.monotonic()
        start = now if placed is not None else self._pace.reserve(now)
        if start > now:
            self._places[server] = start
            self._schedule.put(server, start)
            return
        self._start(watch)


def _refusal(watch: Watch, asked: str) -> Reason | None:
    """Return why a request can only be answered with a failure."""
    if watch.key is None:
        return Reason.INVALID_ORGANIZATION
    if watch.server.spec is None or not is_valid(asked):
        return Reason.INVALID_SPEC
    return None
