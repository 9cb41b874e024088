"""One collection of one server: connect, ask, read, and try again within the limit."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hostwatch import probes
from hostwatch.health.reasons import TRANSIENT
from hostwatch.model.credential import Target
from hostwatch.model.reading import Cpu, CpuTimes, Uptime
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.model.sample import Failure
from hostwatch.model.server import ConnectionMode
from hostwatch.monitor.hostkeys import trust_of
from hostwatch.monitor.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from hostwatch.model.sample import Metrics, PinnedKey
    from hostwatch.model.server import Fingerprint, Server, ServerKey, ServerSpec
    from hostwatch.monitor.clock import Clock
    from hostwatch.monitor.hostkeys import HostKeys
    from hostwatch.monitor.ports import Credentials, Shell, Shells

WORKERS = 4096
"""Requests in flight per replica.

A server that hangs holds one for fifteen seconds and costs 30 kB meanwhile; when half
of ten thousand hang at once, the others must still find one free.
"""

WINDOW = 5.0
"""Seconds between two CPU reads that make a steady figure."""

SHORTEST_WINDOW = 1.0
"""Seconds below which the difference of two CPU reads is mostly noise."""

Counters = tuple[CpuTimes, Uptime]
"""CPU counters and the uptime they were read at."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one collection starts from.

    ``failing`` tells that the last collection failed, ``shown`` is the pin in the
    resource's status, ``history`` holds earlier CPU counters, newest first.
    """

    server: ServerKey
    resource: Server
    spec: ServerSpec
    failing: bool
    shown: PinnedKey | None
    history: tuple[Counters, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one collection gave: metrics or a failure; ``duration`` in seconds.

    ``counters`` are for later samples to compare with, newest first. ``tried_with``
    is the version of the Secret that was used, if one was got.
    """

    collected_at: datetime
    duration: float
    attempts: int
    metrics: Metrics | None = None
    failure: Failure | None = None
    counters: tuple[Counters, ...] = ()
    pinned: PinnedKey | None = None
    tried_with: str | None = None


