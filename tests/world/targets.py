"""Targets and shells for tests that connect to a server of this machine."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import asyncssh

from hostwatch.model.credential import Credential, HostTrust, Target
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.settings import SshSettings

if TYPE_CHECKING:
    from hostwatch.ssh.shells import Shells

SCRIPT = (
    "sh -c '"
    'printf "HOSTWATCH 1\\n"; while read -r word id; do case $word in '
    'all) printf "BEGIN %s\\n%s\\nEND %s\\n" "$id" "$$ $word" "$id";; '
    "*) exit 3;; esac; done'"
)
"""Speaks the protocol of the real script; an answer is its pid and the word."""

LOOPBACK_ALLOWED = SshSettings(allowed_destinations=(ip_network("127.0.0.0/8"),))

WITHIN = 20


def server_key(name: str = "web-1", namespace: str = "acme") -> ServerKey:
    """Return a server whose id is made of its name."""
    id_ = ServerId(f"id-of-{namespace}-{name}")
    return ServerKey(id_, namespace, name, Organization(namespace))


def target_of(at: Any, /, **changes: Any) -> Target:
    """Return how to reach a server of the test world.

    ``changes`` replace members. Twice for one server makes two different targets: its
    private key is written anew.
    """
    values = {
        "server": server_key(),
        "host": at.host,
        "port": at.port,
        "user": getattr(at, "user", "hostwatch"),
        "credential": Credential("1", private_key=at.private_key.encode()),
        "trust": HostTrust(known_hosts=at.known_hosts),
    }
    return Target(**(values | changes))


def target_at(host: str, port: int) -> Target:
    """Return how to reach a server that is believed whatever its key."""
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh")
    credential = Credential("1", private_key=key)
    trust = HostTrust(first_use=True)
    return Target(server_key(), host, port, "hostwatch", credential, trust)


async def open_shell(shells: Shells, target: Target, *, within: float = WITHIN) -> Any:
    """Open a shell with a deadline of its own."""
    async with asyncio.timeout(within) as deadline:
        return await shells.open(target, deadline)


async def ask(shells: Shells, target: Target, *, within: float = WITHIN) -> str:
    """Open and ask, as a collection does."""
    async with asyncio.timeout(within) as deadline:
        shell = await shells.open(target, deadline)
        return await shell.ask("all")
