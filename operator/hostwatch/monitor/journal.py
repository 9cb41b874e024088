"""What a collection leaves in the log: a line when something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostwatch.model.sample import Failure

if TYPE_CHECKING:
    import structlog

    from hostwatch.health.assess import Verdict
    from hostwatch.model.sample import Sample
    from hostwatch.monitor.collect import Outcome


class Journal:
    """Tells once when a server begins to fail, or fails otherwise, and when it is back.

    What repeats is told at the level debug.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log

    def note(
        self, sample: Sample, outcome: Outcome, before: Verdict | Failure | None
    ) -> None:
        """Take a finished collection; ``before`` is how the last one ended."""
        key, failure = sample.server, outcome.failure
        log = self._log.bind(
            server=key.name, namespace=key.namespace, organization=key.organization
        )
        was = before.reason if isinstance(before, Failure) else None
        if failure is not None:
            say = log.debug if failure.reason is was else log.warning
            say(
                "Collection failed",
                reason=failure.reason,
                detail=failure.detail,
                attempts=outcome.attempts,
            )
        elif was is not None:
            log.info("Collection works again", after=was, health=sample.status)
        else:
            log.debug(
                "Collected",
                health=sample.status,
                missing=dict(sample.metrics.missing),
            )
