"""Sets logging up: structlog for us, and the standard library's for everyone else.

Both end in one formatter, so a line of kopf looks like a line of ours and is as safe
to read.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter

from hostwatch.telemetry.sanitize import clean, clean_text, clean_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, Processor

    from hostwatch.settings import TelemetrySettings

_FLOORS: Mapping[str, int] = {
    "kopf.objects": logging.WARNING,  # else one line for each event of each resource
    "asyncssh": logging.WARNING,  # else several lines for each connection
    "aiohttp.access": logging.WARNING,
    "nats": logging.CRITICAL,  # what it says is said by the publisher
    # At debug these print bodies of requests, and so the content of Secrets.
    "kopf": logging.WARNING,  # its lines speak of its own activities
    "kubernetes": logging.INFO,
    "aiohttp": logging.INFO,
    "urllib3": logging.INFO,
    "asyncio": logging.INFO,
    "psycopg": logging.INFO,
}


def configure(settings: TelemetrySettings, stream: TextIO | None = None) -> None:
    """Print every log line of this process to a stream, standard output by default.

    May be called again; the last call holds.
    """
    stream = stream or sys.stdout
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=lambda *_: logging.getLogger("hostwatch"),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Loggers made before this call follow it too.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _clean_event,
                _renderer(settings, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(max(level, floor))


def _renderer(settings: TelemetrySettings, stream: TextIO) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(),
        exception_formatter=structlog.dev.plain_traceback,
    )


def _clean_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Clean every key and value; put what is in every line first."""
    tracebacks = {
        key: clean_traceback(str(event.pop(key)))
        for key in ("stack", "exception")
        if event.get(key)
    }
    first = {key: event.pop(key, "") for key in ("timestamp", "level", "event")}
    everything = {**first, **event}
    cleaned = {clean_text(str(key)): clean(item) for key, item in everything.items()}
    return {**cleaned, **tracebacks}
