"""What went wrong, in our own words: every error of asyncssh and of the socket.

The text of an error that comes from asyncssh may be the server's, so none of it is
passed on.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import asyncssh
import structlog

from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError

if TYPE_CHECKING:
    from types import TracebackType

_Row = tuple[tuple[type[BaseException], ...], Reason, str]

_BROKEN = "the connection broke: check the network and the server"

_LIBRARY: tuple[_Row, ...] = (
    (
        (asyncssh.HostKeyNotVerifiable,),
        Reason.HOST_KEY_MISMATCH,
        "the server's host certificate is expired or for another host: sign it anew",
    ),
    (
        (asyncssh.KeyExchangeFailed,),
        Reason.NO_COMMON_ALGORITHM,
        "the server offers no algorithm that is still safe: update its SSH server",
    ),
    (
        (asyncssh.PermissionDenied, asyncssh.IllegalUserName),
        Reason.AUTHENTICATION_FAILED,
        "the server refused the login: check spec.user and its authorized_keys there",
    ),
    (
        (asyncssh.PasswordChangeRequired,),
        Reason.AUTHENTICATION_FAILED,
        "the server asks for a new password: change it there and in the Secret",
    ),
    (
        (asyncssh.ProtocolError, asyncssh.ProtocolNotSupported),
        Reason.CONNECTION_LOST,
        "what answers does not speak proper SSH 2: check spec.host and spec.port",
    ),
    (
        (asyncssh.CompressionError, asyncssh.MACError),
        Reason.CONNECTION_LOST,
        "data was damaged on the way: check what stands in between",
    ),
    (
        (asyncssh.ServiceNotAvailable,),
        Reason.CONNECTION_LOST,
        "the server offers no login now: check its SSH server",
    ),
    ((asyncssh.ConnectionLost,), Reason.CONNECTION_LOST, _BROKEN),
    (
        (asyncssh.DisconnectError,),
        Reason.CONNECTION_LOST,
        "the server ended the connection: its own log says why",
    ),
    (
        (asyncssh.TimeoutError,),
        Reason.COLLECT_TIMEOUT,
        "the command did not end in time: check the load of the server",
    ),
    (
        (asyncssh.ProcessError, asyncssh.SignalReceived),
        Reason.COMMAND_FAILED,
        "the command failed: check that the user can run sh on the server",
    ),
    (
        (asyncssh.ChannelOpenError, asyncssh.ChannelListenError, asyncssh.SFTPError),
        Reason.COMMAND_FAILED,
        "the server started no command: check the options in its authorized_keys",
    ),
    (
        (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged),
        Reason.COMMAND_FAILED,
        "the server answered like a terminal: check what its login shell starts",
    ),
    (
        (asyncssh.KeyEncryptionError,),
        Reason.SECRET_INVALID,
        "the passphrase in the Secret does not open its ssh-privatekey",
    ),
    (
        (
            asyncssh.KeyImportError,
            asyncssh.KeyExportError,
            asyncssh.KeyGenerationError,
        ),
        Reason.SECRET_INVALID,
        "ssh-privatekey in the Secret is not a private key that OpenSSH can read",
    ),
    (
        (asyncssh.ConfigParseError,),
        Reason.INVALID_SPEC,
        "no connection can be set up like this: check spec.host and spec.user",
    ),
    ((asyncssh.Error,), Reason.CONNECTION_LOST, _BROKEN),
)
"""Most specific first: the first row with a fitting class counts."""

_NO_SUCH_NAME = {
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if hasattr(socket, name)
}

_DIALLING: tuple[_Row, ...] = (
    (
        (ConnectionRefusedError,),
        Reason.CONNECTION_REFUSED,
        "nothing listens there: check spec.port, and that sshd runs",
    ),
    (
        (TimeoutError,),
        Reason.CONNECT_TIMEOUT,
        "no answer to the TCP connection: check spec.host and firewalls",
    ),
    (
        (ConnectionResetError, ConnectionAbortedError),
        Reason.CONNECTION_LOST,
        "the connection was cut at once: check firewalls and sshd",
    ),
)

_OWN_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""These say nothing of the server: the operator itself ran out of something."""

_OURS = (CollectionError, TryAgainLaterError)


def translate(error: BaseException, *, reached: bool) -> CollectionError:
    """Return the failure that an error means.

    ``reached`` tells whether the TCP connection stood when it was raised.
    """
    if isinstance(error, CollectionError):
        return error
    for kinds, reason, detail in _LIBRARY:
        if isinstance(error, kinds):
            return CollectionError(reason, detail, reached=reached)
    if isinstance(error, OSError):
        return _translate_os(error, reached=reached)
    structlog.get_logger(component="ssh").warning(
        "an error of the SSH library that has no name here", kind=type(error).__name__
    )
    return CollectionError(
        Reason.CONNECTION_LOST,
        "the server sent what could not be understood: check its SSH server",
        reached=reached,
    )


class Translated:
    """Raises what happens inside as `CollectionError`; cancellation passes.

    Whatever its class, for a server can make asyncssh raise all that a parser raises
    on bad input. `TryAgainLaterError` where the operator itself ran short.
    """

    def __init__(self, *, reached: bool) -> None:
        self._reached = reached

    def __enter__(self) -> None:
        """Only the way out matters."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and error.errno in _OWN_SHORTAGE:
            raise TryAgainLaterError(
                "the operator ran out of file descriptors or memory"
            ) from None
        if isinstance(error, Exception) and not isinstance(error, _OURS):
            raise translate(error, reached=self._reached) from None


def _translate_os(error: OSError, *, reached: bool) -> CollectionError:
    reason, detail = _explain_os(error, reached=reached)
    return CollectionError(reason, detail, reached=reached)


def _explain_os(error: OSError, *, reached: bool) -> tuple[Reason, str]:
    if isinstance(error, socket.gaierror):
        return Reason.DNS_FAILED, _explain_dns(error)
    if reached:
        return Reason.CONNECTION_LOST, _BROKEN
    for kinds, reason, detail in _DIALLING:
        if isinstance(error, kinds):
            return reason, detail
    return (
        Reason.NETWORK_UNREACHABLE,
        "there is no way to this address: check routes, firewalls, network policies",
    )


def _explain_dns(error: socket.gaierror) -> str:
    if error.errno in _NO_SUCH_NAME:
        return "the name has no address: check spec.host and the DNS zone"
    return "the name could not be resolved: no DNS server answered"
