"""Publishes every sample as a live update, and never lets a collection wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from hostwatch.bus.connection import Connection, Trouble, diagnose
from hostwatch.bus.messages import resources_message

if TYPE_CHECKING:
    from hostwatch.bus.messages import Message
    from hostwatch.bus.meter import BusMeter
    from hostwatch.model.sample import Sample
    from hostwatch.settings import NatsSettings

_QUEUE_LIMIT = 10_000
_GATHER_SECONDS = 0.5  # at 7 samples a second this saves three quarters of the CPU
_BATCH = 50  # bounds what is unread by a hung server below a socket's buffer
_CONFIRM_SECONDS = 5
_POLL_SECONDS = 1
_DRAIN_SECONDS = 2


class Publisher:
    """A sink of samples that publishes them on core NATS, at most once.

    While there is no connection samples are dropped and counted, not kept: the
    database has them, and an old live update is worth nothing. Connecting goes on in
    the background for ever.
    """

    def __init__(self, settings: NatsSettings, meter: BusMeter) -> None:
        self._settings = settings
        self._meter = meter
        self._log = structlog.get_logger(component="bus")
        self._queue: deque[Sample] = deque()
        self._online = False
        self._stopping = False
        self._trouble: str | None = None

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        self._arrived = asyncio.Event()
        self._meter.connected(up=False)
        self._task = asyncio.create_task(self._run(), name="nats publisher")

    async def close(self) -> None:
        """Publish what is queued, within 2 s; later samples are dropped."""
        draining = self._online
        self._online, self._stopping = False, True
        self._arrived.set()
        if draining:
            await asyncio.wait({self._task}, timeout=_DRAIN_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def put(self, sample: Sample) -> None:
        """Queue a sample, or drop it and count that."""
        if not self._online:
            self._meter.dropped(1, "disconnected")
            return
        if len(self._queue) >= _QUEUE_LIMIT:
            self._queue.popleft()
            self._meter.dropped(1, "queue_full")
        self._queue.append(sample)
        self._arrived.set()

    async def _run(self) -> None:
        """Connect and publish, again and again."""
        while not self._stopping:
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - the one runner of this task
                trouble = diagnose(error)
                self._went_away(trouble)
                await asyncio.sleep(trouble.retry_seconds)

    async def _session(self) -> None:
        """Live through one connection; returns at `close`, raises when it is lost."""
        connection = Connection(permissions="publish on hostwatch.*.resources.>")
        try:
            await connection.open(self._settings)
            self._came_back(connection.address)
            await self._serve(connection)
        finally:
            self._online = False
            self._meter.connected(up=False)
            self._drop_queue()
            await connection.close()

    async def _serve(self, connection: Connection) -> None:
        while connection.is_up:
            if self._queue:
                await self._publish_batch(connection)
            elif self._stopping:
                return
            else:
                await self._wait_for_samples()
        raise connection.lost()

    async def _wait_for_samples(self) -> None:
        """Wait for a sample, then for its neighbours: a confirmation serves them all.

        Returns within a second, because a lost connection wakes nobody.
        """
        self._arrived.clear()
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._arrived.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER_SECONDS)

    async def _publish_batch(self, connection: Connection) -> None:
        sent, refused_before = 0, connection.forbidden
        try:
            for _ in range(min(_BATCH, len(self._queue))):
                if message := self._render(self._queue.popleft()):
                    sent += 1  # first: what fails half-way has left the queue too
                    await connection.publish(*message)
            await connection.confirm(_CONFIRM_SECONDS)
        except BaseException:
            self._meter.dropped(sent, "unconfirmed")
            raise
        # Refusals come back in order, before the confirmation.
        forbidden = connection.forbidden - refused_before
        self._meter.published(sent - forbidden)
        if forbidden:
            self._meter.dropped(forbidden, "forbidden")

    def _render(self, sample: Sample) -> Message | None:
        """Return the sample's message, or count that it cannot be one."""
        try:
            return resources_message(sample)
        except ValueError as error:
            self._meter.dropped(1, "invalid")
            self._log.error(
                "A sample cannot be published",
                server=sample.server.name,
                namespace=sample.server.namespace,
                organization=sample.server.organization,
                cause=str(error),
            )
            return None

    def _drop_queue(self) -> None:
        if self._queue:
            self._meter.dropped(len(self._queue), "disconnected")
            self._queue.clear()

    def _came_back(self, address: str) -> None:
        self._online = not self._stopping
        self._trouble = None
        self._meter.connected(up=True)
        self._log.info("Connected to NATS", address=address)

    def _went_away(self, trouble: Trouble) -> None:
        """Say once what is wrong, until it is something else or right again."""
        self._meter.failed(trouble.kind)
        log = self._log.debug if trouble.kind == self._trouble else self._log.warning
        self._trouble = trouble.kind
        log(
            "No connection to NATS: live updates are dropped until there is one",
            problem=trouble.kind,
            cause=trouble.detail,
        )
