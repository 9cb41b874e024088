"""The last state of the alerts on this replica's disk."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from hostwatch.model.kept import Kept
from hostwatch.store.alert_json import (
    UNREADABLE,
    read_alert,
    read_errand,
    read_state,
    write_alert,
    write_errand,
    write_state,
)

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Sequence

    from hostwatch.store.alert_json import Json

_T = TypeVar("_T")

_NAME = "alerts.json"
_VERSION = 1


def alert_file(directory: str) -> AlertFile | None:
    """Return the file in that directory; none where it is ``off``."""
    return None if directory == "off" else AlertFile(Path(directory))


class AlertFile:
    """One JSON file, replaced as a whole; only its owner may read it.

    It holds a line for each server with alerts, and one for each alert and errand that
    the database lacks. A line is made again only when its object is another one.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        self._log = structlog.get_logger(component="store", path=str(self._path))
        self._lines: dict[int, tuple[object, str]] = {}
        self._busy: Task[None] | None = None

    async def save(self, kept: Kept) -> None:
        """Replace the file; it is on the disk on return. Raises `OSError`.

        A disk that hangs keeps one thread, however often its callers give up.
        """
        while self._busy is not None and not self._busy.done():
            await asyncio.wait({self._busy})
        self._busy = asyncio.create_task(
            asyncio.to_thread(self._write, kept), name="last state of alerts"
        )
        self._busy.add_done_callback(_retrieve)
        await asyncio.shield(self._busy)

    async def load(self) -> Kept:
        """Return what was saved last.

        What cannot be understood is moved aside, and nothing is returned.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> Kept:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            self._log.warning("The alerts' file cannot be read", cause=error.strerror)
            return Kept()
        try:
            return _understand(json.loads(text))
        except (*UNREADABLE, RecursionError):
            self._move_aside()
            return Kept()

    def _move_aside(self) -> None:
        aside = self._path.with_name(f"{_NAME}.bad")
        self._log.warning(
            "The alerts' file is damaged, it is moved aside", to=str(aside)
        )
        try:
            self._path.replace(aside)
        except OSError as error:
            self._log.warning("The file cannot be moved", cause=error.strerror)

    def _write(self, kept: Kept) -> None:
        text = self._text(kept).encode()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f".{_NAME}.new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(new, flags, 0o600), "wb") as file:  # noqa: PTH123 - a mode
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        _sync(self._path.parent)

    def _text(self, kept: Kept) -> str:
        old, self._lines = self._lines, {}

        def lines(items: Sequence[_T], write: Callable[[_T], Json]) -> str:
            for item in items:
                # Held since the last time, so no other object has its id.
                line = old[id(item)][1] if id(item) in old else _dump(write(item))
                self._lines[id(item)] = (item, line)
            return ",\n".join(self._lines[id(item)][1] for item in items)

        return (
            f'{{"version":{_VERSION},\n'
            f'"servers":[\n{lines(kept.servers, write_state)}],\n'
            f'"ended":[\n{lines(kept.ended, write_alert)}],\n'
            f'"errands":[\n{lines(kept.errands, write_errand)}]}}\n'
        )


def _dump(written: Json) -> str:
    return json.dumps(written, separators=(",", ":"))


def _sync(directory: Path) -> None:
    """Bring the directory's entry to the disk: else a power cut keeps the old file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _understand(read: Any) -> Kept:
    if read["version"] != _VERSION:
        raise ValueError("another version wrote it")
    return Kept(
        tuple(read_state(state) for state in read["servers"]),
        tuple(read_alert(alert) for alert in read["ended"]),
        tuple(read_errand(errand) for errand in read["errands"]),
    )


def _retrieve(task: Task[None]) -> None:
    """Look at the error of a save that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
