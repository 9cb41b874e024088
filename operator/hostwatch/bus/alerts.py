"""Puts alerts into a stream, where each organization finds its own later."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING

import structlog

from hostwatch.bus.connection import ERRORS, Connection, Trouble, diagnose
from hostwatch.bus.jetstream import (
    PERMISSIONS,
    STREAM,
    AlertStream,
    JetStreamError,
    MessageRefusedError,
)
from hostwatch.bus.messages import alert_message
from hostwatch.model.alert import UndeliverableError
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError

if TYPE_CHECKING:
    from hostwatch.bus.meter import AlertMeter
    from hostwatch.model.alert import Notification
    from hostwatch.settings import NatsSettings


_NOT_THERE = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
"""Answers about the stream or JetStream itself, not about one consumer."""


class AlertPublisher:
    """A sink of alerts that stores them in JetStream, each transition once.

    It has a connection of its own, made when the first alert needs it. After a
    failure everything is put off for some seconds, so that a thousand waiting alerts
    make one attempt.
    """

    name = "nats"

    def __init__(self, settings: NatsSettings, meter: AlertMeter) -> None:
        self._settings = settings
        self._meter = meter
        self._log = structlog.get_logger(component="bus")
        self._stream: AlertStream | None = None
        self._trouble: Trouble | None = None
        self._put_off_until = -inf
        self._closed = True

    async def open(self) -> None:
        """Be ready to connect; returns at once."""
        self._turn = asyncio.Lock()
        self._closed = False

    async def close(self) -> None:
        """Close the connection; later alerts raise `TryAgainLaterError`."""
        self._closed = True
        if self._stream is not None:
            await self._hang_up(self._stream)

    async def deliver(self, notification: Notification) -> None:
        """Return once the stream has it, by this call or an earlier one.

        Raises `TryAgainLaterError`, `TryOthersMeanwhileError` where it is the
        organization's consumer that cannot be made, or `UndeliverableError` for one
        that no stream would take.
        """
        alert, stream = notification.alert, None
        try:
            message = alert_message(alert)
        except ValueError as error:
            raise UndeliverableError(str(error)) from None
        try:
            stream = await self._ready()
            await self._admit(stream, alert.server.organization)
            await stream.store(message)
        except MessageRefusedError as error:
            raise UndeliverableError(str(error)) from None
        except (JetStreamError, *ERRORS) as error:
            trouble = _trouble_of(error)
            await self._failed(stream, trouble)
            raise TryAgainLaterError(trouble.detail) from error
        self._trouble = None

    async def _admit(self, stream: AlertStream, organization: str) -> None:
        """Make the organization's consumer; what fails for it alone is told apart.

        That JetStream or the stream is gone concerns all, as does a lost connection.
        """
        try:
            await stream.admit(organization)
        except (JetStreamError, OSError) as error:
            if not stream.connection.is_up or _concerns_all(error):
                raise
            trouble = _trouble_of(error)
            self._meter.alert_failed(trouble.kind)
            raise TryOthersMeanwhileError(trouble.detail) from error

    async def _ready(self) -> AlertStream:
        """Return the stream, connected and prepared."""
        async with self._turn:
            if self._stream is not None and self._stream.connection.is_up:
                return self._stream
            if self._closed:
                raise TryAgainLaterError("the connection to NATS is closed")
            if self._trouble and time.monotonic() < self._put_off_until:
                raise TryAgainLaterError(self._trouble.detail)
            return await self._connect()

    async def _connect(self) -> AlertStream:
        connection = Connection(permissions=PERMISSIONS)
        stream = AlertStream(connection)
        try:
            await connection.open(self._settings)
            await stream.prepare()
            if self._closed:  # meanwhile
                raise ConnectionError("the connection to NATS is closed")  # noqa: TRY301
        except BaseException:
            await connection.close()
            raise
        self._stream = stream
        self._log.info(
            "Alerts can be stored in NATS", address=connection.address, stream=STREAM
        )
        return stream

    async def _failed(self, stream: AlertStream | None, trouble: Trouble) -> None:
        """Note the trouble, say it once, and begin anew with a later alert."""
        self._meter.alert_failed(trouble.kind)
        known = self._trouble is not None and self._trouble.kind == trouble.kind
        self._trouble = trouble
        self._put_off_until = time.monotonic() + trouble.retry_seconds
        (self._log.debug if known else self._log.warning)(
            "Alerts cannot be stored in NATS: they are kept until they can",
            problem=trouble.kind,
            cause=trouble.detail,
        )
        if stream is not None:
            await self._hang_up(stream)

    async def _hang_up(self, stream: AlertStream) -> None:
        if self._stream is stream:
            self._stream = None
        await stream.connection.close()


def _concerns_all(error: Exception) -> bool:
    if not isinstance(error, JetStreamError):
        return False
    return error.trouble.kind == "jetstream" or error.code in _NOT_THERE


def _trouble_of(error: Exception) -> Trouble:
    return error.trouble if isinstance(error, JetStreamError) else diagnose(error)
