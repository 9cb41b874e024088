"""Which server's status is written next. Pure: monotonic time comes in."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING

from hostwatch.kube.budget import INSTANT, refresh_interval
from hostwatch.kube.observed import Observed, is_newer
from hostwatch.kube.status import newest_of

if TYPE_CHECKING:
    from hostwatch.model.sample import ServerState
    from hostwatch.model.server import ServerId


class Urgency(IntEnum):
    """The order of writes, by the numbers that callers use; lower is sooner."""

    FORCED = 0
    CHANGE = 1
    REFRESH = 2


@dataclass(slots=True)
class Entry:
    """What is known of one server's status, and the state that waits to be written.

    ``writing`` keeps a second worker away while a write is under way.
    """

    observed: Observed | None = None
    state: ServerState | None = None
    urgency: Urgency = Urgency.REFRESH
    writing: bool = False
    shown: bool = False
    last_written: float | None = None
    failures: int = 0
    not_before: float = -inf
    wakes_at: float = inf

    def note(self, observed: Observed) -> None:
        """Take what the resource says, unless something newer is known."""
        if is_newer(observed, self.observed):
            self.observed = observed


@dataclass(frozen=True, slots=True)
class Job:
    """One state to write now."""

    entry: Entry
    state: ServerState
    urgency: Urgency


class Waiting:
    """The states that wait, the newest of each server only.

    Refreshes come up again no sooner than the fleet's size allows; news is up at once.
    """

    def __init__(self) -> None:
        self._entries: dict[ServerId, Entry] = {}
        self._ready: dict[Urgency, dict[ServerId, None]] = {u: {} for u in Urgency}
        self._later: list[tuple[float, ServerId]] = []
        self._fleet = 0
        self._states = 0

    def __len__(self) -> int:
        return self._states

    @property
    def has_news(self) -> bool:
        """Tell whether anything but refreshes is up."""
        return bool(self._ready[Urgency.FORCED] or self._ready[Urgency.CHANGE])

    def observe(self, server: ServerId, observed: Observed) -> None:
        """Note what a resource says, unless something newer is known."""
        self._entries.setdefault(server, Entry()).note(observed)

    def put(self, state: ServerState, urgency: Urgency, now: float) -> None:
        """Take a newer state in the place of the one that waits."""
        entry = self._entries.setdefault(state.server.id, Entry())
        if not entry.shown:
            entry.shown = True
            self._fleet += 1
        if entry.state is None:
            self._states += 1
            entry.state, entry.urgency = state, urgency
        else:
            entry.state = newest_of(entry.state, state)
            entry.urgency = min(entry.urgency, urgency)
        self._schedule(state.server.id, entry, now)

    def drop(self, server: ServerId) -> None:
        """Forget a server."""
        entry = self._entries.pop(server, None)
        if entry is None:
            return
        self._fleet -= entry.shown
        self._states -= entry.state is not None
        self._unqueue(server)

    def shown(self, server: ServerId) -> Observed | None:
        """Return what a resource's status said when it was last heard of."""
        entry = self._entries.get(server)
        return entry.observed if entry is not None else None

    def clear(self) -> None:
        """Forget every state, and keep what the resources say."""
        for entry in self._entries.values():
            entry.state, entry.writing, entry.shown = None, False, False
            entry.last_written, entry.wakes_at = None, inf
            entry.failures, entry.not_before = 0, -inf
        for ready in self._ready.values():
            ready.clear()
        self._later.clear()
        self._fleet = self._states = 0

    def wait(self, now: float) -> float:
        """Return the seconds until a job is up; infinite where none waits."""
        while self._later and self._later[0][0] <= now + INSTANT:
            due, server = heapq.heappop(self._later)
            entry = self._entries.get(server)
            if entry is not None and entry.wakes_at == due:
                entry.wakes_at = inf
                self._schedule(server, entry, now)
        if any(self._ready.values()):
            return 0.0
        return self._later[0][0] - now if self._later else inf

    def take(self) -> Job:
        """Return the most urgent job that is up; there must be one."""
        ready = next(ready for ready in self._ready.values() if ready)
        server = next(iter(ready))
        del ready[server]
        entry = self._entries[server]
        if entry.state is None:
            raise AssertionError("a server is up without a state")
        job = Job(entry, entry.state, entry.urgency)
        self._states -= 1
        entry.state, entry.writing = None, True
        return job

    def done(self, job: Job, now: float, *, written: bool) -> None:
        """End a job for good: its state is written, or never will be."""
        entry = job.entry
        entry.writing, entry.failures, entry.not_before = False, 0, -inf
        if written:
            entry.last_written = now
        if self._entries.get(job.state.server.id) is entry:
            self._schedule(job.state.server.id, entry, now)

    def again(self, job: Job, now: float, *, delay: float) -> None:
        """End a job that must be tried again after ``delay`` seconds."""
        entry = job.entry
        entry.writing, entry.not_before = False, now + delay
        if self._entries.get(job.state.server.id) is not entry:
            return
        if entry.state is None:
            self._states += 1
            entry.state, entry.urgency = job.state, job.urgency
        else:
            entry.state = newest_of(job.state, entry.state)
            entry.urgency = min(job.urgency, entry.urgency)
        self._schedule(job.state.server.id, entry, now)

    def _schedule(self, server: ServerId, entry: Entry, now: float) -> None:
        """Queue a server where its urgency and its pace say."""
        if entry.state is None or entry.writing:
            return
        self._unqueue(server)
        due = entry.not_before
        if entry.urgency is Urgency.REFRESH and entry.last_written is not None:
            # Refreshes are shown once per interval at most: the fleet alone paces.
            due = max(due, entry.last_written + refresh_interval(0, self._fleet))
        if due <= now + INSTANT:
            self._ready[entry.urgency][server] = None
        elif due < entry.wakes_at:
            entry.wakes_at = due
            heapq.heappush(self._later, (due, server))

    def _unqueue(self, server: ServerId) -> None:
        for ready in self._ready.values():
            ready.pop(server, None)
