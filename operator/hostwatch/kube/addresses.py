"""Addresses of the cluster itself, which no resource may make the operator dial."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from hostwatch.kube.client import ApiRefusedError

if TYPE_CHECKING:
    from hostwatch.kube.client import KubeClient

Network = IPv4Network | IPv6Network

_SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"


async def cluster_networks(client: KubeClient) -> tuple[Network, ...]:
    """Return the API server's addresses and the networks of Services.

    ServiceCIDRs are served since Kubernetes 1.33; where they are not, or may not be
    listed, HOSTWATCH_CLUSTER_CIDRS has to name them. Raises `ApiAwayError`.
    """
    return (*await _api_server(client.host), *await _services(client))


async def _api_server(url: str) -> list[Network]:
    host = urlsplit(url).hostname or ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, None, type=socket.SOCK_STREAM
        )
    except OSError:
        return []
    addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
    return [ip_network(ip_address(address)) for address in sorted(addresses)]


async def _services(client: KubeClient) -> list[Network]:
    try:
        listed = await client.get(_SERVICE_CIDRS)
    except ApiRefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            structlog.get_logger(component="kubernetes").warning(
                "The networks of Services stay open to collections unless "
                "HOSTWATCH_CLUSTER_CIDRS names them: servicecidrs cannot be listed",
                status=error.status,
            )
        return []
    return [
        ip_network(cidr)
        for item in listed.get("items") or ()
        for cidr in item.get("spec", {}).get("cidrs") or ()
    ]
