"""The open connections, at most one per server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.probes.script import compose
from hostwatch.ssh.connection import Connector
from hostwatch.ssh.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.credential import Target
    from hostwatch.model.server import ServerId
    from hostwatch.settings import SshSettings
    from hostwatch.ssh.destination import Network
    from hostwatch.ssh.shell import Shell

_DEFAULT = Limits()

_SHORTEST_IDLE = 900


def script_for(interval: int) -> str:
    """Return the script that ends by itself when three slots brought no question."""
    return compose(idle_seconds=max(_SHORTEST_IDLE, 3 * interval))


@dataclass
class _Line:
    """What is open to one server, and for whom ``lock`` is held while that changes."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shell: Shell | None = None
    target: Target | None = None
    ends: float = 0.0


class Shells:
    """Opens shells and keeps the persistent ones.

    ``script`` makes the command that starts the script from the interval in seconds;
    ``closed`` holds further networks, closed like `HOSTWATCH_CLUSTER_CIDRS`.
    """

    def __init__(
        self,
        settings: SshSettings,
        *,
        script: Callable[[int], str] = script_for,
        closed: tuple[Network, ...] = (),
        limits: Limits = _DEFAULT,
    ) -> None:
        self._limits = limits
        self._connector = Connector(
            settings, script=script, closed=closed, limits=limits
        )
        self._lines: dict[ServerId, _Line] = {}

    async def open(self, target: Target, deadline: asyncio.Timeout) -> Shell:
        """Return the live shell made from an equal target, or connect anew.

        The deadline stands still while the limits on connects and handshakes are
        reached. Raises `CollectionError`.
        """
        line = self._lines.get(target.server.id)
        if line is None:
            line = self._lines[target.server.id] = _Line()
        async with line.lock:
            if line.shell is not None:
                if self._is_good(line, target):
                    line.target = target
                    return line.shell
                shell, line.shell = line.shell, None
                await shell.close()
            shell = await self._connector.connect(target, deadline)
            if self._lines.get(target.server.id) is not line:
                shell.abort()
                raise CollectionError(
                    Reason.CONNECTION_LOST, "closed from here while it was opened"
                )
            line.shell, line.target = shell, target
            line.ends = asyncio.get_running_loop().time() + self._lifetime(target)
            return shell

    async def close(self, server: ServerId) -> None:
        """Close what is open to a server, or being opened; nothing open is fine."""
        line = self._lines.pop(server, None)
        if line is not None and line.shell is not None:
            await line.shell.close()

    async def close_all(self) -> None:
        """Close everything for good."""
        await self.disconnect()
        self._connector.close()

    async def disconnect(self) -> None:
        """Close every connection; an `open` under way fails with `CollectionError`."""
        lines, self._lines = list(self._lines.values()), {}
        shells = [line.shell for line in lines if line.shell is not None]
        await asyncio.gather(*(shell.close() for shell in shells))

    def _is_good(self, line: _Line, target: Target) -> bool:
        return (
            target.persistent
            and line.shell is not None
            and line.shell.alive
            and line.shell.login.holds
            and asyncio.get_running_loop().time() < line.ends
            and _is_same(line.target, target, line.shell)
        )

    def _lifetime(self, target: Target) -> float:
        """Spread the ends: what was opened together is not renewed together."""
        digest = blake2b(target.server.id.encode(), digest_size=4).digest()
        return self._limits.lifetime * (1 - int.from_bytes(digest, "big") / 2**32 / 10)


def _is_same(old: Target | None, new: Target, shell: Shell) -> bool:
    """Tell whether a shell made from one target serves another.

    A key that was accepted on first use and has become the pin changes nothing.
    """
    if old is None or old == new:
        return old is not None
    return new.trust.pin == shell.host_key and replace(old, trust=new.trust) == new
