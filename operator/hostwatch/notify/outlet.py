"""One sink, told one notification after the other, each as often as it takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from math import isinf
from typing import TYPE_CHECKING

import structlog

from hostwatch.model.alert import UndeliverableError
from hostwatch.model.kept import Outcome
from hostwatch.model.reason import TryAgainLaterError, TryOthersMeanwhileError
from hostwatch.notify.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostwatch.model.kept import Errand, ErrandKey
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

    ``done`` is told each outcome. A sink that fails makes only its own outlet wait,
    and one that fails for a namespace only the errands of that namespace: 1 to 60 s,
    twice as long each time; ``chance`` in [0, 1) takes up to half off.
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
        self._lanes = Lanes()
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failures = 0
        self._mistakes: Counter[ErrandKey] = Counter()

    def __len__(self) -> int:
        """Return how many notifications wait here."""
        return len(self._lanes)

    def put(self, errand: Errand) -> None:
        """Queue an errand."""
        self._lanes.put(errand)
        self._some.set()

    def stop(self) -> None:
        """Let `run` end once all is told, or at the first failure."""
        self._stopping.set()
        self._some.set()

    async def run(self) -> None:
        """Tell for ever, until `stop`."""
        while (errand := await self._next()) is not None:
            outcome = await self._tell(errand)
            if outcome is not None:
                self._lanes.end(errand)
                self._mistakes.pop(errand.key, None)
                self._done(errand, outcome)

    async def _next(self) -> Errand | None:
        """Wait for work; return None once there is no more to do."""
        while not (self._stopping.is_set() and self._failures):
            errand = self._lanes.next(_now())
            if errand is not None or self._stopping.is_set():
                return errand
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._wake_at()):
                    await self._some.wait()
        return None

    def _wake_at(self) -> float | None:
        due = self._lanes.due_at()
        return None if isinf(due) else due

    async def _tell(self, errand: Errand) -> Outcome | None:
        """Make one attempt; after one that failed wait, and return None."""
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._sink.deliver(errand.notification)
        except UndeliverableError as error:
            return self._give_up(errand, str(error))
        except TryOthersMeanwhileError as error:
            self._pass_over(errand, str(error))
        except (TryAgainLaterError, TimeoutError) as error:
            await self._wait(str(error) or "no answer in time")
        except Exception:  # noqa: BLE001 - the one runner of this task
            self._log.exception("Telling of an alert failed unexpectedly")
            self._mistakes[errand.key] += 1
            if self._mistakes[errand.key] >= _MISTAKES:
                return self._give_up(errand, "an unexpected error, again and again")
            await self._wait("an unexpected error")
        else:
            self._succeeded(errand)
            return Outcome.DELIVERED
        return None

    def _succeeded(self, errand: Errand) -> None:
        self._meter.delivered(self._sink.name)
        self._answered()
        if self._lanes.failures(errand):
            self._log.info(
                "Alerts of a namespace are told again",
                namespace=errand.notification.alert.server.namespace,
            )

    def _answered(self) -> None:
        if self._failures:
            self._log.info("Alerts are told again", waiting=len(self._lanes) - 1)
        self._failures = 0

    def _pass_over(self, errand: Errand, cause: str) -> None:
        """Let the errand's namespace wait, and nobody else."""
        self._meter.failed(self._sink.name)
        self._answered()
        failures = self._lanes.failures(errand) + 1
        if failures == 1:
            server = errand.notification.alert.server
            self._log.warning(
                "Alerts of a namespace cannot be told, they wait",
                namespace=server.namespace,
                organization=server.organization,
                cause=cause,
            )
        self._lanes.hold(errand, _now() + self._pause(failures))

    def _give_up(self, errand: Errand, why: str) -> Outcome:
        self._failures = 0
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
                waiting=len(self._lanes),
                cause=cause,
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause(self._failures)):
                await self._stopping.wait()

    def _pause(self, failures: int) -> float:
        pause = min(_LONGEST_PAUSE, 2.0 ** min(failures, 10))
        return pause * (1 - self._chance() / 2)


def _now() -> float:
    return asyncio.get_running_loop().time()
