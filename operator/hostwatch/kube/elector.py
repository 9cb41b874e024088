"""Leader election on one Lease: one works, and has stopped before another begins."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

import structlog

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.lease import Record, Sight, lease_body, leases_path
from hostwatch.kube.names import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hostwatch.kube.client import KubeClient

T = TypeVar("T")

_JITTER = 0.2
_TAKEOVER_SPREAD_SECONDS = 0.5
_RELEASE_SECONDS = 2.0
_CONFLICTS = 3
_QUIET_SECONDS = 30.0


def unique_identity(name: str) -> str:
    """Return an identity that no other process has, whatever its name."""
    return f"{name}-{uuid4()}"


class LeaseMeter(Protocol):
    """Counts what the election does; no method may wait or raise."""

    def leading(self, leading: bool) -> None:  # noqa: FBT001 - the value of a gauge
        """Tell whether our work runs."""
        ...

    def renewed(self, seconds: float) -> None:
        """Count a renewal, and how long its request took."""
        ...

    def failed(self, why: str) -> None:
        """Count a failed request: away, conflict, forbidden or refused."""
        ...

    def transitions(self, number: int) -> None:
        """Tell how often the holder changed, as the Lease says."""
        ...


class Term:
    """The time in which the Lease is ours; ``number`` grows with every holder."""

    def __init__(self, number: int, until: float) -> None:
        self.number = number
        self._until = until
        self._now = asyncio.get_running_loop().time

    def valid(self) -> bool:
        """Tell whether work may begin now; false long before another can hold it."""
        return self.left() > 0

    def left(self) -> float:
        """Return the seconds until it ends, unless it is extended."""
        return max(0.0, self._until - self._now())

    def extend(self, until: float) -> None:
        """Let it last until the loop's clock shows ``until``: the elector's."""
        self._until = until

    def end(self) -> None:
        """End it for good: the elector's."""
        self._until = -inf


