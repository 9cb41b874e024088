"""When a server is due: a fixed grid that survives restarts and spreads the load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.server import ServerId

_HALF = 32
_LOW = (1 << _HALF) - 1


def hash_of(server: ServerId) -> int:
    """Return the 64-bit BLAKE2b (RFC 7693) of a uid: the same in every replica."""
    return int.from_bytes(blake2b(server.encode(), digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of one server: epoch seconds ``phase + n x interval``."""

    interval: float
    phase: float

    @classmethod
    def of(cls, server: ServerId, interval: float) -> Grid:
        """Return a server's grid; its phase is the hash's high half."""
        return cls(interval, (hash_of(server) >> _HALF) / (_LOW + 1) * interval)

    def after(self, epoch: float) -> float:
        """Return the first slot later than that time."""
        slots = math.floor((epoch - self.phase) / self.interval) + 1
        return self.phase + slots * self.interval

    def last(self, epoch: float) -> float:
        """Return the last slot at or before that time."""
        return self.after(epoch) - self.interval
