"""A real sshd for the session, and scripted servers for one test."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from world.scripted import ScriptedServer
from world.sshd import OpenSSH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture(scope="session")
def openssh(tmp_path_factory) -> Iterator[OpenSSH]:
    with OpenSSH(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
async def scripted_server() -> AsyncIterator[Callable[..., Awaitable[ScriptedServer]]]:
    """Give a starter of `ScriptedServer`; what it started ends with the test."""
    async with AsyncExitStack() as servers:

        async def start(**behaviour: Any) -> ScriptedServer:
            return await servers.enter_async_context(ScriptedServer(**behaviour))

        yield start


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Give a port that answers no SYN: its queue of connections is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(address)
        yield address[1]
