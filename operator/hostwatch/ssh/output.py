"""What a shell prints, received for one reader that waits for one thing at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncssh

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.errors import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    Find = Callable[[bytearray, int], int]

_EXIT_GRACE = 1.0
"""Seconds between the end of the output and the exit status that explains it."""

_LOOK_BACK = 64
"""Bytes searched again with each arrival: what is looked for may come in two."""


class Output(asyncssh.SSHClientSession[bytes]):
    """Collects standard output while somebody waits; drops all else.

    Standard error too: left unread it would fill the window and stall the answers.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[int] | None = None
        self._find: Find = _never
        self._limit = 0
        self._excess = _ended_by_server
        self._exit = ""
        self.failure: CollectionError | None = None

    def expect(
        self, find: Find, *, limit: int, excess: Callable[[], CollectionError]
    ) -> asyncio.Future[int]:
        """Start to collect; the result is what ``find`` found, -1 after a failure.

        ``find`` is called with all bytes and where to search from. More than ``limit``
        bytes are the failure that ``excess`` makes.
        """
        self._buffer.clear()
        self._find, self._limit, self._excess = find, limit, excess
        self._waiting = waiting = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            waiting.set_result(-1)
        return waiting

    def take(self) -> bytearray:
        """Hand over what was collected; memory is held for no idle connection."""
        taken, self._buffer = self._buffer, bytearray()
        self._waiting = None
        return taken

    def fail(self, error: CollectionError) -> None:
        """End with an error, unless it ended before."""
        if self.failure is None:
            self.failure = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(-1)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Collect, and look for what is waited for."""
        waiting = self._waiting
        if waiting is None or datatype is not None or waiting.done():
            return
        buffer = self._buffer
        start = max(0, len(buffer) - _LOOK_BACK)
        buffer += data
        if len(buffer) > self._limit:
            self.fail(self._excess())
            return
        found = self._find(buffer, start)
        if found >= 0:
            waiting.set_result(found)

    def eof_received(self) -> bool:
        """Wait a moment for the exit status; without it the connection is broken."""
        asyncio.get_running_loop().call_later(_EXIT_GRACE, self._ended)
        return False

    def exit_status_received(self, status: int) -> None:
        """Note how the command ended."""
        self._exit = f"with exit status {status}"

    def exit_signal_received(
        self,
        signal: str,  # noqa: ARG002 - the server's text
        core_dumped: bool,  # noqa: ARG002, FBT001 - asyncssh's signature
        msg: str,  # noqa: ARG002
        lang: str,  # noqa: ARG002
    ) -> None:
        """Note how the command ended."""
        self._exit = "by a signal"

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the error that the connection ended with."""
        if exc is None:
            self._ended()
        else:
            self.fail(translate(exc, reached=True))

    def _ended(self) -> None:
        self.fail(_ended_by_itself(self._exit) if self._exit else _ended_by_server())


def _never(_buffer: bytearray, _start: int) -> int:
    return -1


def _ended_by_itself(how: str) -> CollectionError:
    return CollectionError(
        Reason.COMMAND_FAILED,
        f"the script on the server ended {how}: check that the user's login shell and "
        "forced command can run sh",
        reached=True,
    )


def _ended_by_server() -> CollectionError:
    return CollectionError(
        Reason.CONNECTION_LOST,
        "the server ended the connection: its own log says why",
        reached=True,
    )
