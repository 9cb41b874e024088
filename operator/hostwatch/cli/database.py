"""What the commands on the database share."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from hostwatch.cli.ending import EXIT_DATABASE, EXIT_SETTING, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hostwatch.settings import PostgresSettings


def run(work: Callable[[PostgresSettings], Coroutine[None, None, None]]) -> None:
    """Run the work with the settings of the environment, and end as it ends.

    Log lines go to standard error; standard output is the work's own.
    """
    from hostwatch.settings import PostgresSettings, SettingsError, TelemetrySettings
    from hostwatch.store.errors import StoreError
    from hostwatch.telemetry.logging import configure

    try:
        settings = PostgresSettings.read()
    except SettingsError as error:
        raise fail(str(error), EXIT_SETTING) from None
    # For a person, whatever the operator's own log is for.
    plain = TelemetrySettings.model_construct(log_format="console", log_level="info")
    configure(plain, stream=sys.stderr)
    try:
        asyncio.run(work(settings))
    except StoreError as error:
        raise fail(f"error: {error}", EXIT_DATABASE) from None
