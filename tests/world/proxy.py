"""A TCP proxy that a test breaks: black hole, reset, refusal."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self

from world.process import LOOPBACK

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger, socket(7)


class TcpProxy:
    """Passes bytes between its own loopback port and a target until told otherwise."""

    host = LOOPBACK

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    def pause(self) -> None:
        """Become a black hole: connections are accepted, no byte passes either way."""
        self._flowing.clear()

    async def resume(self) -> None:
        """Pass bytes again, the ones held back too, and listen again."""
        await self._listen()
        self._flowing.set()

    async def cut(self) -> None:
        """Reset all connections; new ones are served."""
        for writer in list(self._writers):
            _reset(writer)
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def refuse(self) -> None:
        """Refuse new connections until `resume`; the open ones stay."""
        server, self._server = self._server, None
        if server is not None:
            # wait_closed would wait for the open connections.
            server.close()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.refuse()
        await self.cut()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, self.host, self.port, limit=_CHUNK
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        try:
            await self._join(reader, writer)
        except OSError:
            _reset(writer)  # The target refuses.
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._flowing.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer), name="proxy out")
                group.create_task(self._pump(far_reader, writer), name="proxy in")
        except* OSError:
            # What broke on one side breaks on the other.
            _reset(writer)
        finally:
            self._writers.discard(far_writer)
            far_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        with suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    raw = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
