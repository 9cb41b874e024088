"""What a Secret logs in with: its private key, opened and kept, or its password."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.asn1 import der_decode
from asyncssh.public_key import SSHOpenSSHCertificate

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.trust import rsa_bits

if TYPE_CHECKING:
    from hostwatch.model.credential import Credential

_LONGEST_KEY = 65536
_LONGEST_RSA = 8192
_THREADS = 2
_KEPT = 4096

_MOST_BCRYPT_ROUNDS = 1024
_MOST_ITERATIONS = 2_000_000
"""A key that takes longer to open, many seconds, would keep the others waiting."""

_PEM = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )?PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL
)
_OPENSSH_MAGIC = b"openssh-key-v1\0"  # PROTOCOL.key of OpenSSH


@dataclass(frozen=True)
class Login:
    """A key, perhaps with its certificate, or a password."""

    key: asyncssh.SSHKey | None = field(default=None, repr=False)
    certificate: SSHOpenSSHCertificate | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def holds(self) -> bool:
        """Whether the certificate, if there is one, is valid now."""
        if self.certificate is None:
            return True
        try:
            self.certificate.validate(_USER_CERTIFICATE, None)
        except ValueError:
            return False
        return True

    def check(self) -> None:
        """Raise `CollectionError` where the certificate is not valid now."""
        if not self.holds:
            raise _invalid(
                "ssh-certificate in the Secret is expired, not valid yet, or no user "
                "certificate: have the key signed anew"
            )


_USER_CERTIFICATE = 1  # SSH_CERT_TYPE_USER, PROTOCOL.certkeys of OpenSSH


class Keyring:
    """Opens credentials in threads of its own, each content once.

    A passphrase costs a good fraction of a second (bcrypt).
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ssh-keys")
        self._read: OrderedDict[Credential, asyncio.Future[Login | CollectionError]] = (
            OrderedDict()
        )

    async def login(self, credential: Credential) -> Login:
        """Return what a credential logs in with; raises `CollectionError`."""
        if credential.password is not None:
            return Login(password=credential.password)
        reading = self._read.get(credential)
        if reading is None:
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._threads, _try_to_read, credential)
            self._read[credential] = reading
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(credential)
        # Shielded: others may wait for the same key.
        read = await asyncio.shield(reading)
        if isinstance(read, CollectionError):
            raise _invalid(read.detail)
        return read

    def close(self) -> None:
        """Forget all keys; what is being opened is not waited for."""
        self._read.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def read_login(credential: Credential) -> Login:
    """Open a private key and its certificate; raises `CollectionError`."""
    key = _read_key(credential)
    if credential.certificate is None:
        return Login(key=key)
    return Login(key=key, certificate=_read_certificate(credential.certificate, key))


def _try_to_read(credential: Credential) -> Login | CollectionError:
    try:
        return read_login(credential)
    except CollectionError as error:
        return error


def _read_key(credential: Credential) -> asyncssh.SSHKey:
    text = credential.private_key
    if not text:
        raise _invalid("the Secret holds neither ssh-privatekey nor password")
    if len(text) > _LONGEST_KEY:
        raise _invalid("ssh-privatekey in the Secret is longer than 64 KiB")
    try:
        armored = _unwrap(text)
        # Without the search for primes, which ssh does not make either: it would
        # hold a thread for minutes with a long key.
        key = asyncssh.import_private_key(
            armored, credential.passphrase, unsafe_skip_rsa_key_validation=True
        )
    except _UNREADABLE as error:
        raise _explain(error, text, credential.passphrase) from None
    if rsa_bits(key) > _LONGEST_RSA:
        raise _invalid(
            f"ssh-privatekey in the Secret has more than {_LONGEST_RSA} bits: use an "
            "ed25519 key"
        )
    return key


_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""What parsers of hostile bytes raise; `asyncssh.KeyImportError` is a ValueError."""


def _explain(
    error: Exception, text: bytes, passphrase: bytes | None
) -> CollectionError:
    if passphrase is None and str(error).startswith("Passphrase"):
        return _invalid(
            "ssh-privatekey in the Secret is encrypted: add its passphrase as "
            "passphrase, or remove it with ssh-keygen -p"
        )
    # A wrong passphrase turns the older formats into bytes that are no key at all.
    if isinstance(error, asyncssh.KeyEncryptionError) or (
        passphrase is not None and b"ENCRYPTED" in text
    ):
        return _invalid("the passphrase in the Secret does not open its ssh-privatekey")
    return _invalid(
        "ssh-privatekey in the Secret is not a private key that OpenSSH can read: put "
        "in the file that ssh-keygen made, unchanged"
    )


def _read_certificate(text: bytes, key: asyncssh.SSHKey) -> SSHOpenSSHCertificate:
    certificate = None
    if len(text) <= _LONGEST_KEY:
        with suppress(*_UNREADABLE):
            certificate = asyncssh.import_certificate(text)
    if not isinstance(certificate, SSHOpenSSHCertificate):
        raise _invalid(
            "ssh-certificate in the Secret is not an OpenSSH certificate: put in the "
            "file that ends in -cert.pub"
        )
    if certificate.key.public_data != key.public_data:
        raise _invalid(
            "ssh-certificate in the Secret is not for its ssh-privatekey: have that "
            "key signed"
        )
    return certificate


def _unwrap(text: bytes) -> bytes:
    """Return just the armored key; raises `CollectionError` if it is costly to open."""
    found = _PEM.search(text.replace(b"\r\n", b"\n"))
    if found is None:
        raise ValueError
    kind, body = found[1], found[2]
    if (
        kind == b"OPENSSH PRIVATE KEY" and _bcrypt_rounds(body) > _MOST_BCRYPT_ROUNDS
    ) or (kind == b"ENCRYPTED PRIVATE KEY" and _iterations(body) > _MOST_ITERATIONS):
        raise _invalid(
            "ssh-privatekey in the Secret takes too long to open: encrypt it anew with "
            "fewer rounds (ssh-keygen -p -a 100)"
        )
    return found[0] + b"\n"


def _bcrypt_rounds(body: bytes) -> int:
    data = base64.b64decode(body)
    if not data.startswith(_OPENSSH_MAGIC):
        return 0
    rest = data.removeprefix(_OPENSSH_MAGIC)
    _cipher, rest = _string(rest)
    _kdf, rest = _string(rest)
    options, _rest = _string(rest)
    _salt, rounds = _string(options)
    return int.from_bytes(rounds[:4], "big")


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Split off one length-prefixed string (RFC 4251 5); short data gives less."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _iterations(body: bytes) -> int:
    """Return the largest number among a PKCS #8 key's parameters (RFC 8018)."""
    decoded = der_decode(base64.b64decode(body))
    header = decoded[0] if isinstance(decoded, tuple) and decoded else ()
    return max(_numbers(header), default=0)


def _numbers(value: object) -> list[int]:
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int) else []


def _invalid(detail: str) -> CollectionError:
    return CollectionError(Reason.SECRET_INVALID, detail)
