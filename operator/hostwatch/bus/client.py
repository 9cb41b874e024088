"""The library's client, without two of its habits."""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import PING_PROTO, Client


class PlainTextError(ConnectionError):
    """A server offers no TLS, and nothing was sent to it."""


class CarefulClient(Client):
    """Encrypts where it must, and pings behind what is published.

    With ``must_encrypt`` TLS begins where the server offers it, and one that does not
    raises `PlainTextError` before CONNECT. The library leaves TLS to the server, so
    that anyone who answers in its place would be given the password.
    """

    must_encrypt = False

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Queue it: the library's own overtakes the messages it should confirm."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_info(
        self,
        info: dict[str, Any],
        initial_connection: bool = False,  # noqa: FBT001, FBT002 - the library's
    ) -> None:
        if self.must_encrypt and info.get("tls_available"):
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        """Return what carries the login: the last moment to look."""
        if self.must_encrypt and not self._is_encrypted():
            raise PlainTextError(
                "the server offers no TLS, and the login is not sent in plain text: "
                "enable TLS in the server's configuration, or ask for none with "
                "nats:// in HOSTWATCH_NATS_URL and no HOSTWATCH_NATS_CA"
            )
        return super()._connect_command()

    def _is_encrypted(self) -> bool:
        """Ask the socket itself, but for a WebSocket, whose URL decides."""
        if self._current_server and self._current_server.uri.scheme == "wss":
            return True
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None
