"""From a target to a shell: resolve, connect, exchange keys, log in, start."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import asyncssh
import structlog

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.client import Client
from hostwatch.ssh.destination import DestinationPolicy
from hostwatch.ssh.dial import Resolver, dial
from hostwatch.ssh.errors import Translated
from hostwatch.ssh.keys import Keyring
from hostwatch.ssh.options import options, prepare
from hostwatch.ssh.shell import Shell
from hostwatch.ssh.turns import Turns
from hostwatch.ssh.wire import SocketTunnel

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.credential import Target
    from hostwatch.settings import SshSettings
    from hostwatch.ssh.destination import Network
    from hostwatch.ssh.dial import Candidate
    from hostwatch.ssh.keys import Login
    from hostwatch.ssh.limits import Limits
    from hostwatch.ssh.trust import Trust


class Connector:
    """Makes shells; keeps none.

    ``script`` makes what the login shell is told to run from the interval in seconds;
    ``closed`` holds networks that are closed like the cluster's.
    """

    def __init__(
        self,
        settings: SshSettings,
        *,
        script: Callable[[int], str],
        closed: tuple[Network, ...],
        limits: Limits,
    ) -> None:
        policy = DestinationPolicy(
            allowed=settings.allowed_destinations,
            cluster_cidrs=(*settings.cluster_cidrs, *closed),
            allowed_ports=settings.allowed_ports,
        )
        prepare()
        self._script = script
        self._limits = limits
        self._resolver = Resolver(policy, limits)
        self._keyring = Keyring()
        self._connects = Turns(limits.connects)
        self._handshakes = Turns(limits.handshakes)
        self._log = structlog.get_logger(component="ssh")

    async def connect(self, target: Target, deadline: asyncio.Timeout) -> Shell:
        """Return a new shell; raises `CollectionError`."""
        started = asyncio.get_running_loop().time()
        namespace = target.server.namespace
        trust = await self._keyring.trust(target, deadline)
        login = await self._keyring.login(
            target.credential, namespace=namespace, deadline=deadline
        )
        login.check()
        candidates = await self._resolver.resolve(
            target.host, target.port, namespace=namespace, deadline=deadline
        )
        async with self._connects.turn(namespace, deadline):
            shell = await self._try_kinds(candidates, target, trust, login, deadline)
        await shell.start(self._script(target.interval))
        self._log.debug(
            "connected",
            server=target.server.name,
            namespace=namespace,
            organization=target.server.organization,
            host_key=shell.host_key,
            seconds=round(asyncio.get_running_loop().time() - started, 3),
        )
        return shell

    def close(self) -> None:
        """End the threads; connections are their owners' to close."""
        self._resolver.close()
        self._keyring.close()

    async def _try_kinds(
        self,
        candidates: list[Candidate],
        target: Target,
        trust: Trust,
        login: Login,
        deadline: asyncio.Timeout,
    ) -> Shell:
        """Connect, anew for each kind that the pinned key may be of.

        What does not lead to the pinned key ends in what the server showed first.
        """
        mismatch: CollectionError | None = None
        while True:
            client = Client(trust)
            try:
                return await self._try(candidates, target, client, login, deadline)
            except CollectionError as error:
                if client.believes:
                    raise
                mismatch = mismatch or error
                other = trust.without(client.presented)
                if other is None:
                    raise mismatch from None
            trust = other

    async def _try(
        self,
        candidates: list[Candidate],
        target: Target,
        client: Client,
        login: Login,
        deadline: asyncio.Timeout,
    ) -> Shell:
        sock = await dial(candidates, time=self._limits.connect_time)
        with closing(SocketTunnel(sock, self._limits)) as tunnel:
            async with self._handshakes.turn(target.server.namespace, deadline):
                return await self._log_in(tunnel, target, client, login)

    async def _log_in(
        self, tunnel: SocketTunnel, target: Target, client: Client, login: Login
    ) -> Shell:
        """Exchange keys and authenticate over a connected socket."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.login_time):
                with Translated(reached=True):
                    connection = await asyncssh.connect(
                        tunnel=cast("Any", tunnel),
                        client_factory=lambda: client,
                        **options(target, client.trust, login),
                    )
        except TimeoutError:
            raise CollectionError(
                Reason.CONNECT_TIMEOUT,
                f"the server did not finish the login within {limits.login_time:g} s: "
                "check its load, and that it is SSH that answers on this port",
                reached=True,
            ) from None
        except CollectionError as error:
            raise client.explain(error) from None
        wire = tunnel.wire
        wire.login_is_over()
        return Shell(connection, client=client, wire=wire, login=login, limits=limits)
