"""SSH servers, and servers that only pretend, whose behaviour a test scripts."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import asyncssh

from world.process import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    Process = asyncssh.SSHServerProcess[bytes]
    Session = Callable[[Process, str], Awaitable[None]]
    RawCallback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]

_CHUNK = 65536


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try to log in; ``secret`` is the password or the key's fingerprint."""

    method: str
    user: str
    secret: str
    accepted: bool


@dataclass
class Counters:
    """What a server has seen since it started."""

    connections: int = 0
    sessions: int = 0
    commands: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    bytes_received: int = 0
    bytes_sent: int = 0

    @property
    def passwords(self) -> list[str]:
        """The passwords that clients sent, right or wrong."""
        return [tried.secret for tried in self.attempts if tried.method == "password"]


class ScriptedServer:
    """An asyncssh server on a real socket.

    Lets in the holders of ``user_keys`` (lines of authorized_keys; by default its own
    `private_key`) and, where given, whoever knows ``password``. A session runs its
    command with ``shell``, a program with its arguments, as sshd does with the login
    shell; ``session`` replaces that and gets full control of the channel.
    ``options`` go to `asyncssh.listen` as they are: algorithms, certificates.
    """

    host = LOOPBACK

    def __init__(
        self,
        *,
        host_key_type: str = "ssh-ed25519",
        host_key_size: int | None = None,
        user_keys: Sequence[str] | None = None,
        password: str | None = None,
        shell: Sequence[str] = ("/bin/sh",),
        environment: Mapping[str, str] | None = None,
        session: Session | None = None,
        **options: Any,
    ) -> None:
        size: dict[str, Any] = {"key_size": host_key_size} if host_key_size else {}
        self.host_key = asyncssh.generate_private_key(host_key_type, **size)
        self.user_key = asyncssh.generate_private_key("ssh-ed25519")
        self.password = password
        self.session: Session = session or self._run_shell
        self.seen = Counters()
        self.port = 0
        self._user_keys = (self.public_key,) if user_keys is None else tuple(user_keys)
        self._shell = tuple(shell)
        self._environment = {**os.environ, **(environment or {})}
        self._options = options
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._sessions: set[asyncio.Task[Any]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def private_key(self) -> str:
        """A user's key in OpenSSH format; accepted unless ``user_keys`` say else."""
        return self.user_key.export_private_key("openssh").decode()

    @property
    def public_key(self) -> str:
        return self.user_key.export_public_key("openssh").decode().strip()

    @property
    def known_hosts(self) -> str:
        """The line that a client's known_hosts needs."""
        public = self.host_key.export_public_key("openssh").decode().strip()
        return f"[{self.host}]:{self.port} {public}"

    @property
    def fingerprint(self) -> str:
        """The server's key as ``SHA256:...``."""
        return self.host_key.get_fingerprint()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._acceptor = await asyncssh.listen(
            self.host,
            self.port,
            server_factory=lambda: _Login(self),
            server_host_keys=[self.host_key],
            process_factory=self._serve,
            encoding=None,
            **self._options,
        )
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            await self.close_connections()
            await acceptor.wait_closed()

    async def close_connections(self) -> None:
        """Cut the live connections without a goodbye, and end their sessions."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await _end(self._sessions)
        for connection in connections:
            await connection.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _serve(self, process: Process) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.seen.sessions += 1
        command = process.command or ""
        self.seen.commands.append(command)
        try:
            await self.session(process, command)
        except (ConnectionError, asyncssh.Error):
            pass  # The client went away, which is its right.
        finally:
            self._sessions.discard(task)

    async def _run_shell(self, process: Process, command: str) -> None:
        async with _child([*self._shell, "-c", command], self._environment) as child:
            feed = asyncio.create_task(
                self._feed(process, child.stdin), name="session stdin"
            )
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(child.stdout, process.stdout))
                    group.create_task(self._pass_on(child.stderr, process.stderr))
                process.exit(await child.wait())
            except* (ConnectionError, asyncssh.Error):
                pass  # The client went away.
            finally:
                feed.cancel()

    async def _feed(self, process: Process, stdin: asyncio.StreamWriter | None) -> None:
        assert stdin is not None
        try:
            while data := await process.stdin.read(_CHUNK):
                self.seen.bytes_received += len(data)
                stdin.write(data)
                await stdin.drain()
        except (ConnectionError, asyncssh.Error):
            pass  # Either end is gone; the shell sees the end of its input.
        finally:
            stdin.close()

    async def _pass_on(
        self, source: asyncio.StreamReader | None, target: asyncssh.SSHWriter[bytes]
    ) -> None:
        assert source is not None
        while data := await source.read(_CHUNK):
            self.seen.bytes_sent += len(data)
            target.write(data)
            await target.drain()


class _Login(asyncssh.SSHServer):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._keys = {
            asyncssh.import_public_key(line).public_data for line in server._user_keys
        }

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._server._connections.add(conn)
        self._server.seen.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self._conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return bool(self._keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        accepted = key.public_data in self._keys
        self._note("publickey", username, key.get_fingerprint(), accepted=accepted)
        return accepted

    def password_auth_supported(self) -> bool:
        return self._server.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        accepted = password == self._server.password
        self._note("password", username, password, accepted=accepted)
        return accepted

    def _note(self, method: str, user: str, secret: str, *, accepted: bool) -> None:
        attempt = Attempt(method=method, user=user, secret=secret, accepted=accepted)
        self._server.seen.attempts.append(attempt)


@asynccontextmanager
async def _child(
    command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process with pipes; at the end it and its children are gone."""
    spawning = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        # Cancelled before the pipes are connected, asyncio waits for them for ever.
        yield await asyncio.shield(spawning)
    finally:
        child = await spawning
        # asyncio sees the end only once all have closed the pipes, and all is read.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.communicate()


@asynccontextmanager
async def raw_server(callback: RawCallback) -> AsyncIterator[tuple[str, int]]:
    """Serve bare TCP: an endless banner, silence after the accept, garbage.

    Gives the host and the port; at the end the callbacks are cancelled.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await callback(reader, writer)
        except ConnectionError:
            pass  # The client went away.
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield LOOPBACK, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _end(tasks)
        await server.wait_closed()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
