"""What a Secret logs in with: its private key, opened and kept, or its password."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.asn1 import der_decode
from asyncssh.public_key import SSHOpenSSHCertificate

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.reader import Reader
from hostwatch.ssh.threads import Threads
from hostwatch.ssh.trust import Trust, rsa_bits

if TYPE_CHECKING:
    import asyncio

    from hostwatch.model.credential import Credential, Target

_LONGEST_KEY = 65536
_LONGEST_RSA = 8192
_THREADS = 3
_MOST_LOGINS = 4096
_MOST_HOST_KEYS = 32_768

_MOST_BCRYPT_ROUNDS = 1024
_MOST_ITERATIONS = 2_000_000
"""A key that takes longer to open, many seconds, would keep the others waiting."""

_BEGIN = b"-----BEGIN "
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
    """Opens credentials and reads host keys in threads of its own, each text once.

    A passphrase costs a good fraction of a second (bcrypt), long known_hosts too. One
    thread per namespace: many servers with one Secret wait for one reading of it.
    """

    def __init__(self) -> None:
        self._threads = Threads(_THREADS, each=1, name="ssh-keys")
        self._logins: Reader[Login] = Reader(self._threads, most=_MOST_LOGINS)
        self._trusts: Reader[Trust] = Reader(
            self._threads, most=_MOST_HOST_KEYS, weigh=_weigh
        )

    async def login(
        self, credential: Credential, *, namespace: str, deadline: asyncio.Timeout
    ) -> Login:
        """Return what a credential logs in with; raises `CollectionError`."""
        if credential.password is not None:
            return Login(password=credential.password)
        return await self._logins.read(
            credential,
            partial(read_login, credential),
            namespace=namespace,
            deadline=deadline,
            unforeseen=_invalid(
                "ssh-privatekey or ssh-certificate in the Secret cannot be read: put "
                "in the files that ssh-keygen made, unchanged"
            ),
        )

    async def trust(self, target: Target, deadline: asyncio.Timeout) -> Trust:
        """Return which host keys a target believes; raises `CollectionError`."""
        known, authority = target.trust.known_hosts, target.trust.certificate_authority
        if known is None and authority is None:
            return Trust.of(target)
        of_secret = known is not None and known == target.credential.known_hosts
        return await self._trusts.read(
            # Digests: a text may be long, and changed often.
            (_digest(known), _digest(authority), target.host, target.port, of_secret),
            partial(Trust.of, target),
            namespace=target.server.namespace,
            deadline=deadline,
            unforeseen=CollectionError(
                Reason.SECRET_INVALID if of_secret else Reason.INVALID_SPEC,
                "the server's known host keys cannot be read: write lines as "
                "ssh-keyscan prints them",
            ),
        )

    def close(self) -> None:
        """Forget all keys; what is being opened is not waited for."""
        self._logins.forget()
        self._trusts.forget()
        self._threads.close()


def _weigh(trust: Trust) -> int:
    return 1 + len(trust.keys) + len(trust.authorities) + len(trust.revoked)


def _digest(text: str | None) -> bytes:
    if text is None:
        return b""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read_login(credential: Credential) -> Login:
    """Open a private key and its certificate; raises `CollectionError`."""
    key = _read_key(credential)
    if credential.certificate is None:
        return Login(key=key)
    return Login(key=key, certificate=_read_certificate(credential.certificate, key))


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
    kind, body, armored = _find_key(text.replace(b"\r\n", b"\n"))
    if (
        kind == b"OPENSSH PRIVATE KEY" and _bcrypt_rounds(body) > _MOST_BCRYPT_ROUNDS
    ) or (kind == b"ENCRYPTED PRIVATE KEY" and _iterations(body) > _MOST_ITERATIONS):
        raise _invalid(
            "ssh-privatekey in the Secret takes too long to open: encrypt it anew with "
            "fewer rounds (ssh-keygen -p -a 100)"
        )
    return armored + b"\n"


def _find_key(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the kind, the body and the whole of the first private key (RFC 7468).

    Raises `ValueError`. Each byte is looked at a few times at most: a regular
    expression would search for an end from each beginning.
    """
    begin = text.find(_BEGIN)
    while begin >= 0:
        name = begin + len(_BEGIN)
        body = text.find(b"-----", name)
        kind = text[name : max(name, body)]
        if kind == b"PRIVATE KEY" or kind.endswith(b" PRIVATE KEY"):
            mark = b"-----END %b-----" % kind
            end = text.index(mark, body)
            return kind, text[body + 5 : end], text[begin : end + len(mark)]
        begin = text.find(_BEGIN, name)
    raise ValueError


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
