"""The status writer: shows in each resource what the monitor knows."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING

import structlog

from hostwatch.kube.budget import TokenBucket
from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.names import FIELD_MANAGER, server_path
from hostwatch.kube.observed import Observed, observed_of, shown_of
from hostwatch.kube.status import is_overtaken, patch_of
from hostwatch.kube.waiting import Job, Urgency, Waiting
from hostwatch.model.sample import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.kube.client import KubeClient
    from hostwatch.kube.meter import KubeMeter
    from hostwatch.model.sample import ServerState
    from hostwatch.model.server import ServerId

_WRITERS = 4
_CONFLICTS = 3
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
_AWAY_SECONDS = 15.0
_QUIET_SECONDS = 30.0


class StatusWriter:
    """Writes states within a budget, the newest of each server only.

    May be opened again after it was closed. ``observe`` is heard at any time; what is
    shown while it is closed is written after the next `open`.
    """

    def __init__(
        self, client: KubeClient, *, writes_per_second: float, meter: KubeMeter
    ) -> None:
        self._client = client
        self._meter = meter
        self._rate = writes_per_second
        self._waiting = Waiting()
        self._workers: list[asyncio.Task[None]] = []
        self._writing = 0
        self._paused_until = -inf
        self._silences = 0
        self._quiet_until = -inf
        self._refused: set[ServerId] = set()
        self._log = structlog.get_logger(component="status")

    async def open(self, may_write: Callable[[], bool] = lambda: True) -> None:
        """Start writing; ``may_write`` is asked before each write.

        Where it says no the state is given up: another replica may know better.
        """
        self._may_write = may_write
        self._bucket = TokenBucket(self._rate, _now())
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._workers = [
            asyncio.create_task(self._run(), name=f"status writer {number}")
            for number in range(_WRITERS)
        ]

    async def close(self, *, drain: float = 3.0) -> None:
        """Write what is news for at most ``drain`` seconds more, then stop.

        What waits still is forgotten: whoever writes next knows better.
        """
        if not self._workers:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while self._writing or self._waiting.has_news:
                    self._settled.clear()
                    await self._settled.wait()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._waiting.clear()
        self._writing = 0

    def shown(self, server: ServerId) -> Shown:
        """Return what a resource's status says, as far as it was heard of."""
        observed = self._waiting.shown(server)
        return shown_of(observed) if observed is not None else Shown()

    def show(self, state: ServerState, urgency: int) -> None:
        """Take a server's newest state; it is written when its turn comes.

        ``urgency`` is 0 for a forced collection's answer, 1 for news, 2 for a refresh.
        """
        self._waiting.put(state, Urgency(urgency), _now())
        self._changed()

    def observe(self, server: ServerId, observed: Observed) -> None:
        """Note what the informer saw of a resource."""
        self._waiting.observe(server, observed)

    def drop(self, server: ServerId) -> None:
        """Forget a server: its resource is gone."""
        self._waiting.drop(server)
        self._refused.discard(server)
        self._changed()

    def _changed(self) -> None:
        self._meter.status_waiting(len(self._waiting))
        if self._workers:
            self._wake.set()
            self._settled.set()

    async def _run(self) -> None:
        while True:
            job = await self._next()
            self._writing += 1
            try:
                await self._write(job)
            except Exception:  # noqa: BLE001 - the runner: costs this write alone
                self._log.exception("A status write failed", **_names(job))
                self._waiting.done(job, _now(), written=False)
            finally:
                self._writing -= 1
                self._changed()

    async def _next(self) -> Job:
        """Wait for a job and for its token; the job is chosen last, when both are.

        One worker at a time, so that the token goes to the most urgent job of then.
        """
        async with self._turn:
            while True:
                now = _now()
                delay = self._waiting.wait(now)
                if not delay:
                    delay = max(self._bucket.wait(now), self._paused_until - now)
                if delay <= 0:
                    self._bucket.take(now)
                    return self._waiting.take()
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if delay == inf else delay):
                        await self._wake.wait()

    async def _write(self, job: Job) -> None:
        try:
            outcome = await self._decide_and_patch(job)
        except ApiAwayError as error:
            self._put_off(job, error)
            return
        except ApiRefusedError as error:
            self._refuse(job, error)
            return
        self._silences = 0
        if outcome != "written":
            self._bucket.give_back()
        self._count(job, outcome)
        if outcome == "gone":
            self.drop(job.state.server.id)
            return
        self._refused.discard(job.state.server.id)
        self._waiting.done(job, _now(), written=True)

    async def _decide_and_patch(self, job: Job) -> str:
        """Return the outcome; a conflict is decided again on what is stored now."""
        path = server_path(job.state.server.namespace, job.state.server.name)
        observed = job.entry.observed
        for _ in range(_CONFLICTS):
            try:
                if observed is None:
                    observed = observed_of(await self._client.get(path))
                    job.entry.note(observed)
                # The name may belong to another resource by now.
                if observed.id != job.state.server.id:
                    return "gone"
                if is_overtaken(job.state, observed):
                    return "unchanged"
                patch = patch_of(job.state, observed, self._client.clock.now())
                if patch is None or not self._may_write():
                    return "unchanged"
                body = await self._client.patch(
                    f"{path}/status", patch, query={"fieldManager": FIELD_MANAGER}
                )
            except ApiRefusedError as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return "gone"
                if error.status != HTTPStatus.CONFLICT:
                    raise
                self._count(job, "conflict")
                observed = None
            else:
                job.entry.note(observed_of(body))
                return "written"
        job.entry.observed = None
        raise ApiAwayError("others write this status at the same time", status=409)

    def _put_off(self, job: Job, error: ApiAwayError) -> None:
        """Try again later; silence or throttling puts all writes off."""
        now, delay = _now(), 0.0
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            retry_after = _FIRST_DELAY_SECONDS
            if error.retry_after is not None:
                retry_after = min(error.retry_after, _LONGEST_DELAY_SECONDS)
            self._bucket.throttled(retry_after, now)
            self._count(job, "throttled")
        else:
            if error.status is None:
                self._pause(now)
            else:
                delay = self._backoff(job)
            self._count(job, "retried")
        self._waiting.again(job, now, delay=delay)
        self._complain(str(error), now)

    def _refuse(self, job: Job, error: ApiRefusedError) -> None:
        """Give a state up that the schema refuses; retry what may be granted later."""
        now = _now()
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            self._count(job, "retried")
            self._waiting.again(job, now, delay=self._backoff(job))
            self._complain(str(error), now)
            return
        self._count(job, "refused")
        self._waiting.done(job, now, written=False)
        server = job.state.server.id
        if server not in self._refused:
            self._refused.add(server)
            self._log.error(
                "The API server refuses a status", detail=error.detail, **_names(job)
            )

    def _pause(self, now: float) -> None:
        """Pause longer after each silence; those of writes in parallel are one."""
        if now < self._paused_until:
            return
        self._silences += 1
        pause = min(_AWAY_SECONDS, 2.0 ** min(self._silences - 1, 10))
        self._paused_until = now + pause

    def _backoff(self, job: Job) -> float:
        job.entry.failures += 1
        delay = _FIRST_DELAY_SECONDS * 2.0 ** min(job.entry.failures - 1, 10)
        return min(delay, _LONGEST_DELAY_SECONDS)

    def _count(self, job: Job, outcome: str) -> None:
        self._meter.status_written(job.urgency.name.lower(), outcome)

    def _complain(self, detail: str, now: float) -> None:
        """Log one line for all servers: an API that is away fails each of them."""
        if now < self._quiet_until:
            return
        self._quiet_until = now + _QUIET_SECONDS
        self._log.warning(
            "Status writes are put off", detail=detail, waiting=len(self._waiting)
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _names(job: Job) -> dict[str, str]:
    server = job.state.server
    return {
        "server": server.name,
        "namespace": server.namespace,
        "organization": server.organization,
    }
