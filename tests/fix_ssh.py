"""A real sshd for the session, and scripted servers for one test."""

from __future__ import annotations

from contextlib import AsyncExitStack
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
