"""What can be wrong with a server, and what a tenant is told of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh

from fix_operator import Settled, Tenant, until
from world.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from world.scripted import ScriptedServer
    from world.sshd import OpenSSH


async def test_each_mistake_has_its_reason_and_stops_no_other_server(
    settled: Settled,
    tenant: Tenant,
    openssh: OpenSSH,
    credential_secret: Callable[..., str],
    real_server: dict[str, Any],
) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    strangers_key = stranger.export_private_key("openssh").decode()
    other_host = stranger.export_public_key("openssh").decode().strip()
    hosts = openssh.known_hosts
    credential_secret("wrong-key", ssh_privatekey=strangers_key, known_hosts=hosts)
    credential_secret("no-hosts", ssh_privatekey=openssh.private_key)
    credential_secret(
        "no-label",
        labelled=False,
        ssh_privatekey=openssh.private_key,
        known_hosts=hosts,
    )
    credential_secret("garbage", ssh_privatekey="not a key", known_hosts=hosts)
    mistakes: dict[str, dict[str, Any]] = {
        "DNSFailed": {"host": "no-such-host.invalid"},
        "ConnectionRefused": {"port": free_ports(1)[0]},
        "AuthenticationFailed": {"credentials": {"secretRef": {"name": "wrong-key"}}},
        "HostKeyMismatch": {"hostKey": {"knownHosts": other_host}},
        "HostKeyUnknown": {"credentials": {"secretRef": {"name": "no-hosts"}}},
        "SecretNotFound": {"credentials": {"secretRef": {"name": "missing"}}},
        "SecretForbidden": {"credentials": {"secretRef": {"name": "no-label"}}},
        "SecretInvalid": {"credentials": {"secretRef": {"name": "garbage"}}},
        "DestinationForbidden": {"host": "169.254.169.254", "port": 80},
        "InvalidSpec": {"thresholds": {"cpu": {"warning": 95}}},
        "Collected": {},
    }
    for reason, mistake in mistakes.items():
        tenant.apply(reason.lower(), **{**real_server, "retries": 0, **mistake})

    expected = {reason.lower(): reason for reason in mistakes}
    await until(lambda: tenant.reasons() == expected)

    log = settled.operator.lines(event="Collection failed", namespace=tenant.namespace)
    logged = {line["server"]: line["reason"] for line in log}
    assert logged == {
        name: reason
        for name, reason in expected.items()
        if reason not in ("Collected", "InvalidSpec")
    }
    assert {line["level"] for line in log} >= {"warning"}
    rows = await until(lambda: settled.samples("connectionrefused"))
    assert {(row["status"], row["reason"]) for row in rows} == {
        ("error", "ConnectionRefused")
    }
    assert {row["cpu_usage"] for row in rows} == {None}
    healthy = await until(lambda: settled.samples("collected"))
    assert {row["reason"] for row in healthy} == {None}
    text = settled.operator.log.read_text() + tenant.kubectl(
        "get", "msrv", "-o", "json"
    )
    assert strangers_key.splitlines()[1] not in text
    assert "PRIVATE KEY" not in text


CHATTY = 'printf "Welcome\\n\\033[31mto you\\n"; exec /bin/sh "$@"'


async def test_servers_that_answer_strangely_are_understood_or_named(
    tenant: Tenant,
    scripted_server: Callable[..., Awaitable[ScriptedServer]],
    credential_secret: Callable[..., str],
) -> None:
    async def nologin(process: Any, _command: str) -> None:
        process.stdout.write(b"This account is currently not available.\n")
        process.exit(1)

    async def not_linux(process: Any, _command: str) -> None:
        process.stdout.write(b"HOSTWATCH 1\n")
        async for line in process.stdin:
            number = line.split()[1]
            process.stdout.write(b"BEGIN %s\n\nEND %s\n" % (number, number))

    async def no_meminfo(process: Any, _command: str) -> None:
        process.stdout.write(b"HOSTWATCH 1\n")
        async for line in process.stdin:
            number = line.split()[1]
            body = (
                b"/proc/stat:cpu  1 0 1 8 0 0 0 0 0 0\n"
                b"/proc/loadavg:0.10 0.20 0.30 1/2 3\n"
                b"/proc/uptime:100.00 50.00\n\xff\xfe\n"
            )
            process.stdout.write(b"BEGIN %s\n%s\nEND %s\n" % (number, body, number))

    sessions: dict[str, tuple[dict[str, Any], str]] = {
        "tcsh": ({"shell": ["/usr/bin/tcsh"]}, "Collected"),
        "fish": ({"shell": ["/usr/bin/fish"]}, "Collected"),
        "zsh": ({"shell": ["/usr/bin/zsh"]}, "Collected"),
        "rbash": ({"shell": ["/bin/bash", "-r"]}, "Collected"),
        "busybox": ({"shell": ["/bin/busybox", "sh"]}, "Collected"),
        "banner": ({"shell": ["/bin/sh", "-c", CHATTY, "sh"]}, "Collected"),
        "nologin": ({"session": nologin}, "CommandFailed"),
        "not-linux": ({"session": not_linux}, "NotLinux"),
        "no-meminfo": ({"session": no_meminfo}, "Collected"),
    }
    for name, (behaviour, _) in sessions.items():
        server = await scripted_server(**behaviour)
        secret = credential_secret(
            f"key-{name}",
            ssh_privatekey=server.private_key,
            known_hosts=server.known_hosts,
        )
        await asyncio.to_thread(
            tenant.apply,
            name,
            host=server.host,
            port=server.port,
            credentials={"secretRef": {"name": secret}},
            retries=0,
            intervalSeconds=5,
        )

    expected = {name: reason for name, (_, reason) in sessions.items()}
    await until(lambda: tenant.reasons() == expected)

    status = (await asyncio.to_thread(tenant.get, "no-meminfo"))["status"]
    assert "memoryUsedBytes" not in status["metrics"]
    assert status["metrics"]["loadAverage"] == "0.10 0.20 0.30"
