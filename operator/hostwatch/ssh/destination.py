"""Where the operator may connect to: pure, decided on the address that is dialled."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.settings import port_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLOSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    # Class E with the broadcast address; every part of IPv6 that holds neither global
    # unicast (2000::/3) nor unique local addresses (fc00::/7), RFC 4291; and the
    # prefixes that a local translator maps to IPv4 in a way only it knows, RFC 8215.
    (
        "reserved",
        (
            "240.0.0.0/4",
            *("::/8", "100::/8", "200::/7", "400::/6", "800::/5", "1000::/4"),
            *("4000::/2", "8000::/2", "c000::/3", "e000::/4", "f000::/5", "f800::/6"),
            *("fe00::/9", "fec0::/10", "64:ff9b:1::/48"),
        ),
    ),
)

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


class DestinationPolicy:
    """Which addresses and ports may be dialled.

    Without ``allowed`` every unicast address that is not closed; with it only what it
    holds. Loopback and its like and ``cluster_cidrs`` are closed in both cases, and
    open through an allowed network only when that lies wholly inside them.
    ``allowed_ports`` is read by `port_ranges`.
    """

    def __init__(
        self,
        *,
        allowed: Iterable[Network] = (),
        cluster_cidrs: Iterable[Network] = (),
        allowed_ports: str = "1-65535",
    ) -> None:
        self._allowed = tuple(allowed)
        self._closed = tuple(
            (kind, ip_network(text)) for kind, texts in _CLOSED for text in texts
        ) + tuple(("cluster", network) for network in cluster_cidrs)
        self._ports = port_ranges(allowed_ports)

    def check(self, address: Address, port: int) -> None:
        """Raise `CollectionError` unless this address and port may be dialled."""
        self.check_port(port)
        inner = _unwrap(address)
        for kind, network in self._closed:
            if inner in network and not self._opens(inner, network):
                raise _forbidden(
                    f"the address of spec.host is {_KINDS[kind]}, which is closed; the "
                    "administrator can open a network inside it with "
                    "HOSTWATCH_ALLOWED_DESTINATIONS"
                )
        if self._allowed and not any(inner in network for network in self._allowed):
            raise _forbidden(
                "the address of spec.host is outside the networks that the "
                "administrator allowed with HOSTWATCH_ALLOWED_DESTINATIONS"
            )

    def check_port(self, port: int) -> None:
        """Raise `CollectionError` unless this port may be dialled."""
        if not any(port in ports for ports in self._ports):
            raise _forbidden(
                "spec.port is none of those that the administrator allowed with "
                "HOSTWATCH_ALLOWED_PORTS"
            )

    def _opens(self, address: Address, closed: Network) -> bool:
        return any(
            address in network and _lies_in(network, closed)
            for network in self._allowed
        )


_KINDS = {
    "loopback": "the operator's own (loopback)",
    "unspecified": "unspecified",
    "link-local": "link-local",
    "multicast": "a multicast group",
    "reserved": "reserved",
    "cluster": "inside the cluster (HOSTWATCH_CLUSTER_CIDRS)",
}


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one leads to, where there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return address


def _lies_in(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network) and isinstance(other, IPv4Network):
        return network.subnet_of(other)
    if isinstance(network, IPv6Network) and isinstance(other, IPv6Network):
        return network.subnet_of(other)
    return False


def _forbidden(detail: str) -> CollectionError:
    return CollectionError(Reason.DESTINATION_FORBIDDEN, detail)
