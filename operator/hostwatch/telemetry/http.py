"""The three HTTP endpoints: /metrics, /healthz and /readyz."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    Problems = Callable[[], list[str]]
    """Sentences that say what is wrong; none when all is well."""

    Render = Callable[[str], tuple[bytes, str]]
    """From an Accept header to a page and its content type."""

_SHUTDOWN_SECONDS = 1.0
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class HttpPortError(OSError):
    """The port is taken or cannot be listened on; the message names the setting."""


class Endpoints:
    """Serves the operator's own state to Prometheus and to the kubelet.

    That `/healthz` answers at all shows that the event loop turns.
    """

    def __init__(
        self,
        port: int,
        *,
        render: Render,
        alive: Problems,
        ready: Problems,
    ) -> None:
        self.port = port
        self._render = render
        self._alive = alive
        self._ready = ready

    async def open(self) -> None:
        """Listen on all addresses; ``port`` then is the real one.

        Raises `HttpPortError`.
        """
        listener = _listen(self.port)
        self.port = listener.getsockname()[1]
        # One thread: pages are never rendered side by side, and a slow one keeps
        # nobody else from a thread.
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop listening, and end the requests under way within a second."""
        await self._runner.cleanup()
        self._renderer.shutdown(wait=False, cancel_futures=True)

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        page, content_type = await asyncio.get_running_loop().run_in_executor(
            self._renderer, self._render, accept
        )
        response = web.Response(body=page, headers={"Content-Type": content_type})
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            # A page above a kilobyte is compressed in a thread.
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._alive())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._ready())


def _answer(problems: list[str]) -> web.Response:
    if not problems:
        return web.Response(text="ok\n")
    return web.Response(status=503, text="".join(f"{line}\n" for line in problems))


def _listen(port: int) -> socket.socket:
    """Return one listening socket, for IPv6 and IPv4 where the host has both."""
    try:
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(_NoIPv6Error):
                return _listen_ipv6(port)
        return socket.create_server(("", port))
    except OSError as error:
        raise HttpPortError(
            f"cannot listen on port {port} for /metrics, /healthz and /readyz "
            f"({os.strerror(error.errno or 0)}); HOSTWATCH_HTTP_PORT chooses another",
        ) from None


class _NoIPv6Error(Exception):
    """The kernel knows IPv6, but no interface has it."""


def _listen_ipv6(port: int) -> socket.socket:
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True
        )
    except OSError as error:
        if error.errno in _NO_IPV6:
            raise _NoIPv6Error from None
        raise
