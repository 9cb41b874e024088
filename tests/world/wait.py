"""Waiting for what the world does in its own time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, within: float = 30) -> None:
    """Return once the condition holds; raises `TimeoutError` after ``within`` s."""
    async with asyncio.timeout(within):
        # What is waited for sets no event: a server, a process, a counter.
        while not condition():
            await asyncio.sleep(0.01)
