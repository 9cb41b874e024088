"""No test leaves a task behind: what outlives it works on in the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_GRACE_SECONDS = 2.0


def pytest_configure() -> None:
    # Without a word about the loop, pytest-asyncio's look for one makes one that
    # nobody closes (Python < 3.14), and the run ends with a ResourceWarning.
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_leaked_tasks(request: pytest.FixtureRequest) -> None:
    """Watch asynchronous tests only: a plain test is spared the event loop."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("_watched_tasks")


@pytest.fixture
async def _watched_tasks() -> AsyncIterator[None]:
    # Set up before and so torn down after every other fixture of the test.
    before = asyncio.all_tasks()
    yield
    deadline = asyncio.get_running_loop().time() + _GRACE_SECONDS
    while leaked := _running(before):
        if asyncio.get_running_loop().time() > deadline:
            names = ", ".join(
                sorted(f"{task.get_name()} ({task.get_coro()})" for task in leaked)
            )
            pytest.fail(f"the test left tasks behind: {names}", pytrace=False)
        await asyncio.sleep(0.01)


def _running(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - before - {asyncio.current_task()}
