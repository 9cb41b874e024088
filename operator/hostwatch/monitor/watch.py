"""One server as the monitor knows it, and what a collection changes in that."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwatch.health.assess import assess
from hostwatch.health.conditions import Facts, conditions
from hostwatch.health.reasons import pause_after
from hostwatch.model.reason import Reason
from hostwatch.model.sample import (
    CollectResult,
    Failure,
    Health,
    Metrics,
    Sample,
    ServerState,
)
from hostwatch.monitor.request import acknowledged_as

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from hostwatch.health.assess import Verdict
    from hostwatch.model.sample import Shown
    from hostwatch.model.server import Server, ServerKey, ServerSpec
    from hostwatch.monitor.collect import Counters, Outcome

_HISTORY = 4
"""CPU counters kept: forced runs come as close as five seconds to a slot."""


@dataclass(slots=True)
class Hold:
    """A server left alone until then, unless its Secret changes before.

    ``until`` is on the event loop's clock; ``secret`` the version that was refused.
    """

    until: float
    secret: str | None


class Watch:
    """What is known of one server.

    ``key`` is None while its organization is unknown or invalid; ``since`` is when it
    came under watch, on the event loop's clock. ``handled`` is the newest forced
    request that was answered, ``requested`` one that waits. ``again`` asks for
    another run as soon as the running one ends.
    """

    def __init__(self, server: Server, shown: Shown) -> None:
        self.server = server
        self.key: ServerKey | None = None
        self.since = 0.0
        self.handled = shown.handled_request
        self.requested = ""
        self.forced_at: float | None = None
        self.task: asyncio.Task[None] | None = None
        self.again = False
        self.hold: Hold | None = None
        self.outcome: Verdict | Failure | None = None
        self.history: deque[Counters] = deque(maxlen=_HISTORY)
        self.failures = shown.consecutive_failures
        self.same_failures = 0
        self.pinned = shown.pinned
        self._last_attempt: datetime | None = None
        self._last_success: datetime | None = None
        self._metrics: Metrics | None = None
        self._collected_generation = shown.generation
        self._shown = (
            shown.generation,
            shown.health,
            shown.conditions,
            shown.organization,
        )

    def runnable(self) -> ServerSpec | None:
        """Return the spec to collect by, None where nothing may be collected."""
        return self.server.spec if self.key is not None else None

    @property
    def suspended(self) -> bool:
        """Whether its spec says to leave it alone."""
        return self.server.spec is not None and self.server.spec.suspend

    def renew(self, old: ServerSpec | None) -> None:
        """Begin anew with a changed spec: what was known may be of another machine.

        The status keeps what was collected, under its own generation, until there is
        something new to say.
        """
        self.history.clear()
        self.hold = None
        self.failures = self.same_failures = 0
        new = self.server.spec
        if old is None or new is None:
            return
        if (old.host, old.port, old.host_key) != (new.host, new.port, new.host_key):
            self.pinned = None

    def wants(self, request: str) -> bool:
        """Take the annotation's value; tell whether it asks for another run."""
        if not request or acknowledged_as(request) == self.handled:
            self.requested = ""
            return False
        if request == self.requested:
            return False
        self.requested = request
        return True

    def finished(self, key: ServerKey, spec: ServerSpec, outcome: Outcome) -> Sample:
        """Take a collection's outcome in; return the sample it makes."""
        self._collected_generation = self.server.generation
        self._last_attempt = outcome.collected_at
        self.pinned = outcome.pinned or self.pinned
        if outcome.metrics is None:
            return self._failed(key, outcome)
        verdict = assess(outcome.metrics, spec.thresholds)
        self.outcome = verdict
        self.failures = self.same_failures = 0
        self.hold = None
        self._last_success = outcome.collected_at
        self._metrics = outcome.metrics
        self.history.extendleft(reversed(outcome.counters))
        return Sample(key, outcome.collected_at, verdict.health, None, outcome.metrics)

    def _failed(self, key: ServerKey, outcome: Outcome) -> Sample:
        failure = outcome.failure or Failure(Reason.COMMAND_FAILED, "no answer")
        before = self.outcome
        same = isinstance(before, Failure) and before.reason is failure.reason
        self.same_failures = self.same_failures + 1 if same else 1
        self.outcome = failure
        self.failures += 1
        return Sample(
            key, outcome.collected_at, Health.ERROR, failure.reason, Metrics()
        )

    def hold_back(self, outcome: Outcome, spec: ServerSpec, now: float) -> None:
        """Leave the server alone for a while where its failure calls for that."""
        self.hold = None
        if outcome.failure is None:
            return
        pause = pause_after(
            outcome.failure.reason,
            failures=self.same_failures,
            interval=spec.interval,
        )
        if pause > spec.interval:
            self.hold = Hold(now + pause, outcome.tried_with)

    def result(
        self, request: str, outcome: Outcome, when: datetime
    ) -> CollectResult | None:
        """Return the answer to a forced request; None without one, or with a newer."""
        if not request or request != self.requested:
            return None
        reason = outcome.failure.reason if outcome.failure else "Collected"
        return self.answered(
            CollectResult(
                request=acknowledged_as(request),
                succeeded=outcome.failure is None,
                reason=reason,
                finished_at=when,
                duration_milliseconds=round(outcome.duration * 1000),
            )
        )

    def answered(self, result: CollectResult) -> CollectResult:
        """Note that the waiting request has its answer."""
        self.handled, self.requested = result.request, ""
        return result

    def state(self, key: ServerKey, result: CollectResult | None) -> ServerState:
        """Return what the status should say now."""
        spec = self.server.spec
        suspended = self.suspended
        first_use = spec is not None and spec.host_key.trust_on_first_use
        pinned = self.pinned if first_use else None
        facts = Facts(
            self._facts(),
            suspended=suspended,
            first_use=first_use,
            pinned=pinned is not None,
        )
        return ServerState(
            server=key,
            generation=self._generation(suspended=suspended),
            health=self._health(suspended=suspended),
            conditions=conditions(facts),
            last_attempt=self._last_attempt,
            last_success=self._last_success,
            metrics=self._metrics,
            consecutive_failures=self.failures,
            pinned=pinned,
            result=result,
        )

    def _generation(self, *, suspended: bool) -> int:
        """Return the generation that the state speaks of.

        What was collected by an older spec must not pass for the newer one's.
        """
        if suspended or self.runnable() is None or self.outcome is None:
            return self.server.generation
        return self._collected_generation

    def is_new(self) -> bool:
        """Tell whether nothing was ever shown of this server."""
        return not self._shown[2]

    def is_news(self, state: ServerState) -> bool:
        """Tell whether a state says anything but new numbers, and remember it."""
        told = tuple((c.type, c.status, str(c.reason)) for c in state.conditions)
        organization = state.server.organization
        shown = (state.generation, state.health, told, organization)
        news, self._shown = shown != self._shown, shown
        return news

    def _facts(self) -> Verdict | Failure | None:
        if self.key is None:
            return Failure(
                Reason.INVALID_ORGANIZATION,
                "the namespace names no organization: give it the label "
                "hostwatch.dev/organization with a DNS label as its value",
            )
        if self.server.spec is None:
            return Failure(Reason.INVALID_SPEC, self.server.invalid)
        return self.outcome

    def _health(self, *, suspended: bool) -> Health:
        if suspended:
            return Health.SUSPENDED
        match self._facts():
            case None:
                return Health.UNKNOWN
            case Failure():
                return Health.ERROR
            case verdict:
                return verdict.health
