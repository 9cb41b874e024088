"""One long-lived shell with the script in it: greeting, question, answer.

The script greets with ``HOSTWATCH <version>``; a question is a line of a word and a
fresh id, an answer stands between the lines ``BEGIN <id>`` and ``END <id>``.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.errors import Translated
from hostwatch.ssh.options import WINDOW
from hostwatch.ssh.output import Output

if TYPE_CHECKING:
    import asyncssh

    from hostwatch.model.server import Fingerprint
    from hostwatch.ssh.client import Client
    from hostwatch.ssh.keys import Login
    from hostwatch.ssh.limits import Limits
    from hostwatch.ssh.wire import Wire

_CLOSE_TIMEOUT = 1.0

# Noise without a line's end may stand before it (terminal titles do), but not what an
# echo of the script itself would have there.
_GREETING = re.compile(rb"(?:^|[^\w\"'])HOSTWATCH (\d{1,9})\r?\n")


class Shell:
    """A connection that is logged in, and the script that answers in it."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        *,
        client: Client,
        wire: Wire,
        login: Login,
        limits: Limits,
    ) -> None:
        self._connection = connection
        self._client = client
        self._wire = wire
        self._limits = limits
        self._output = Output()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._asking = asyncio.Lock()
        self._closed = False
        self.login = login
        self.version = 0

    @property
    def host_key(self) -> Fingerprint:
        """The key that the server proved to hold."""
        return self._client.host_key

    @property
    def alive(self) -> bool:
        """Whether it may be asked, as far as is known here."""
        return not (
            self._closed or self._output.failure or self._connection.is_closed()
        )

    async def start(self, script: str) -> None:
        """Run the script and read its version; raises `CollectionError`."""
        try:
            async with asyncio.timeout(self._limits.greeting_time):
                await self._greet(script)
        except TimeoutError:
            self.abort()
            raise CollectionError(
                Reason.COMMAND_FAILED,
                f"no script started within {self._limits.greeting_time:g} s: check the "
                "start-up files of the user's login shell, and the forced command",
                reached=True,
            ) from None
        except BaseException:
            self.abort()
            raise

    async def ask(self, word: str) -> str:
        """Return the body of one document; the shell is closed when this fails.

        Bytes that are no UTF-8 come as U+FFFD. Raises `CollectionError`.
        """
        async with self._asking:
            if not self.alive or self._channel is None:
                raise self._output.failure or _closed()
            try:
                return await self._ask(word, self._channel)
            except BaseException:
                # Also when cancelled: the answer would meet the next question.
                self.abort()
                raise

    async def close(self) -> None:
        """Take leave of the server and close the connection."""
        self._closed = True
        self._output.fail(_closed())
        self._connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._connection.wait_closed()

    def abort(self) -> None:
        """Close the connection at once."""
        self._closed = True
        self._output.fail(_closed())
        self._connection.abort()

    async def _greet(self, script: str) -> None:
        greeting = self._output.expect(
            _find_greeting, limit=self._limits.noise_bytes, excess=_noisy
        )
        try:
            with Translated(reached=True):
                self._channel, _ = await self._connection.create_session(
                    lambda: self._output, script, encoding=None, window=WINDOW
                )
        except CollectionError:
            if self._client.lost is None:
                raise
            # No session was refused: the connection ended meanwhile.
            raise self._client.lost from None
        self.version = await greeting
        self._output.take()
        if self.version < 0:
            raise self._output.failure or _closed()

    async def _ask(self, word: str, channel: asyncssh.SSHClientChannel[bytes]) -> str:
        request = secrets.token_hex(8).encode()
        end = b"\nEND %b\n" % request
        answer = self._output.expect(
            lambda buffer, start: buffer.find(end, start),
            limit=self._limits.document_bytes,
            excess=_too_long,
        )
        self._wire.allow_sample()
        self._wire.hold()
        with Translated(reached=True):
            channel.write(b"%b %b\n" % (word.encode(), request))
        self._wire.release()
        stop = await answer
        taken = self._output.take()
        if stop < 0:
            raise self._output.failure or _closed()
        return _body(taken, request, stop)


def _find_greeting(buffer: bytearray, start: int) -> int:
    """Return the version that the greeting names, -1 before it is complete."""
    found = _GREETING.search(buffer, start)
    return int(found[1]) if found else -1


def _body(taken: bytearray, request: bytes, stop: int) -> str:
    """Return what stands between the marks; ``stop`` is where the end mark begins."""
    begin = b"BEGIN %b\n" % request
    start = taken.find(begin, 0, stop + 1)
    if start < 0 or (start > 0 and taken[start - 1 : start] != b"\n"):
        raise CollectionError(
            Reason.OUTPUT_UNREADABLE,
            "the server's answer has an end but no beginning: check what its login "
            "shell prints, and the forced command",
            reached=True,
        )
    return taken[start + len(begin) : stop].decode("utf-8", "replace")


def _closed() -> CollectionError:
    return CollectionError(
        Reason.CONNECTION_LOST, "the connection was closed from here", reached=True
    )


def _noisy() -> CollectionError:
    return CollectionError(
        Reason.COMMAND_FAILED,
        "the login shell printed very much before the script started: make its "
        "start-up files silent",
        reached=True,
    )


def _too_long() -> CollectionError:
    return CollectionError(
        Reason.OUTPUT_TOO_LARGE,
        "the answer is far too long: check the number of mounts and network interfaces",
        reached=True,
    )
