"""The bytes of one connection, on their way between the socket and asyncssh.

asyncssh bounds neither what comes before a login ends (banners) nor what fills the
space between packets of data (MSG_IGNORE, stderr). And it writes each packet by
itself: a question and the MSG_IGNORE before it would wake both machines twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from hostwatch.model.reason import CollectionError, Reason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import asyncssh

    from hostwatch.ssh.limits import Limits


class Wire(asyncio.Protocol):
    """Passes on what arrives until its allowance is used up, then cuts the line.

    To asyncssh it is the transport.
    """

    def __init__(
        self, connection: asyncssh.SSHClientConnection, limits: Limits
    ) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] | None = None
        self._limits = limits
        self._logged_in = False
        self._left = limits.login_bytes

    def allow_sample(self) -> None:
        """Allow the bytes of one more sample from now on."""
        self._left = self._limits.sample_bytes

    def login_is_over(self) -> None:
        """Count as samples what comes from now on."""
        self._logged_in = True
        self.allow_sample()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell asyncssh, as its transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._connection.connection_made(cast("asyncio.Transport", self))

    def data_received(self, data: bytes) -> None:
        """Pass on data, or end the connection."""
        self._left -= len(data)
        if self._left < 0:
            self._connection.connection_lost(self._excess())
        else:
            self._connection.data_received(data)

    def eof_received(self) -> None:
        """Tell asyncssh."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell asyncssh."""
        self._transport = None
        self._connection.connection_lost(exc)

    def hold(self) -> None:
        """Keep what is written until `release`, to send it at once."""
        self._held = []

    def release(self) -> None:
        """Send what was kept."""
        held, self._held = self._held, None
        if held:
            self.write(b"".join(held))

    def write(self, data: bytes) -> None:
        """Send data."""
        if self._held is not None:
            self._held.append(data)
        elif self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close the socket; what was written last may be lost."""
        if self._transport is not None:
            self._transport.abort()

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return what the socket's transport knows."""
        if self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)

    def _excess(self) -> CollectionError:
        if self._logged_in:
            return CollectionError(
                Reason.OUTPUT_TOO_LARGE,
                f"the server sent more than {self._limits.sample_bytes // 1024} KiB "
                "for one sample: check what its login shell prints, and its mounts",
                reached=True,
            )
        return CollectionError(
            Reason.CONNECTION_LOST,
            f"the server sent more than {self._limits.login_bytes // 1024} KiB before "
            "the login was over: shorten its banner, or check what answers there",
            reached=True,
        )


class SocketTunnel:
    """Gives asyncssh a connected socket, with a `Wire` in between.

    asyncssh takes it as it would take a connection through another server (its option
    ``tunnel``), the one way to stand below it that its interface has.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock: socket.socket | None = sock
        self._limits = limits
        self._wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        """The bytes of the connection, once asyncssh has connected."""
        if self._wire is None:
            raise RuntimeError("asyncssh has not connected yet")
        return self._wire

    async def create_connection(
        self, factory: Callable[..., Any], _host: str, _port: int
    ) -> tuple[asyncio.Transport, asyncssh.SSHClientConnection]:
        """Join the socket to the connection that ``factory`` makes."""
        connection = cast("asyncssh.SSHClientConnection", factory())
        self._wire = wire = Wire(connection, self._limits)
        sock, self._sock = self._sock, None
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: wire, sock=sock
        )
        return transport, connection

    def close(self) -> None:
        """Close the socket unless a connection has it."""
        if self._sock is not None:
            self._sock.close()
