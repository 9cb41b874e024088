from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from hostwatch.model.credential import Credential
from hostwatch.model.reason import Reason
from hostwatch.settings import TelemetrySettings
from hostwatch.telemetry.logging import configure
from hostwatch.telemetry.sanitize import clean, clean_text

NASTY = "a\nb\r\x1b[31mred\x07\u202edrow\u2028end\x9b\ud800\u200b"
NASTY_SHOWN = r"a\nb\r\x1b[31mred\x07\u202edrow\u2028end\x9b\ud800\u200b"


@pytest.fixture(autouse=True)
def _restored_logging():
    """Give logging and structlog back as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logger.level
        for name, logger in logging.Logger.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers, root.level = handlers, level
    for name, logger in logging.Logger.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))
    structlog.reset_defaults()


def _json(capsys) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_time_level_and_event_first(capsys):
    configure(TelemetrySettings())
    structlog.get_logger(component="ssh").warning("Connected", server="web-1", port=22)

    text = capsys.readouterr().out
    line = json.loads(text)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert line == {
        "level": "warning",
        "event": "Connected",
        "component": "ssh",
        "server": "web-1",
        "port": 22,
    }
    assert moment.utcoffset() == datetime.now(UTC).utcoffset()
    assert text.startswith('{"timestamp": "')
    assert text.count("\n") == 1


def test_a_logger_made_before_is_configured_too(capsys):
    log = structlog.get_logger(component="ssh")
    configure(TelemetrySettings())
    log.info("Hello")

    assert [line["component"] for line in _json(capsys)] == ["ssh"]


def test_the_last_configuration_holds(capsys):
    configure(TelemetrySettings())
    configure(TelemetrySettings(log_level="error"))
    log = structlog.get_logger()
    log.warning("No")
    log.error("Yes")

    assert [line["event"] for line in _json(capsys)] == ["Yes"]


def test_another_stream_may_be_named(capsys):
    configure(TelemetrySettings(), stream=sys.stderr)
    structlog.get_logger().info("Hello")

    out, err = capsys.readouterr()
    assert (out, json.loads(err)["event"]) == ("", "Hello")


def test_a_library_is_printed_by_the_same_formatter(capsys):
    configure(TelemetrySettings())
    logging.getLogger("kopf.activities").warning("Activity %r succeeded.", "x\ny")

    (line,) = _json(capsys)
    assert (line["level"], line["logger"]) == ("warning", "kopf.activities")
    assert line["event"] == r"Activity 'x\ny' succeeded."


@pytest.mark.parametrize(
    ("name", "level", "printed"),
    [
        ("kopf.objects", "info", False),
        ("kopf.objects", "warning", True),
        ("kopf", "debug", False),
        ("kopf", "info", False),
        ("kopf", "warning", True),
        ("asyncssh", "info", False),
        ("asyncssh", "warning", True),
        ("kubernetes.aio.client.rest", "debug", False),
        ("asyncio", "warning", True),
        ("some.library", "debug", True),
    ],
)
def test_libraries_have_a_least_level_of_their_own(capsys, name, level, printed):
    configure(TelemetrySettings(log_level="debug"))
    getattr(logging.getLogger(name), level)("Hello")

    assert bool(_json(capsys)) is printed


def test_the_level_holds_for_libraries_too(capsys):
    configure(TelemetrySettings(log_level="error"))
    logging.getLogger("kopf").warning("No")
    logging.getLogger("some.library").warning("No")

    assert _json(capsys) == []


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_value_controls_the_terminal(capsys, style):
    configure(TelemetrySettings(log_format=style))
    log = structlog.get_logger()
    log.info(NASTY, text=NASTY, error=ValueError(NASTY), many=[NASTY], odd={NASTY: 1})
    log.info("Hello", **{NASTY: 1})
    logging.getLogger("lib").warning(NASTY)

    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 3
    assert not set(printed) & (set(NASTY) - set("\nabredrowend[31m"))
    if style == "json":
        (line, *_) = map(json.loads, printed.splitlines())
        assert line["text"] == NASTY_SHOWN
        assert line["event"] == NASTY_SHOWN
        assert line["error"] == f"ValueError: {NASTY_SHOWN}"


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exceptions_text_forges_no_line(capsys, style):
    configure(TelemetrySettings(log_format=style))
    try:
        _fail('\x1b[2J\n{"level": "info", "event": "forged"}')
    except ValueError:
        structlog.get_logger().exception("Failed")
        logging.getLogger("lib").exception("Failed")

    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "Traceback (most recent call last):" in printed
    assert not [line for line in printed.splitlines() if line.startswith('{"level"')]
    if style == "json":
        ours, theirs = map(json.loads, printed.splitlines())
        assert r"ValueError: \x1b[2J" in ours["exception"]
        assert r"ValueError: \x1b[2J" in theirs["exception"]


def test_the_console_shows_plain_text_where_there_is_no_terminal(capsys):
    configure(TelemetrySettings(log_format="console"))
    structlog.get_logger().info("Connected", server="web-1")

    printed = capsys.readouterr().out
    assert printed.split()[1:] == ["[info", "]", "Connected", "server=web-1"]


def test_long_values_are_cut(capsys):
    configure(TelemetrySettings())
    structlog.get_logger().info("x" * 5_000, text="y" * 5_000, exact="z" * 1_024)

    (line,) = _json(capsys)
    assert line["event"] == "x" * 1_023 + "…"
    assert line["text"] == "y" * 1_023 + "…"
    assert line["exact"] == "z" * 1_024


def test_an_endless_traceback_keeps_its_end(capsys):
    configure(TelemetrySettings())
    try:
        _fail("a line\n" * 5_000 + "the end")
    except ValueError:
        structlog.get_logger().exception("Failed")

    (line,) = _json(capsys)
    text = str(line["exception"])
    assert len(text) < 30_000
    assert text.startswith("  …")
    assert text.endswith("  the end")


def _fail(text: str) -> None:
    raise ValueError(text)


def test_secrets_stay_hidden(capsys):
    @dataclass
    class Login:
        user: str
        password: str = field(repr=False)

    configure(TelemetrySettings())
    structlog.get_logger().info(
        "Hello",
        dsn=SecretStr("hunter2"),
        login=Login("me", "hunter2"),
        credential=Credential(version="1", password="hunter2", private_key=b"hunter2"),
        nested={"deep": [SecretStr("hunter2"), Login("me", "hunter2")]},
    )

    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert "Login(user='me')" in printed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Reason.DNS_FAILED, "DNSFailed"),
        (b"\x1b", r"b'\x1b'"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        ((1, "a\n"), [1, r"a\n"]),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ([[[[[1]]]]], [[[["[1]"]]]]),
        (list(range(100)), list(range(64))),
        (OSError("x\ty"), r"OSError: x\ty"),
        (range(3), "range(0, 3)"),
        ("grüße 你好 🎉", "grüße 你好 🎉"),
    ],
)
def test_a_value_as_it_is_printed(value, expected):
    assert clean(value) == expected


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_any_text_becomes_short_printable_and_encodable(text, longest):
    shown = clean_text(text, longest)

    assert len(shown) <= longest
    assert not [character for character in shown if ord(character) < 32]
    shown.encode()