class Collector:
    """Takes samples; holds no state of any server.

    ``chance`` draws numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        shells: Shells,
        credentials: Credentials,
        host_keys: HostKeys,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._shells = shells
        self._credentials = credentials
        self._host_keys = host_keys
        self._clock = clock
        self._chance = chance
        self._workers = asyncio.Semaphore(WORKERS)

    async def collect(self, job: Job) -> Outcome:
        """Return what the server said, or why it did not, within its time limit.

        Raises `TryAgainLaterError` where a service of our own was away.
        """
        retry = Retry.of(job.spec, failing=job.failing)
        run = _Run(job)
        while True:
            failure = await self._attempt(run, retry)
            if failure is None:
                return self._outcome(run, retry)
            if failure.reason is Reason.AUTHENTICATION_FAILED:
                if await self._has_changed(run):
                    continue
                return self._outcome(run, retry, failure)
            delay = None
            if failure.reason in TRANSIENT:
                delay = retry.next_delay(self._chance())
            if delay is None:
                return self._outcome(run, retry, failure)
            await asyncio.sleep(delay)

    async def _attempt(self, run: _Run, retry: Retry) -> Failure | None:
        """Run one attempt; the only place that turns errors into a failure."""
        limit = retry.attempt_limit()
        run.connected, spent = False, 0.0
        try:
            # What we need ourselves is not on the server's time.
            target = await self._target(run)
            deadline = asyncio.timeout(limit)
            try:
                await self._ask(run, target, deadline)
            finally:
                spent = _elapsed(deadline, limit)
        except CollectionError as error:
            return Failure(error.reason, error.detail, error.reached, error.presented)
        except TimeoutError:
            return Failure(
                Reason.COLLECT_TIMEOUT,
                f"no complete answer within {limit:.2g} s",
                reached=run.connected,
            )
        finally:
            retry.attempted(spent)
        return None

    async def _ask(self, run: _Run, target: Target, deadline: asyncio.Timeout) -> None:
        try:
            async with deadline:
                shell = await self._open(run, target, deadline)
                run.connected = True
                if target.trust.first_use:
                    # The login succeeded, whatever the server answers now.
                    async with _standing_still(deadline):
                        run.pin = await self._keep(run, shell.host_key)
                async with _turn(self._workers, deadline):
                    asked_at = self._clock.now()
                    body = await shell.ask("all")
            run.read(body, asked_at)
        finally:
            if not target.persistent:
                await self._shells.close(target.server.id)

    async def _open(
        self, run: _Run, target: Target, deadline: asyncio.Timeout
    ) -> Shell:
        """Open a shell; a changed key is accepted where the annotation names it."""
        try:
            return await self._shells.open(target, deadline)
        except CollectionError as error:
            accepted = run.job.resource.accept_host_key
            if run.pin is None or not accepted or error.presented != accepted:
                raise
            trust = replace(target.trust, pin=error.presented)
            shell = await self._shells.open(replace(target, trust=trust), deadline)
            async with _standing_still(deadline):
                run.pin = await self._keep(run, error.presented)
            return shell

    async def _target(self, run: _Run) -> Target:
        job, spec = run.job, run.job.spec
        credential = await self._credentials.get(job.server.namespace, spec.secret_name)
        run.tried_with = credential.version
        if spec.host_key.trust_on_first_use:
            run.pin = await self._host_keys.pin_of(
                job.server,
                spec,
                shown=job.shown,
                accepted=job.resource.accept_host_key,
                now=self._clock.now(),
            )
        return Target(
            server=job.server,
            host=spec.host,
            port=spec.port,
            user=spec.user,
            credential=credential,
            trust=trust_of(spec, credential, run.pin),
            persistent=spec.connection is ConnectionMode.PERSISTENT,
            interval=spec.interval,
        )

    async def _keep(self, run: _Run, key: Fingerprint) -> PinnedKey:
        job = run.job
        return await self._host_keys.keep(job.server, job.spec, key, self._clock.now())

    async def _has_changed(self, run: _Run) -> bool:
        """Tell, once per collection, whether the refused Secret was since replaced."""
        if run.looked_again:
            return False
        run.looked_again = True
        namespace, name = run.job.server.namespace, run.job.spec.secret_name
        self._credentials.forget(namespace, name)
        try:
            credential = await self._credentials.get(namespace, name)
        except CollectionError:
            return False
        return credential.version != run.tried_with

    def _outcome(
        self, run: _Run, retry: Retry, failure: Failure | None = None
    ) -> Outcome:
        return Outcome(
            collected_at=run.collected_at or self._clock.now(),
            duration=retry.spent,
            attempts=retry.attempts,
            metrics=run.metrics if failure is None else None,
            failure=failure,
            counters=tuple(run.counters) if failure is None else (),
            pinned=run.pin,
            tried_with=run.tried_with,
        )


class _Run:
    """What the attempts of one collection find out."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.collected_at: datetime | None = None
        self.metrics: Metrics | None = None
        self.counters: list[Counters] = []
        self.pin: PinnedKey | None = None
        self.tried_with: str | None = None
        self.connected = False
        self.looked_again = False

    def read(self, body: str, asked_at: datetime) -> None:
        """Parse the document; raises `CollectionError` where it says nothing."""
        readings = probes.parse(body)
        cpu, uptime = readings.get(Cpu), readings.get(Uptime)
        self.collected_at = asked_at
        if cpu is not None and uptime is not None:
            self.counters = [(cpu.now, uptime)]
            if cpu.earlier is not None:
                sooner = replace(uptime, seconds=uptime.seconds - 1)
                self.counters.append((cpu.earlier, sooner))
        self.metrics = probes.summarize(
            readings,
            collected_at=asked_at,
            before=self._before(uptime),
            exclude=self.job.spec.exclude,
        )

    def _before(self, uptime: Uptime | None) -> Counters | None:
        """Return the newest counters five seconds older than these, or the oldest.

        A slot may come a little less than five seconds after the one before, and a
        forced run right after a slot.
        """
        if uptime is None:
            return None
        oldest = None
        for counters in self.job.history:
            age = uptime.seconds - counters[1].seconds
            if age >= WINDOW:
                return counters
            if age >= SHORTEST_WINDOW:
                oldest = counters
        return oldest


def _elapsed(deadline: asyncio.Timeout, limit: float) -> float:
    """Return an attempt's seconds, those in our own queues left out."""
    when = deadline.when()
    if when is None:
        return 0.0
    left = when - asyncio.get_running_loop().time()
    return min(limit, max(0.0, limit - left))


@asynccontextmanager
async def _standing_still(deadline: asyncio.Timeout) -> AsyncIterator[None]:
    """Stop an attempt's time while something of ours is waited for."""
    loop = asyncio.get_running_loop()
    left = (deadline.when() or loop.time()) - loop.time()
    deadline.reschedule(None)
    try:
        yield
    finally:
        deadline.reschedule(loop.time() + left)


@asynccontextmanager
async def _turn(
    workers: asyncio.Semaphore, deadline: asyncio.Timeout
) -> AsyncIterator[None]:
    """Hold one of the workers; the deadline stands still while none is free."""
    if workers.locked():
        async with _standing_still(deadline):
            await workers.acquire()
    else:
        await workers.acquire()
    try:
        yield
    finally:
        workers.release()
