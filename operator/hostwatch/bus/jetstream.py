"""The stream that keeps alerts, and the durable consumer of each organization.

JetStream is spoken in its own JSON (the JetStream API reference of NATS): the
library's classes forget the fields they do not know, and an update would undo what
an administrator set with them.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import nats.errors

from hostwatch.bus.connection import Trouble
from hostwatch.bus.subjects import alerts_filter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostwatch.bus.connection import Connection
    from hostwatch.bus.messages import Message

STREAM: Final = "HOSTWATCH_ALERTS"
PERMISSIONS: Final = (
    "publish on hostwatch.*.alerts.>, "
    f"$JS.API.STREAM.*.{STREAM} and $JS.API.CONSUMER.*.{STREAM}.>, "
    "and to subscribe to _INBOX.>"
)

_SECONDS = 1_000_000_000  # durations are in nanoseconds
_DAY = 86_400
_MAX_BYTES = 1 << 30
_ANSWER_SECONDS = 5

_KEPT_UP = {
    "subjects": ["hostwatch.*.alerts.>"],
    "max_age": 30 * _DAY * _SECONDS,
    "duplicate_window": 3_600 * _SECONDS,
    "discard": "old",
    "no_ack": False,
}
"""What this stream must be; the rest is an administrator's, once it is made."""

_NEW_STREAM = {
    **_KEPT_UP,
    "name": STREAM,
    "storage": "file",
    "max_bytes": _MAX_BYTES,
}


class JetStreamError(Exception):
    """JetStream does not do it now; ``code`` is its answer's, as of HTTP."""

    def __init__(self, trouble: Trouble, *, code: int = 0) -> None:
        super().__init__(trouble.detail)
        self.trouble = trouble
        self.code = code


class MessageRefusedError(Exception):
    """JetStream refuses this message, and would again."""


class AlertStream:
    """The stream ``HOSTWATCH_ALERTS`` over one connection.

    Every method raises `JetStreamError` and the errors of the connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._admitted: set[str] = set()

    async def prepare(self) -> None:
        """Make the stream, or mend what must hold of one that is there."""
        config = await self._config(f"STREAM.INFO.{STREAM}")
        if config is None:
            await self._call(f"STREAM.CREATE.{STREAM}", _NEW_STREAM)
            return
        mended = config | _KEPT_UP
        if mended.get("max_bytes", -1) <= 0:
            mended["max_bytes"] = _MAX_BYTES
        # The server leaves members out that are false.
        if mended != {"no_ack": False, **config}:
            await self._call(f"STREAM.UPDATE.{STREAM}", mended)

    async def admit(self, organization: str) -> None:
        """Make the organization's durable consumer, or hold it to its own subjects.

        Its users may fetch from it and acknowledge, and cannot make one themselves.
        Raises `ValueError` for what is no organization.
        """
        if organization in self._admitted:
            return
        subjects = alerts_filter(organization)
        consumer = f"{STREAM}.{organization}"
        config = await self._config(f"CONSUMER.INFO.{consumer}")
        if config is None or config.get("filter_subject") != subjects:
            kept = config or {
                "name": organization,
                "durable_name": organization,
                "deliver_policy": "all",
                "ack_policy": "explicit",
            }
            await self._call(
                f"CONSUMER.CREATE.{consumer}.{subjects}",
                {"stream_name": STREAM, "config": kept | {"filter_subject": subjects}},
            )
        self._admitted.add(organization)

    async def store(self, message: Message) -> None:
        """Publish a message and wait until it is in the stream.

        One whose ``Nats-Msg-Id`` the stream has seen within its duplicate window is
        acknowledged and dropped. Raises `MessageRefusedError`.
        """
        try:
            await self._request(message.subject, message.body, message.headers)
        except nats.errors.NoRespondersError:
            gone = f"the stream {STREAM} is gone"
            raise JetStreamError(Trouble("jetstream", gone, 0)) from None
        except JetStreamError as error:
            if error.code != HTTPStatus.BAD_REQUEST:
                raise
            raise MessageRefusedError(str(error)) from None

    async def _config(self, subject: str) -> dict[str, Any] | None:
        """Return how a stream or a consumer is configured, None if it is not there."""
        try:
            answer = await self._call(subject, {})
        except JetStreamError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise
        config: dict[str, Any] = answer["config"]
        return config

    async def _call(self, subject: str, body: Mapping[str, object]) -> dict[str, Any]:
        try:
            return await self._request(
                f"$JS.API.{subject}", json.dumps(body).encode(), {}
            )
        except nats.errors.NoRespondersError:
            absent = (
                "NATS answers without JetStream: enable it (a block `jetstream` in the "
                "server's configuration, and in the account of the operator's user)"
            )
            raise JetStreamError(Trouble("jetstream", absent, 30)) from None

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str]
    ) -> dict[str, Any]:
        refused_before = self.connection.forbidden
        try:
            data = await self.connection.request(
                subject, body, headers, seconds=_ANSWER_SECONDS
            )
        except OSError:
            if self.connection.forbidden == refused_before:
                raise
            forbidden = f"allow the operator's user to {PERMISSIONS}"
            raise JetStreamError(Trouble("forbidden", forbidden, 30)) from None
        try:
            answer: dict[str, Any] = json.loads(data)
        except ValueError:
            answer = {"error": {"description": "its answer cannot be read"}}
        if "error" in answer:
            raise _refusal(answer["error"])
        return answer


def _refusal(error: Mapping[str, Any]) -> JetStreamError:
    detail = f"JetStream refuses: {error.get('description', 'without a word')}"
    return JetStreamError(Trouble("refused", detail, 5), code=int(error.get("code", 0)))
