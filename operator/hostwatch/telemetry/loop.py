"""How late the event loop runs what is due: everything else is late with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 0.5


async def watch_loop(observe: Callable[[float, int], None]) -> None:
    """Report twice a second by how much a sleep was too long, and how many tasks are.

    The first number is in seconds.
    """
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + _SECONDS
        await asyncio.sleep(_SECONDS)
        observe(max(0.0, clock() - due), len(asyncio.all_tasks()))
