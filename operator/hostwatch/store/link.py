"""One connection, made when it is needed and given up at the first doubt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hostwatch.store.errors import DatabaseAwayError, translate, translate_connect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pydantic import SecretStr

_T = TypeVar("_T")

_DEFAULTS: dict[str, str | int | None] = {
    "fallback_application_name": "hostwatch",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq parameters, unless the connection string sets its own. None of them needs the
server or a pooler to agree."""


class Link:
    """Runs statements on one connection, one caller at a time.

    ``setting`` names the variable that ``dsn`` comes from, for messages. Nothing is
    prepared on the server, so a transaction pooler may stand in between.
    """

    def __init__(self, dsn: SecretStr, *, setting: str) -> None:
        self.setting = setting
        self._dsn = dsn
        self._lock = asyncio.Lock()
        self._connecting: asyncio.Task[psycopg.AsyncConnection] | None = None
        self._connection: psycopg.AsyncConnection | None = None

    async def run(
        self,
        work: Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, _T]],
        *,
        deadline: float,
    ) -> _T:
        """Return what ``work`` returns, within ``deadline`` seconds all told.

        ``work`` must bear to run twice: once more when a connection from earlier
        turned out to be dead. Raises a `StoreError`.
        """
        try:
            async with asyncio.timeout(deadline), self._lock:
                return await self._run(work)
        except TimeoutError:
            raise DatabaseAwayError("the database does not answer in time") from None

    async def close(self) -> None:
        """Close the connection; the next `run` makes another."""
        async with self._lock:
            if self._connecting is not None:
                self._connecting.cancel()
                await asyncio.wait({self._connecting})
            await self._discard()

    async def _run(
        self, work: Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, _T]]
    ) -> _T:
        from_earlier = self._connection is not None
        try:
            return await self._once(work)
        except DatabaseAwayError:
            if not from_earlier or self._connection is not None:
                raise
            return await self._once(work)

    async def _once(
        self, work: Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, _T]]
    ) -> _T:
        connection = self._connection or await self._connected()
        try:
            return await _unless_cancelled(connection, work)
        except (psycopg.Error, ValueError, OverflowError) as error:
            raise translate(error, self.setting) from None
        finally:
            if connection.closed:
                await self._discard()

    async def _connected(self) -> psycopg.AsyncConnection:
        """Wait for a connection; one that takes longer than the caller has goes on.

        Else a first host that stays silent would keep the next from ever being tried.
        """
        if self._connecting is None:
            self._connecting = asyncio.create_task(
                self._connect(), name="store connection"
            )
            self._connecting.add_done_callback(self._note_connected)
        connecting = self._connecting
        await asyncio.wait({connecting})
        return connecting.result()

    def _note_connected(self, task: asyncio.Task[psycopg.AsyncConnection]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _connect(self) -> psycopg.AsyncConnection:
        try:
            own = conninfo_to_dict(self._dsn.get_secret_value())
            return await psycopg.AsyncConnection.connect(
                make_conninfo("", **{**_DEFAULTS, **own}),
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            raise translate_connect(error, self.setting) from None

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _unless_cancelled(
    connection: psycopg.AsyncConnection,
    work: Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, _T]],
) -> _T:
    """Await the work in a task of its own; when cancelled, cut its connection.

    Cancelling psycopg itself asks the server over a second connection to cancel, and
    waits for it: a stopped server then holds the caller beyond any deadline.
    """
    task = asyncio.create_task(work(connection), name="store statement")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _cut(connection)
        await asyncio.wait({task})
        task.exception()
        raise


def _cut(connection: psycopg.AsyncConnection) -> None:
    """Shut the socket down under libpq, which then sees the end of the stream.

    The descriptor stays open until psycopg has left the event loop's selector.
    """
    if connection.closed:
        return
    with (
        socket.socket(fileno=os.dup(connection.fileno())) as twin,
        contextlib.suppress(OSError),  # the peer was faster
    ):
        twin.shutdown(socket.SHUT_RDWR)
