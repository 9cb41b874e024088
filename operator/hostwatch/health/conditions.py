"""The four conditions of a server, from what its last collection gave.

Their meaning follows the Kubernetes API conventions: ``Ready`` sums up, a reason is
CamelCase and never empty, "Unknown" is said rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwatch.health.reasons import AFTER_TRUST, HOST_KEY, NETWORK
from hostwatch.model.sample import Condition, Failure, Health

if TYPE_CHECKING:
    from hostwatch.health.assess import Verdict

NOT_COLLECTED_YET = "NotCollectedYet"

_HEALTHY = {
    Health.HEALTHY: ("True", "WithinThresholds"),
    Health.WARNING: ("False", "AboveWarning"),
    Health.CRITICAL: ("False", "AboveCritical"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the conditions are decided from.

    ``outcome`` is the last collection's verdict or failure, None before the first.
    ``first_use`` tells that a host key is accepted on first use, ``pinned`` that one
    was.
    """

    outcome: Verdict | Failure | None
    suspended: bool = False
    first_use: bool = False
    pinned: bool = False


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """Return Ready, Reachable, HostKeyTrusted and Healthy, in this order."""
    return (_ready(facts), _reachable(facts), _trusted(facts), _healthy(facts))


def _ready(facts: Facts) -> Condition:
    if facts.suspended:
        return Condition("Ready", "False", "Suspended", "spec.suspend is true")
    match facts.outcome:
        case None:
            return Condition(
                "Ready", "Unknown", NOT_COLLECTED_YET, "waiting for the first sample"
            )
        case Failure(reason=reason, detail=detail):
            return Condition("Ready", "False", reason, detail)
        case verdict:
            return Condition("Ready", "True", "Collected", verdict.message)


def _reachable(facts: Facts) -> Condition:
    match facts.outcome:
        case _ if facts.suspended:
            return Condition("Reachable", "Unknown", "Suspended")
        case None:
            return Condition("Reachable", "Unknown", NOT_COLLECTED_YET)
        case Failure(reason=reason) if reason in NETWORK:
            return Condition("Reachable", "False", reason)
        case Failure(reason=reason, reached=reached):
            return Condition("Reachable", "True" if reached else "Unknown", reason)
        case _:
            return Condition("Reachable", "True", "Collected")


def _trusted(facts: Facts) -> Condition:
    match facts.outcome:
        case None:
            return Condition("HostKeyTrusted", "Unknown", NOT_COLLECTED_YET)
        case Failure(reason=reason, presented=presented) if reason in HOST_KEY:
            message = f"the server presented {presented}" if presented else ""
            return Condition("HostKeyTrusted", "False", reason, message)
        case Failure(reason=reason) if reason not in AFTER_TRUST or (
            facts.first_use and not facts.pinned
        ):
            return Condition("HostKeyTrusted", "Unknown", reason)
        case _:
            how = "HostKeyPinned" if facts.first_use else "HostKeyMatches"
            return Condition("HostKeyTrusted", "True", how)


def _healthy(facts: Facts) -> Condition:
    match facts.outcome:
        case _ if facts.suspended:
            return Condition("Healthy", "Unknown", "Suspended")
        case None:
            return Condition("Healthy", "Unknown", NOT_COLLECTED_YET)
        case Failure(reason=reason):
            return Condition("Healthy", "Unknown", reason)
        case verdict:
            status, reason_ = _HEALTHY[verdict.health]
            return Condition("Healthy", status, reason_, verdict.message)
