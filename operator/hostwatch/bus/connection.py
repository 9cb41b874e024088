"""One connection to NATS: made, watched for refused subjects, and closed.

A connection is never mended: the library's own reconnecting waits for ever in
places and gives up in others, so a lost connection is closed and a new one made.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nats.errors
import nkeys  # type: ignore[import-untyped] # has no types
import structlog
from nats.aio.client import RawCredentials

from hostwatch.bus.client import CarefulClient, PlainTextError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hostwatch.settings import NatsSettings

_CONNECT_SECONDS = 10
_TCP_CONNECT_SECONDS = 3
_CLOSE_SECONDS = 1
_PING_SECONDS = 5  # two unanswered pings end a connection: 15 s after a server hangs
_CREDENTIAL_MARKS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")
_REFUSALS = ("authorization", "authentication")


class BusSettingError(Exception):
    """A setting or the file it names is unusable; the message names the setting."""


ERRORS = (BusSettingError, OSError, nats.errors.Error, AssertionError)
"""What a connection raises, in every state it can be in."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no connection: a metric's label, a sentence, seconds to wait."""

    kind: str
    detail: str
    retry_seconds: float


class Connection:
    """A live connection; ``forbidden`` counts the messages the server refused.

    ``permissions`` is what the operator's user must be allowed, for the log.
    """

    def __init__(self, *, permissions: str) -> None:
        self.forbidden = 0
        self._permissions = permissions
        self._client = CarefulClient()
        self._error: Exception | None = None
        self._deadlines: set[asyncio.Timeout] = set()
        self._log = structlog.get_logger(component="bus")

    @property
    def is_up(self) -> bool:
        """Tell whether the connection is not known to be lost."""
        return self._client.is_connected

    @property
    def address(self) -> str:
        """Host and port of the server, without a user or password of the URL."""
        url = self._client.connected_url
        return f"{url.hostname}:{url.port}" if url else ""

    async def open(self, settings: NatsSettings) -> None:
        """Connect once to any of the servers.

        Raises `BusSettingError` and whatever the library or a socket raises.
        """
        credentials = await asyncio.to_thread(_credentials, settings)
        tls = await asyncio.to_thread(_tls, settings)
        self._client.must_encrypt = _asks_for_tls(settings)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._client.connect(
                    list(settings.nats_url),
                    name="hostwatch",
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                    allow_reconnect=False,
                    # One turn through all servers, without the pause between turns.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=_TCP_CONNECT_SECONDS,
                    ping_interval=_PING_SECONDS,
                    max_outstanding_pings=2,
                    user_credentials=credentials,
                    tls=tls,
                    # Subjects are made of checked names.
                    skip_subject_validation=True,
                )
        except nkeys.NkeysError as error:
            raise BusSettingError(f"HOSTWATCH_NATS_CREDENTIALS: {error}") from None
        except (nats.errors.NoServersError, TimeoutError):
            # What was wrong with each server is told to the callback alone.
            silence = ConnectionError("no server answers")
            raise (self._error or silence) from None

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Put a message into the connection's buffer."""
        await self._client.publish(subject, body, headers=headers)

    async def confirm(self, seconds: float) -> None:
        """Wait until the server has read all that was published."""
        async with self._deadline(seconds):
            await self._client.flush()
        if not self.is_up:  # then flush returns without an answer
            raise self.lost()

    async def request(
        self, subject: str, body: bytes, headers: dict[str, str], *, seconds: float
    ) -> bytes:
        """Return the answer to a message.

        Raises `nats.errors.NoRespondersError` where nobody listens to it.
        """
        async with self._deadline(seconds):
            answer = await self._client.request(
                subject, body, timeout=seconds, headers=headers
            )
        return answer.data

    def lost(self) -> Exception:
        """Return why the connection ended, as far as anyone said."""
        return (
            self._client.last_error
            or self._error
            or ConnectionError("the server closed the connection")
        )

    async def close(self) -> None:
        """Close what there is; a dead connection may refuse, and is left alone."""
        with suppress(*ERRORS):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.close()

    @asynccontextmanager
    async def _deadline(self, seconds: float) -> AsyncIterator[None]:
        """Limit a wait for the server, which a lost connection ends at once."""
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                yield
        except TimeoutError:
            silence = ConnectionError("the server does not answer")
            raise (silence if self.is_up else self.lost()) from None
        finally:
            self._deadlines.discard(deadline)

    async def _on_closed(self) -> None:
        """End the waits for answers that cannot come any more."""
        for deadline in self._deadlines:
            deadline.reschedule(0)

    async def _on_error(self, error: Exception) -> None:
        """Hear what no call reports: the only place a refused subject shows."""
        if "permissions violation" not in str(error).lower():
            self._error = error
            return
        self.forbidden += 1
        if self.forbidden == 1:
            self._log.error(
                f"NATS refuses our messages: allow the operator's user to "
                f"{self._permissions}",
                cause=str(error),
            )


def diagnose(error: Exception) -> Trouble:
    """Say what a person has to do about a connection that failed."""
    text = str(error) or type(error).__name__
    if isinstance(error, BusSettingError):
        return Trouble("setting", text, 30)
    if isinstance(error, PlainTextError):
        return Trouble("tls", text, 30)
    if isinstance(error, ssl.SSLError):
        return Trouble("tls", f"{text}; HOSTWATCH_NATS_CA names the CA to trust", 30)
    if isinstance(error, nats.errors.Error) and any(
        word in text.lower() for word in _REFUSALS
    ):
        hint = "see HOSTWATCH_NATS_CREDENTIALS, or the user in HOSTWATCH_NATS_URL"
        return Trouble("login", f"{text}; {hint}", 30)
    if isinstance(error, (OSError, nats.errors.Error)):
        return Trouble("unreachable", text, 2)
    return Trouble("unexpected", f"{type(error).__name__}: {text}", 30)


def _credentials(settings: NatsSettings) -> RawCredentials | None:
    """Read the creds file anew: it may have been renewed since the last connection.

    The library searches a file without the two marks for ever.
    """
    if settings.nats_credentials is None:
        return None
    try:
        text = Path(settings.nats_credentials).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise BusSettingError(
            f"cannot read HOSTWATCH_NATS_CREDENTIALS: {reason}"
        ) from None
    if not all(mark in text for mark in _CREDENTIAL_MARKS):
        raise BusSettingError(
            "HOSTWATCH_NATS_CREDENTIALS names a file that is not a NATS creds file"
        )
    return RawCredentials(text)


def _asks_for_tls(settings: NatsSettings) -> bool:
    """Tell whether all servers must encrypt: one may name the others."""
    return settings.nats_ca is not None or any(
        url.startswith("tls://") for url in settings.nats_url
    )


def _tls(settings: NatsSettings) -> ssl.SSLContext | None:
    if settings.nats_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.nats_ca)
    except (OSError, ValueError) as error:
        raise BusSettingError(f"cannot use HOSTWATCH_NATS_CA: {error}") from None
