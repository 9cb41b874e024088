from __future__ import annotations

import ssl

import nats.errors
import pytest

from hostwatch.bus.connection import BusSettingError, Trouble, diagnose


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ConnectionRefusedError("refused"),
            Trouble("unreachable", "refused", 2),
        ),
        (
            nats.errors.UnexpectedEOF(),
            Trouble("unreachable", "nats: unexpected EOF", 2),
        ),
        (
            TimeoutError(),
            Trouble("unreachable", "TimeoutError", 2),
        ),
        (
            nats.errors.Error("nats: 'Authorization Violation'"),
            Trouble(
                "login",
                "nats: 'Authorization Violation'; see HOSTWATCH_NATS_CREDENTIALS, or "
                "the user in HOSTWATCH_NATS_URL",
                30,
            ),
        ),
        (
            nats.errors.Error("nats: user authentication expired"),
            Trouble(
                "login",
                "nats: user authentication expired; see HOSTWATCH_NATS_CREDENTIALS, or "
                "the user in HOSTWATCH_NATS_URL",
                30,
            ),
        ),
        (
            ssl.SSLError("certificate verify failed"),
            Trouble(
                "tls",
                "('certificate verify failed',); HOSTWATCH_NATS_CA names the CA to "
                "trust",
                30,
            ),
        ),
        (
            BusSettingError("cannot read HOSTWATCH_NATS_CREDENTIALS: gone"),
            Trouble("setting", "cannot read HOSTWATCH_NATS_CREDENTIALS: gone", 30),
        ),
        (
            ZeroDivisionError("oops"),
            Trouble("unexpected", "ZeroDivisionError: oops", 30),
        ),
    ],
)
def test_each_trouble_says_what_to_do_and_when_it_is_tried_again(error, expected):
    assert diagnose(error) == expected
