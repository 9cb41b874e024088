"""From a host name to a TCP connection, to an allowed address only."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.errors import Translated
from hostwatch.ssh.threads import Threads

if TYPE_CHECKING:
    from hostwatch.ssh.destination import DestinationPolicy
    from hostwatch.ssh.limits import Limits

_MOST_ADDRESSES = 6

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that was checked, as the socket takes it."""

    family: socket.AddressFamily
    address: SocketAddress


class Resolver:
    """Finds the addresses of a host that may be dialled.

    In threads of its own: a name whose DNS servers are silent holds one for half a
    minute, long after its time is over, and must hold up nothing but other names of
    its namespace.
    """

    def __init__(self, policy: DestinationPolicy, limits: Limits) -> None:
        self._policy = policy
        self._time = limits.dns_time
        self._threads = Threads(limits.look_ups, each=limits.look_ups_each, name="dns")

    async def resolve(
        self, host: str, port: int, *, namespace: str, deadline: asyncio.Timeout
    ) -> list[Candidate]:
        """Return the allowed addresses, in the order of getaddrinfo(3).

        Raises `CollectionError`, also when all addresses are forbidden.
        """
        self._policy.check_port(port)
        with Translated(reached=False):
            try:
                found = (
                    _get_addresses(host, port, numeric=True)
                    if _is_address(host)
                    else await self._look_up(host, port, namespace, deadline)
                )
            except UnicodeError:
                raise CollectionError(
                    Reason.INVALID_SPEC, "spec.host is no host name and no IP address"
                ) from None
        return self._allowed(found, port)

    def close(self) -> None:
        """Give up what is being resolved."""
        self._threads.close()

    async def _look_up(
        self, host: str, port: int, namespace: str, deadline: asyncio.Timeout
    ) -> list[Candidate]:
        look_up = partial(_get_addresses, host, port)
        answer = await self._threads.start(namespace, deadline, look_up)
        try:
            async with asyncio.timeout(self._time):
                return await answer
        except TimeoutError:
            raise CollectionError(
                Reason.DNS_FAILED,
                f"no answer from DNS within {self._time:g} s: check the name servers "
                "of the cluster",
            ) from None

    def _allowed(self, found: list[Candidate], port: int) -> list[Candidate]:
        allowed, refusal = [], None
        for candidate in found:
            try:
                self._policy.check(ip_address(candidate.address[0]), port)
            except CollectionError as error:
                refusal = refusal or error
            else:
                allowed.append(candidate)
        if refusal is not None and not allowed:
            raise refusal
        return allowed[:_MOST_ADDRESSES]


async def dial(candidates: list[Candidate], *, time: float) -> socket.socket:
    """Connect to the first candidate that answers; raises `CollectionError`.

    All together have ``time`` seconds; those that come later keep their share.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + time
    failure: CollectionError | None = None
    for number, candidate in enumerate(candidates):
        share = (end - loop.time()) / (len(candidates) - number)
        try:
            with Translated(reached=False):
                async with asyncio.timeout(share):
                    return await _connect(candidate)
        except CollectionError as error:
            failure = error
    raise failure or CollectionError(Reason.DNS_FAILED, "the name has no address")


async def _connect(candidate: Candidate) -> socket.socket:
    sock = socket.socket(candidate.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, candidate.address)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _get_addresses(host: str, port: int, *, numeric: bool = False) -> list[Candidate]:
    flags = socket.AI_NUMERICHOST if numeric else 0
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags
    )
    return [
        Candidate(family, cast("SocketAddress", address))
        for family, _type, _protocol, _name, address in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
