"""Threads for what would hold up the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from hostwatch.model.reason import TryAgainLaterError
from hostwatch.ssh.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Threads:
    """A few threads, shared fairly between namespaces, of which none gets all.

    A place ends with its thread, not with those who wait for it: a thread cannot be
    stopped.
    """

    def __init__(self, count: int, *, each: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._turns = Turns(count, each=each)

    async def start(
        self, namespace: str, deadline: asyncio.Timeout, work: Callable[[], T]
    ) -> asyncio.Future[T]:
        """Start to work in a thread; the deadline stands still until there is one.

        Raises `TryAgainLaterError` after `close`.
        """
        await self._turns.take(namespace, deadline)
        loop = asyncio.get_running_loop()

        def end(_work: object) -> None:
            # A loop that was closed meanwhile has nobody waiting.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._turns.give_back, namespace)

        try:
            working = self._threads.submit(work)
        except RuntimeError:
            self._turns.give_back(namespace)
            raise TryAgainLaterError("the operator is closing") from None
        result = asyncio.wrap_future(working)
        # After the result is known: whoever comes next may find it kept.
        working.add_done_callback(end)
        return result

    def close(self) -> None:
        """Give up what has not started; what runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
