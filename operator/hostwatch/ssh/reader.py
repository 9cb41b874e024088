"""Keys and the like, read off the event loop and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from hostwatch.model.reason import CollectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hostwatch.ssh.threads import Threads

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    """What reading gave: a value with its weight, or a failure."""

    result: T | CollectionError
    weight: int


class Reader(Generic[T]):
    """Reads texts of users, each once, and keeps what it read.

    Failures are kept too: the same text cannot be read the next time either. What was
    asked for least recently is forgotten once all together weigh more than ``most``.
    """

    def __init__(
        self, threads: Threads, *, most: int, weigh: Callable[[T], int] = lambda _: 1
    ) -> None:
        self._threads = threads
        self._most = most
        self._weigh = weigh
        self._weight = 0
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    async def read(
        self,
        key: Hashable,
        read: Callable[[], T],
        *,
        namespace: str,
        deadline: asyncio.Timeout,
        unforeseen: CollectionError,
    ) -> T:
        """Return what ``read`` returns, called in a thread unless its result is kept.

        ``key`` stands for all that the result depends on. Raises the `CollectionError`
        that ``read`` raised, or ``unforeseen`` for any other error.
        """
        kept = self._kept.get(key)
        if kept is None:
            reading = await self._threads.start(
                namespace, deadline, lambda: self._read(key, read, unforeseen)
            )
            reading.add_done_callback(lambda done: self._keep(key, done))
            # Shielded: what takes longer than one attempt has is there for the next.
            kept = await asyncio.shield(reading)
        else:
            self._kept.move_to_end(key)
        if isinstance(kept.result, CollectionError):
            raise CollectionError(kept.result.reason, kept.result.detail)
        return kept.result

    def forget(self) -> None:
        """Keep nothing of what was read until now."""
        self._kept.clear()
        self._weight = 0

    def _read(
        self, key: Hashable, read: Callable[[], T], unforeseen: CollectionError
    ) -> _Kept[T]:
        """Read in a thread, unless another did while this one waited for its turn."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        try:
            value = read()
        except CollectionError as error:
            # Anew, for a traceback would keep what was read.
            return _Kept(CollectionError(error.reason, error.detail), 1)
        except BaseException as error:  # noqa: BLE001
            # The one runner of all that parses what users wrote: whatever a parser
            # raises, the server must get a condition that says where to look. A panic
            # in the Rust of cryptography is no Exception.
            structlog.get_logger(component="ssh").warning(
                "A parser failed with an error that nobody foresaw",
                kind=type(error).__name__,
                detail=unforeseen.detail,
            )
            return _Kept(unforeseen, 1)
        return _Kept(value, self._weigh(value))

    def _keep(self, key: Hashable, done: asyncio.Future[_Kept[T]]) -> None:
        if done.cancelled() or done.exception() is not None or key in self._kept:
            return
        kept = self._kept[key] = done.result()
        self._weight += kept.weight
        while self._weight > self._most:
            _, forgotten = self._kept.popitem(last=False)
            self._weight -= forgotten.weight
