"""Which samples carry the detail of each filesystem and interface."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwatch.model.sample import Sample
    from hostwatch.model.server import ServerId

_EVERY = timedelta(minutes=5)
_EARLY = timedelta(seconds=2)
"""How much a collection may come early and still count as 5 minutes later."""


class DetailPlan:
    """Chooses a server's first sample, one each 5 minutes, and each new set of mounts.

    The detail is two thirds of a row: at the pace of 30 seconds nine samples out of ten
    do without it. A sample without filesystems, failed ones first of all, is no change.
    """

    def __init__(self) -> None:
        self._last: dict[ServerId, tuple[datetime, frozenset[str]]] = {}

    def take(self, sample: Sample) -> bool:
        """Tell whether this sample carries the detail, and remember that it did."""
        metrics = sample.metrics
        if not metrics.filesystems and not metrics.interfaces:
            return False
        last_at, last_mounts = self._last.get(sample.server.id, (None, frozenset()))
        mounts = frozenset(f.mount_point for f in metrics.filesystems) or last_mounts
        if (
            last_at is not None
            and mounts == last_mounts
            and timedelta(0) <= sample.collected_at - last_at < _EVERY - _EARLY
        ):
            return False
        self._last[sample.server.id] = (sample.collected_at, mounts)
        return True

    def forget(self, server: ServerId) -> None:
        """Drop what is remembered of a server that is gone."""
        self._last.pop(server, None)
