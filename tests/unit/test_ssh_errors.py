from __future__ import annotations

import asyncio
import errno
import inspect
import socket
from typing import get_args

import asyncssh
import pytest

from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from hostwatch.ssh.errors import Translated, translate

EXPECTED = {
    "BreakReceived": Reason.COMMAND_FAILED,
    "ChannelListenError": Reason.COMMAND_FAILED,
    "ChannelOpenError": Reason.COMMAND_FAILED,
    "CompressionError": Reason.CONNECTION_LOST,
    "ConfigParseError": Reason.INVALID_SPEC,
    "ConnectionLost": Reason.CONNECTION_LOST,
    "DisconnectError": Reason.CONNECTION_LOST,
    "Error": Reason.CONNECTION_LOST,
    "HostKeyNotVerifiable": Reason.HOST_KEY_MISMATCH,
    "IllegalUserName": Reason.AUTHENTICATION_FAILED,
    "KeyEncryptionError": Reason.SECRET_INVALID,
    "KeyExchangeFailed": Reason.NO_COMMON_ALGORITHM,
    "KeyExportError": Reason.SECRET_INVALID,
    "KeyGenerationError": Reason.SECRET_INVALID,
    "KeyImportError": Reason.SECRET_INVALID,
    "MACError": Reason.CONNECTION_LOST,
    "PasswordChangeRequired": Reason.AUTHENTICATION_FAILED,
    "PermissionDenied": Reason.AUTHENTICATION_FAILED,
    "ProcessError": Reason.COMMAND_FAILED,
    "ProtocolError": Reason.CONNECTION_LOST,
    "ProtocolNotSupported": Reason.CONNECTION_LOST,
    "ServiceNotAvailable": Reason.CONNECTION_LOST,
    "SignalReceived": Reason.COMMAND_FAILED,
    "TerminalSizeChanged": Reason.COMMAND_FAILED,
    "TimeoutError": Reason.COLLECT_TIMEOUT,
}

LIBRARY = [
    getattr(asyncssh, name)
    for name in sorted(dir(asyncssh))
    if inspect.isclass(getattr(asyncssh, name))
    and issubclass(getattr(asyncssh, name), BaseException)
]

SERVER_TEXT = "\x1b[2Jtext of the server"


def an_error(kind):
    """Make an exception of a class, every text in it the server's."""
    if kind.__init__ in (Exception.__init__, ValueError.__init__):
        return kind(SERVER_TEXT)
    return kind(
        *(
            _filler(parameter.annotation)
            for parameter in inspect.signature(kind).parameters.values()
            if parameter.default is inspect.Parameter.empty
        )
    )


def _filler(annotation):
    if annotation is int:
        return 1
    return None if type(None) in get_args(annotation) else SERVER_TEXT


@pytest.mark.parametrize("kind", LIBRARY, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_library_has_a_reason(kind):
    error = translate(an_error(kind), reached=True)
    expected = EXPECTED.get(kind.__name__)
    if expected is None:
        assert issubclass(kind, asyncssh.SFTPError)
        expected = Reason.COMMAND_FAILED
    assert error.reason == expected
    assert error.reached


@pytest.mark.parametrize("kind", LIBRARY, ids=lambda kind: kind.__name__)
def test_no_text_of_the_server_is_passed_on(kind):
    error = translate(an_error(kind), reached=True)
    assert SERVER_TEXT not in str(error)
    assert error.detail.isprintable()
    assert len(error.detail) <= 256


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "?"), Reason.DNS_FAILED),
        (socket.gaierror(socket.EAI_AGAIN, "?"), Reason.DNS_FAILED),
        (OSError(errno.ECONNREFUSED, "?"), Reason.CONNECTION_REFUSED),
        (OSError(errno.ETIMEDOUT, "?"), Reason.CONNECT_TIMEOUT),
        (TimeoutError(), Reason.CONNECT_TIMEOUT),
        (OSError(errno.EHOSTUNREACH, "?"), Reason.NETWORK_UNREACHABLE),
        (OSError(errno.ENETUNREACH, "?"), Reason.NETWORK_UNREACHABLE),
        (OSError(errno.EACCES, "?"), Reason.NETWORK_UNREACHABLE),
        (OSError(errno.EPERM, "?"), Reason.NETWORK_UNREACHABLE),
        (OSError(errno.ECONNRESET, "?"), Reason.CONNECTION_LOST),
        (OSError(errno.ECONNABORTED, "?"), Reason.CONNECTION_LOST),
    ],
)
def test_what_fails_before_the_connection_stands_names_the_network(error, reason):
    translated = translate(error, reached=False)
    assert translated.reason == reason
    assert not translated.reached


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), BrokenPipeError(), TimeoutError()]
)
def test_what_breaks_a_standing_connection_is_a_lost_connection(error):
    assert translate(error, reached=True).reason == Reason.CONNECTION_LOST


def test_a_name_that_does_not_exist_is_told_from_a_silent_dns():
    missing = translate(socket.gaierror(socket.EAI_NONAME, "?"), reached=False)
    silent = translate(socket.gaierror(socket.EAI_AGAIN, "?"), reached=False)
    assert "has no address" in missing.detail
    assert "no DNS server answered" in silent.detail


def test_an_error_without_a_name_is_a_lost_connection():
    assert translate(AttributeError("x"), reached=True).reason == Reason.CONNECTION_LOST


def test_an_own_error_passes_unchanged():
    own = CollectionError(Reason.WEAK_HOST_KEY, "too short")
    assert translate(own, reached=True) is own
    with pytest.raises(CollectionError) as raised, Translated(reached=True):
        raise own
    assert raised.value is own


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_the_operators_own_shortage_is_no_failure_of_the_server(number):
    with pytest.raises(TryAgainLaterError), Translated(reached=False):
        raise OSError(number, "?")


def test_a_cancellation_stays_a_cancellation():
    with pytest.raises(asyncio.CancelledError), Translated(reached=True):
        raise asyncio.CancelledError


def test_the_original_error_is_not_shown_with_the_translated_one():
    with pytest.raises(CollectionError) as raised, Translated(reached=True):
        raise asyncssh.DisconnectError(2, SERVER_TEXT)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
