"""The way to the API server: faults between a client and the real one, and counts."""

from __future__ import annotations

import json
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

from world.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from world.controlplane import ControlPlane

_HOP_BY_HOP = {"transfer-encoding", "content-length", "content-encoding", "connection"}


class CountingMeter:
    """Counts what the package ``kube`` tells."""

    def __init__(self) -> None:
        self.status: Counter[tuple[str, str]] = Counter()
        self.waiting = 0
        self.secrets = 0
        self.failures: Counter[int | None] = Counter()

    def status_written(self, urgency: str, outcome: str) -> None:
        self.status[urgency, outcome] += 1

    def status_waiting(self, states: int) -> None:
        self.waiting = states

    def secrets_cached(self, secrets: int) -> None:
        self.secrets = secrets

    def api_failed(self, status: int | None) -> None:
        self.failures[status] += 1


class FaultyApi:
    """Passes requests on to the real API server, unless a test answers first.

    ``requests`` holds "METHOD path" of each. ``before`` is called with each request;
    what it returns is the answer, and None passes the request on.
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self._target = control_plane.url
        self._trust = ssl.create_default_context(
            cafile=control_plane.certificate_authority
        )
        self._kubeconfig = json.loads(control_plane.kubeconfig.read_text())
        self._port = 0
        self.requests: list[str] = []
        self.before: Callable[[web.Request], Awaitable[web.Response | None]] = _pass_on

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, and return its path."""
        document: dict[str, Any] = self._kubeconfig
        document["clusters"][0]["cluster"] = {
            "server": f"http://{LOOPBACK}:{self._port}"
        }
        path.write_text(json.dumps(document))
        return path

    async def start(self) -> None:
        """Listen, on the same port as before if it was stopped."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections, and reset those that are open."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        answer = await self.before(request)
        if answer is not None:
            return answer
        async with self._session.request(
            request.method,
            f"{self._target}{request.rel_url}",
            headers={k: v for k, v in request.headers.items() if k != "Host"},
            data=await request.read(),
            ssl=self._trust,
        ) as passed:
            headers = {
                key: value
                for key, value in passed.headers.items()
                if key.lower() not in _HOP_BY_HOP
            }
            return web.Response(
                status=passed.status, headers=headers, body=await passed.read()
            )


async def _pass_on(_: web.Request) -> web.Response | None:
    return None
