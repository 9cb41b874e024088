"""The last state on this replica's disk, as new as it must be."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.kept import Kept

if TYPE_CHECKING:
    from hostwatch.notify.memory import Memory
    from hostwatch.notify.meter import NotifyMeter
    from hostwatch.notify.ports import LastState

_DEADLINE = 1.0
"""Seconds that a disk may hold up an alert."""


class Saver:
    """Saves the memory once it is due; a disk that fails is said once and passed by."""

    def __init__(
        self, file: LastState | None, memory: Memory, *, meter: NotifyMeter
    ) -> None:
        self._file = file
        self._memory = memory
        self._meter = meter
        self._log = structlog.get_logger(component="notify")
        self._due = inf
        self._failing = False

    @property
    def reliable(self) -> bool:
        """Whether what was saved last is on the disk."""
        return self._file is not None and not self._failing

    def due_in(self, seconds: float) -> None:
        """Let something new be saved by then."""
        self._due = min(self._due, asyncio.get_running_loop().time() + seconds)

    async def load(self) -> Kept:
        """Return what was saved last, as far as it can be read."""
        if self._file is None:
            return Kept()
        try:
            async with asyncio.timeout(_DEADLINE):
                return await self._file.load()
        except TimeoutError:
            self._log.warning("The last state of alerts cannot be read in time")
            return Kept()

    async def save(self) -> None:
        """Save what is known, if that is due."""
        if self._file is None or self._due > asyncio.get_running_loop().time():
            return
        self._due = inf
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._file.save(self._memory.everything())
        except OSError as error:  # TimeoutError is one
            self._note_failure(error.strerror or "no answer in time")
        else:
            if self._failing:
                self._log.info("The last state of alerts is saved again")
            self._failing = False

    def _note_failure(self, cause: str) -> None:
        self._meter.file_failed()
        if not self._failing:
            self._log.warning(
                "The last state of alerts cannot be saved: only the database has them",
                cause=cause,
            )
        self._failing = True
        self.due_in(5)
