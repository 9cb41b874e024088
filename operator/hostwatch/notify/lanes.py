"""Errands in their order, of which those of one namespace may have to wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.kept import Errand


@dataclass(slots=True)
class _Lane:
    failures: int = 0
    until: float = inf
    errands: deque[Errand] = field(default_factory=deque)


class Lanes:
    """A queue in which the errands of a namespace can be passed over for a while.

    A namespace has one organization, so what concerns an organization alone is kept
    apart too. Within a namespace the order stays.
    """

    def __init__(self) -> None:
        self._queue: deque[Errand] = deque()
        self._held: dict[str, _Lane] = {}

    def __len__(self) -> int:
        """Return how many errands there are, those passed over included."""
        return len(self._queue) + self.held

    @property
    def held(self) -> int:
        """How many errands are passed over, as far as that was seen."""
        return sum(len(lane.errands) for lane in self._held.values())

    def put(self, errand: Errand) -> None:
        """Append an errand."""
        self._queue.append(errand)

    def next(self, now: float) -> Errand | None:
        """Return whose turn it is, which stays so until `end` or `hold`."""
        for lane in self._held.values():
            if lane.until <= now:
                return lane.errands[0]
        while self._queue:
            lane_of_first = self._held.get(_namespace(self._queue[0]))
            if lane_of_first is None:
                return self._queue[0]
            lane_of_first.errands.append(self._queue.popleft())
        return None

    def due_at(self) -> float:
        """Return when the first that was passed over has its turn."""
        return min((lane.until for lane in self._held.values()), default=inf)

    def failures(self, errand: Errand) -> int:
        """Return how often in a row its namespace was passed over."""
        lane = self._held.get(_namespace(errand))
        return lane.failures if lane else 0

    def hold(self, errand: Errand, until: float) -> None:
        """Pass over the namespace of the errand whose turn it is."""
        namespace = _namespace(errand)
        lane = self._held.get(namespace)
        if lane is None:
            lane = self._held[namespace] = _Lane()
            lane.errands.append(self._queue.popleft())
        lane.failures += 1
        lane.until = until

    def end(self, errand: Errand) -> None:
        """Take away the errand whose turn it is; its namespace waits no longer."""
        lane = self._held.pop(_namespace(errand), None)
        if lane is not None:
            self._queue.extendleft(reversed(lane.errands))
        self._queue.popleft()


def _namespace(errand: Errand) -> str:
    return errand.notification.alert.server.namespace
