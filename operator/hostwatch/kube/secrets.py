"""The Secrets that servers refer to: read one by one, cached, and read again."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING

import structlog

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.credential import credential_of
from hostwatch.kube.names import secret_path
from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError

if TYPE_CHECKING:
    from hostwatch.kube.client import KubeClient
    from hostwatch.kube.meter import KubeMeter
    from hostwatch.model.credential import Credential

_PARALLEL_READS = 16


@dataclass(frozen=True, slots=True)
class SecretPace:
    """How often Secrets are read, in seconds.

    Each is read again every ``reread``, or as seldom as ``reads_per_second`` allows
    them all: 55, so that a change is in use within 60 with the walk's own time. A
    failure stands for ``failure``; a server's refusal causes one read per ``forget``;
    one that nobody asked for in ``unused`` leaves the cache.
    """

    reread: float = 55.0
    reads_per_second: float = 20.0
    failure: float = 10.0
    forget: float = 30.0
    unused: float = 600.0
    tick: float = 1.0

    def period(self, secrets: int) -> float:
        """Return the seconds within which each of so many is read again."""
        return max(self.reread, secrets / self.reads_per_second)


@dataclass(slots=True)
class _Entry:
    """One Secret: its last content or why there is none, and when it was read.

    ``refused_at`` is when it was last read because a server refused it.
    """

    asked_at: float
    credential: Credential | None = None
    failure: tuple[Reason, str] | None = None
    read_at: float = -inf
    refused: bool = False
    refused_at: float = -inf
    reading: asyncio.Task[None] | None = None


class Secrets:
    """A cache over GET requests: neither list nor watch is ever asked for.

    A changed Secret is in use within max(60 s, Secrets ÷ 20 per second); one leaves
    when nobody asked for it in ten minutes. An unchanged one gives the same object.
    """

    def __init__(
        self, client: KubeClient, *, meter: KubeMeter, pace: SecretPace | None = None
    ) -> None:
        self._client = client
        self._pace = pace or SecretPace()
        self._meter = meter
        self._salt = os.urandom(16)
        self._cache: dict[tuple[str, str], _Entry] = {}
        """The one read longest ago comes first."""
        self._rereading: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(component="secrets")

    async def open(self) -> None:
        """Start to read cached Secrets again."""
        self._slots = asyncio.Semaphore(_PARALLEL_READS)
        self._rereading = asyncio.create_task(self._reread(), name="secrets reread")

    async def close(self) -> None:
        """Stop reading, and forget everything secret; a later `get` has no answer."""
        tasks = [entry.reading for entry in self._cache.values() if entry.reading]
        if self._rereading is not None:
            tasks.append(self._rereading)
            self._rereading = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._cache.clear()

    async def get(self, namespace: str, name: str) -> Credential:
        """Return a Secret's usable content, from memory where it is fresh.

        Raises `CollectionError` with a Secret reason, `TryAgainLaterError` when the
        API server does not answer and nothing is cached.
        """
        if self._rereading is None:
            raise TryAgainLaterError("the operator is closing")
        now = _now()
        key = (namespace, name)
        entry = self._cache.get(key)
        if entry is None:
            entry = self._cache[key] = _Entry(asked_at=now)
            self._meter.secrets_cached(len(self._cache))
        entry.asked_at = now
        if self._must_read(entry, now):
            if entry.refused:
                entry.refused, entry.refused_at = False, now
            await self._read(key, entry)
        if entry.failure is not None:
            raise CollectionError(*entry.failure)
        if entry.credential is None:
            raise TryAgainLaterError("the Kubernetes API does not answer")
        return entry.credential

    def forget(self, namespace: str, name: str) -> None:
        """Read the Secret anew at the next `get`, at most once in 30 seconds."""
        entry = self._cache.get((namespace, name))
        if entry is not None:
            entry.refused = True

    def _must_read(self, entry: _Entry, now: float) -> bool:
        if entry.refused and now - entry.refused_at >= self._pace.forget:
            return True
        if entry.failure is not None:
            return now - entry.read_at >= self._pace.failure
        return entry.credential is None

    async def _read(self, key: tuple[str, str], entry: _Entry) -> None:
        """Read a Secret once for all who wait for it."""
        if entry.reading is None:
            entry.reading = asyncio.create_task(
                self._fetch(key, entry), name=f"secret {key[0]}/{key[1]}"
            )
        # A waiter that is cancelled leaves the request to the others.
        await asyncio.shield(entry.reading)

    async def _fetch(self, key: tuple[str, str], entry: _Entry) -> None:
        try:
            async with self._slots:
                secret = await self._client.get(secret_path(*key))
            credential = credential_of(secret, salt=self._salt)
        except ApiAwayError:
            # A cached credential stays in use; an old failure is no answer now.
            entry.failure = None
            self._requeue(key, entry)
        except ApiRefusedError as error:
            self._settle(key, entry, failure=_failure(key, error))
        except CollectionError as error:
            self._settle(key, entry, failure=(error.reason, error.detail))
        else:
            self._settle(key, entry, credential=credential)
        finally:
            entry.reading = None

    def _settle(
        self,
        key: tuple[str, str],
        entry: _Entry,
        *,
        credential: Credential | None = None,
        failure: tuple[Reason, str] | None = None,
    ) -> None:
        changed = (credential, failure) != (entry.credential, entry.failure)
        if changed and entry.read_at > -inf:
            self._log.info("A Secret changed", namespace=key[0], secret=key[1])
        if changed:
            entry.credential, entry.failure = credential, failure
        entry.read_at = _now()
        self._requeue(key, entry)

    def _requeue(self, key: tuple[str, str], entry: _Entry) -> None:
        if self._cache.pop(key, None) is not None:
            self._cache[key] = entry

    async def _reread(self) -> None:
        """Walk round the cache, one round per period, faster as it grows."""
        credit, then = 0.0, _now()
        while True:
            await asyncio.sleep(self._pace.tick)
            now, size = _now(), len(self._cache)
            credit += size * (now - then) / self._pace.period(size)
            credit = min(size, credit)
            then = now
            while credit >= 1 and self._cache:
                credit -= 1
                await self._reread_oldest()

    async def _reread_oldest(self) -> None:
        key, entry = next(iter(self._cache.items()))
        unused = _now() - entry.asked_at > self._pace.unused
        if unused and entry.reading is None:
            del self._cache[key]
            self._meter.secrets_cached(len(self._cache))
            return
        try:
            await self._read(key, entry)
        except Exception:  # noqa: BLE001 - the runner: costs this read alone
            self._log.exception("A Secret could not be read", namespace=key[0])
            self._requeue(key, entry)


def _failure(key: tuple[str, str], error: ApiRefusedError) -> tuple[Reason, str]:
    namespace, name = key
    if error.status == HTTPStatus.NOT_FOUND:
        return Reason.SECRET_NOT_FOUND, f"Secret {name} is not there: create it"
    if error.status == HTTPStatus.FORBIDDEN:
        remedy = "grant its ServiceAccount the verb get on Secrets there"
        return (
            Reason.SECRET_FORBIDDEN,
            f"the operator may not read Secrets in namespace {namespace}: {remedy}",
        )
    return (
        Reason.SECRET_INVALID,
        f"the API server refuses to give Secret {name}: status {error.status}",
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
