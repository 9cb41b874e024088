"""One sink, told one notification after the other, each as often as it takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.alert import UndeliverableError
from hostwatch.model.kept import Outcome
from hostwatch.model.reason import TryAgainLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.kept import Errand
    from hostwatch.notify.meter import NotifyMeter
    from hostwatch.notify.ports import Sink

_DEADLINE = 20.0
"""Seconds for one attempt."""

_LONGEST_PAUSE = 60.0
_MISTAKES = 5
"""Attempts that end in an error nobody foresaw before a notification is given up: it
must not keep the others for ever."""


class Outlet:
    """Tells in order, so that no sink hears of an end before its beginning.

    ``done`` is told each outcome. A sink that fails makes only its own outlet wait:
    1 to 60 s, twice as long each time; ``chance`` in [0, 1) takes up to half off.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        done: Callable[[Errand, Outcome], None],
        meter: NotifyMeter,
        chance: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._done = done
        self._meter = meter
        self._chance = chance
        self._log = structlog.get_logger(component="notify", sink=sink.name)
        self._queue: deque[Errand] = deque()
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failures = 0
        self._mistakes = 0

    def __len__(self) -> int:
        """Return how many notifications wait here."""
        return len(self._queue)

    def put(self, errand: Errand) -> None:
        """Queue an errand."""
        self._queue.append(errand)
        self._some.set()

    def stop(self) -> None:
        """Let `run` end once all is told, or at the first failure."""
        self._stopping.set()
        self._some.set()

    async def run(self) -> None:
        """Tell for ever, until `stop`."""
        while await self._has_work():
            outcome = await self._tell(self._queue[0])
            if outcome is not None:
                self._done(self._queue.popleft(), outcome)

    async def _has_work(self) -> bool:
        if self._stopping.is_set() and self._failures:
            return False
        if not self._queue and not self._stopping.is_set():
            self._some.clear()
            await self._some.wait()
        return bool(self._queue)

    async def _tell(self, errand: Errand) -> Outcome | None:
        """Make one attempt; after one that failed wait, and return None."""
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._sink.deliver(errand.notification)
        except UndeliverableError as error:
            return self._give_up(errand, str(error))
        except (TryAgainLaterError, TimeoutError) as error:
            await self._wait(str(error) or "no answer in time")
        except Exception:  # noqa: BLE001 - the one runner of this task
            self._log.exception("Telling of an alert failed unexpectedly")
            self._mistakes += 1
            if self._mistakes >= _MISTAKES:
                return self._give_up(errand, "an unexpected error, again and again")
            await self._wait("an unexpected error")
        else:
            self._succeeded()
            return Outcome.DELIVERED
        return None

    def _succeeded(self) -> None:
        self._meter.delivered(self._sink.name)
        if self._failures:
            self._log.info("Alerts are told again", waiting=len(self._queue) - 1)
        self._failures = self._mistakes = 0

    def _give_up(self, errand: Errand, why: str) -> Outcome:
        self._failures = self._mistakes = 0
        self._meter.given_up(self._sink.name)
        alert = errand.notification.alert
        self._log.error(
            "An alert cannot be told and is given up",
            server=alert.server.name,
            namespace=alert.server.namespace,
            organization=alert.server.organization,
            alert_id=alert.id,
            transition=alert.transition,
            cause=why,
        )
        return Outcome.REFUSED

    async def _wait(self, cause: str) -> None:
        self._meter.failed(self._sink.name)
        self._failures += 1
        if self._failures == 1:
            self._log.warning(
                "Alerts cannot be told, they wait",
                waiting=len(self._queue),
                cause=cause,
            )
        pause = min(_LONGEST_PAUSE, 2.0 ** min(self._failures, 10))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause * (1 - self._chance() / 2)):
                await self._stopping.wait()