class Elector:
    """Competes for one Lease under an identity that must be unique.

    A Lease is good for ``duration`` seconds after its last renewal; the holder
    renews every ``retry`` seconds, and begins to stop when that did not succeed for
    ``deadline`` seconds, which leaves the difference for stopping. ``client`` should
    be its own: a full pool would delay renewals. ``abandon`` is called when the work
    does not stop before the Lease ends, because two that work are worse than none.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        meter: LeaseMeter,
        duration: float = 15,
        deadline: float = 10,
        retry: float = 2,
        chance: Callable[[], float] = random.random,
        abandon: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        if not 0 < retry * (1 + _JITTER) < deadline < duration:
            raise ValueError("a Lease needs retry × 1.2 < deadline < duration")
        self._client = client
        self._namespace, self._name = namespace, name
        self._path = leases_path(namespace)
        self._identity = identity
        self._meter = meter
        self._duration, self._deadline, self._retry = duration, deadline, retry
        self._chance = chance
        self._abandon = abandon
        self._sight = Sight(duration)
        # What we wrote or may have written: set as long as the Lease can be ours.
        self._mine: Record | None = None
        self._followed = ""
        self._trouble, self._quiet_until = "", -inf
        self._log = structlog.get_logger(
            component="election", lease=name, namespace=namespace
        ).bind(identity=identity)

    async def run(self, lead: Callable[[Term], Awaitable[None]]) -> None:
        """Compete for ever, and run ``lead`` whenever the Lease is ours.

        Ends as ``lead`` ends by itself, with its exception. Before this ends, and
        when it is cancelled, the work is stopped and then the Lease released. No
        cancellation shortens the stop, only that of the release.
        """
        try:
            while await self._hold(await self._acquire(), lead):
                pass
        finally:
            await self._release()

    async def _acquire(self) -> Term:
        while True:
            term = await self._attempt(self._take(), self._deadline / 2)
            if term is not None and term.valid():
                return term
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Return the seconds to the next look, or to when the holder's time is over."""
        poll = self._retry * (1 + _JITTER * self._chance())
        left = self._sight.free_at - _now()
        if left <= 0:
            return poll
        return min(poll, left + _TAKEOVER_SPREAD_SECONDS * self._chance())

    async def _take(self) -> Term | None:
        await self._look()
        holder = self._sight.holder
        if not self._sight.free(_now()):
            self._follow(holder)
            return None
        self._mine = record = Record(
            holder=self._identity,
            duration=self._duration,
            acquired=datetime.now(UTC),
            transitions=self._sight.transitions + 1,
        )
        sent = _now()
        if not await self._write(record.spec(record.acquired)):
            self._mine = None
            return None
        self._followed = ""
        self._log.info("Leading", term=record.transitions, after=holder or None)
        return Term(record.transitions, sent + self._deadline)

    def _follow(self, holder: str) -> None:
        if holder and holder != self._followed:
            self._followed = holder
            self._log.info("Following", holder=holder)

    async def _hold(self, term: Term, lead: Callable[[Term], Awaitable[None]]) -> bool:
        """Run the work until the Lease is lost; False when it ended by itself."""
        work = asyncio.create_task(_work(lead, term), name=f"term {term.number}")
        self._meter.leading(True)  # noqa: FBT003 - the value of a gauge
        try:
            lost = await self._keep(term, work)
        finally:
            try:
                await _to_its_end(
                    self._stop(work, term), name=f"end of {work.get_name()}"
                )
            finally:
                term.end()
                self._meter.leading(False)  # noqa: FBT003 - the value of a gauge
        if not lost or not work.cancelled():
            work.result()
        return lost

    async def _keep(self, term: Term, work: asyncio.Task[None]) -> bool:
        """Renew until the work ends by itself, or the Lease is lost: then True."""
        tried = _now()
        while True:
            pause = min(tried + self._retry - _now(), term.left())
            await asyncio.wait({work}, timeout=max(0.0, pause))
            if work.done():
                return False
            # First of all: a loop that stood still wakes too late to renew.
            if not term.valid():
                self._log.warning("Lost the lease", why="not renewed in time")
                return True
            tried = _now()
            sent = await self._attempt(
                self._renew(), min(self._deadline / 2, term.left())
            )
            if self._mine is None:
                term.end()
                self._log.warning("Lost the lease", holder=self._sight.holder)
                return True
            if sent is not None and term.valid():
                term.extend(sent + self._deadline)
                self._meter.renewed(_now() - sent)

    async def _renew(self) -> float | None:
        """Return when the renewal was sent; None where the Lease is not ours."""
        for _ in range(_CONFLICTS):
            sent = _now()
            if self._mine is None:
                return None
            if await self._write(self._mine.spec(datetime.now(UTC))):
                return sent
            await self._look()
            if self._sight.lease is None:
                self._log.warning("The lease was deleted, making it again")
        raise _busy()

    async def _stop(self, work: asyncio.Task[None], term: Term) -> None:
        """Cancel the work and wait for its end, which must come before the Lease's."""
        if work.done():
            return
        # Should the loop itself end meanwhile, there must be no release.
        mine, self._mine = self._mine, None
        work.cancel()
        left = term.left() + self._duration - self._deadline
        await asyncio.wait({work}, timeout=left)
        if not work.done():
            self._log.critical("The work does not stop, so the process has to")
            self._abandon()
            await asyncio.wait({work})
        self._mine = mine
        if not work.cancelled() and work.exception() is not None:
            self._log.error("The work failed to stop", exc_info=work.exception())

    async def _release(self) -> None:
        if self._mine is None:
            return
        if await self._attempt(self._give_back(self._mine), _RELEASE_SECONDS):
            self._log.info("Released the lease")
        self._mine = None

    async def _give_back(self, record: Record) -> bool:
        """Write that nobody holds the Lease; False where it is not ours any more."""
        for _ in range(_CONFLICTS):
            ours = self._sight.holder == self._identity
            if ours and await self._write(record.released(datetime.now(UTC))):
                return True
            await self._look()
            if self._sight.holder != self._identity:
                return False
        raise _busy()

    async def _attempt(
        self, requests: Coroutine[object, object, T], within: float
    ) -> T | None:
        """Return the result, or None where the API failed us."""
        try:
            async with asyncio.timeout(within):
                return await requests
        except TimeoutError:
            self._failed("away", "no answer in time")
        except ApiAwayError as error:
            self._failed("away", str(error))
        except ApiRefusedError as error:
            forbidden = error.status == HTTPStatus.FORBIDDEN
            self._failed("forbidden" if forbidden else "refused", str(error))
        return None

    async def _look(self) -> None:
        body = None
        try:
            body = await self._client.get(f"{self._path}/{self._name}")
        except ApiRefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        self._see(body)
        if body is not None and self._sight.holder != self._identity:
            self._mine = None

    async def _write(self, spec: dict[str, object]) -> bool:
        """Write over what was seen; False where the Lease is no longer that."""
        stored = self._sight.lease
        body = lease_body(self._namespace, self._name, spec, stored)
        query = {"fieldManager": FIELD_MANAGER}
        try:
            if stored is None:
                body = await self._client.post(self._path, body, query=query)
            else:
                path = f"{self._path}/{self._name}"
                body = await self._client.put(path, body, query=query)
        except ApiRefusedError as error:
            gone = stored is not None and error.status == HTTPStatus.NOT_FOUND
            if error.status != HTTPStatus.CONFLICT and not gone:
                raise
            self._meter.failed("conflict")
            return False
        self._see(body)
        return True

    def _see(self, body: dict[str, Any] | None) -> None:
        self._sight.see(body, _now())
        if body is not None:
            self._meter.transitions(self._sight.transitions)

    def _failed(self, why: str, detail: str) -> None:
        """Count it; log it when it is another trouble than the last, or still is."""
        self._meter.failed(why)
        if detail == self._trouble and _now() < self._quiet_until:
            return
        self._trouble, self._quiet_until = detail, _now() + _QUIET_SECONDS
        if why == "forbidden":
            self._log.error(
                "Grant the verbs get, create and update on leases.coordination.k8s.io "
                "in this namespace",
                detail=detail,
            )
        else:
            self._log.warning("The lease cannot be read or written", detail=detail)


async def _work(lead: Callable[[Term], Awaitable[None]], term: Term) -> None:
    await lead(term)


async def _to_its_end(ending: Coroutine[None, None, None], *, name: str) -> None:
    """Await it whatever comes; a cancellation meanwhile is raised when it is over."""
    task = asyncio.create_task(ending, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _busy() -> ApiAwayError:
    return ApiAwayError(
        "others write this Lease at the same time", status=HTTPStatus.CONFLICT
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
