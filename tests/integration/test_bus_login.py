"""How the publisher proves who it is: creds files, and the CA of a TLS server."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import os
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import nkeys
import pytest
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hostwatch.bus.publisher import Publisher
from hostwatch.settings import NatsSettings
from world.nats import Nats, plain_server
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TLS_HANDSHAKE = b"\x16"  # the first byte of a ClientHello's record (RFC 8446, 5.1)


class Tally:
    def __init__(self) -> None:
        self.up = False
        self.why: list[str] = []

    def connected(self, *, up: bool) -> None:
        self.up = up

    def published(self, count: int) -> None: ...

    def dropped(self, count: int, why: str) -> None: ...

    def failed(self, why: str) -> None:
        self.why.append(why)


async def _outcome(
    url: str, until: str = "", **settings: str
) -> tuple[bool, list[str], list[str]]:
    """Return whether a publisher connects, its failures, and the causes it logs.

    It is tried until it connects or fails, or fails for that reason.
    """
    tally = Tally()
    publisher = Publisher(NatsSettings(nats_url=url, **settings), tally)
    with structlog.testing.capture_logs() as logs:
        await publisher.open()
        await eventually(
            lambda: tally.up or (until in tally.why if until else tally.why)
        )
        up = tally.up
        await publisher.close()
    causes = [log["cause"] for log in logs if log["log_level"] == "warning"]
    return up, tally.why, causes


def _configure(server: Nats, **extra: object) -> None:
    path = server.directory / "nats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | extra))


class Key:
    """An nkey that signs JWTs (github.com/nats-io/jwt, version 2)."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def token(self, subject: Key, **claims: object) -> str:
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        payload = {
            "jti": "1",
            "iat": 1_700_000_000,
            "iss": self.public,
            "sub": subject.public,
            "name": "test",
            "nats": {"version": 2, **claims},
        }
        text = f"{_b64(header)}.{_b64(payload)}"
        return f"{text}.{_b64(self._pair.sign(text.encode()))}"


def _b64(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _creds(jwt: str, seed: str) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


@pytest.fixture
def account() -> Key:
    return Key(nkeys.PREFIX_BYTE_ACCOUNT)


@pytest.fixture
def guarded(tmp_path, account):
    """Serve users that one account's JWTs make known."""
    operator = Key(nkeys.PREFIX_BYTE_OPERATOR)
    limits = dict.fromkeys(("subs", "data", "payload", "conn", "leaf"), -1)
    server = Nats(tmp_path, jetstream=False)
    _configure(
        server,
        operator=operator.token(operator, type="operator"),
        resolver="MEMORY",
        resolver_preload={
            account.public: operator.token(account, type="account", limits=limits)
        },
    )
    with server:
        yield server


def _user(issuer: Key) -> tuple[str, str]:
    """Return the JWT and the seed of a new user."""
    user = Key(nkeys.PREFIX_BYTE_USER)
    jwt = issuer.token(user, type="user", subs=-1, data=-1, payload=-1)
    return jwt, user.seed.decode()


async def test_a_credentials_file_logs_in(guarded, account, tmp_path):
    path = tmp_path / "operator.creds"
    path.write_text(_creds(*_user(account)))

    up, why, causes = await _outcome(guarded.url, nats_credentials=str(path))

    assert (up, why, causes) == (True, [], [])


async def test_a_user_of_a_foreign_account_is_refused(guarded, tmp_path):
    path = tmp_path / "operator.creds"
    path.write_text(_creds(*_user(Key(nkeys.PREFIX_BYTE_ACCOUNT))))

    up, why, causes = await _outcome(guarded.url, nats_credentials=str(path))

    assert (up, why) == (False, ["login"])
    assert causes[0] == (
        "nats: 'Authorization Violation'; see HOSTWATCH_NATS_CREDENTIALS, or the user "
        "in HOSTWATCH_NATS_URL"
    )


async def test_a_missing_login_is_told_like_a_wrong_one(guarded):
    up, why, _ = await _outcome(guarded.url)

    assert (up, why) == (False, ["login"])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "cannot read HOSTWATCH_NATS_CREDENTIALS: No such file or directory"),
        (b"\xff", "cannot read HOSTWATCH_NATS_CREDENTIALS: it is not a text file"),
        (
            b"not a creds file\n",
            "HOSTWATCH_NATS_CREDENTIALS names a file that is not a NATS creds file",
        ),
        (
            _creds("jwt", "SUBAD").encode(),
            "HOSTWATCH_NATS_CREDENTIALS: nkeys: invalid seed",
        ),
    ],
    ids=["missing", "binary", "foreign", "bad seed"],
)
async def test_an_unusable_credentials_file_is_named(guarded, tmp_path, content, cause):
    path = tmp_path / "operator.creds"
    if content is not None:
        path.write_bytes(content)

    up, why, causes = await _outcome(guarded.url, nats_credentials=str(path))

    assert (up, why, causes) == (False, ["setting"], [cause])


@pytest.fixture
def encrypted(tmp_path):
    """Serve TLS only, with a certificate that no public CA signed."""
    server = Nats(tmp_path, jetstream=False)
    certificate, key = _self_signed(tmp_path)
    _configure(server, tls={"cert_file": str(certificate), "key_file": str(key)})
    with server:
        yield server


async def test_the_configured_ca_is_trusted(encrypted):
    ca = encrypted.directory / "certificate.pem"

    up, why, causes = await _outcome(encrypted.url, nats_ca=str(ca))

    assert (up, why, causes) == (True, [], [])


async def test_a_certificate_of_an_unknown_ca_is_refused(encrypted):
    up, why, causes = await _outcome(encrypted.url)

    assert (up, why) == (False, ["tls"])
    assert "HOSTWATCH_NATS_CA names the CA to trust" in causes[0]


async def test_tls_that_a_server_only_offers_is_taken(tmp_path):
    server = Nats(tmp_path, jetstream=False)
    certificate, key = _self_signed(tmp_path)
    tls = {"cert_file": str(certificate), "key_file": str(key)}
    _configure(server, tls=tls, allow_non_tls=True, authorization={"token": "t0ken"})
    with server:
        url = f"nats://t0ken@{server.host}:{server.port}"
        async with _recording(server.host, server.port) as (port, heard):
            through = url.replace(str(server.port), str(port))
            up, why, causes = await _outcome(through, nats_ca=str(certificate))

    assert (up, why, causes) == (True, [], [])
    assert heard[:1] == _TLS_HANDSHAKE
    assert b"CONNECT" not in heard


@pytest.mark.parametrize("asked_by", ["url", "ca", "another url"])
async def test_no_login_is_sent_in_plain_text_where_tls_was_asked_for(
    tmp_path, asked_by
):
    async with plain_server() as (port, heard):
        server = f"hostwatch:hunter2@127.0.0.1:{port}"
        url, settings = f"nats://{server}", {}
        if asked_by == "url":
            url = f"tls://{server}"
        elif asked_by == "another url":
            url += ",tls://127.0.0.1:1"
        else:
            settings = {"nats_ca": str(_self_signed(tmp_path)[0])}
        up, why, causes = await _outcome(url, until="tls", **settings)

    assert (up, why[-1]) == (False, "tls")
    assert causes[-1] == (
        "the server offers no TLS, and the login is not sent in plain text: enable "
        "TLS in the server's configuration, or ask for none with nats:// in "
        "HOSTWATCH_NATS_URL and no HOSTWATCH_NATS_CA"
    )
    assert heard == b""


async def test_a_login_is_sent_in_plain_text_where_nobody_asked_for_tls():
    async with plain_server() as (port, heard):
        up, why, _ = await _outcome(f"nats://hostwatch:hunter2@127.0.0.1:{port}")

    assert (up, why) == (True, [])
    assert heard.startswith(b"CONNECT ")
    assert b"hunter2" in heard


@asynccontextmanager
async def _recording(host: str, port: int) -> AsyncIterator[tuple[int, bytearray]]:
    """Stand before a server; give the port, and all that is sent to it."""
    heard = bytearray()

    async def pass_on(reader, writer, record: bytearray) -> None:
        while data := await reader.read(4096):
            record.extend(data)
            writer.write(data)
        writer.close()

    async def serve(reader, writer) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            pass_on(reader, far_writer, heard),
            pass_on(far_reader, writer, bytearray()),
            return_exceptions=True,
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_an_unusable_ca_is_named(nats, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    up, why, causes = await _outcome(nats.url, nats_ca=str(path))

    assert (up, why) == (False, ["setting"])
    assert causes[0].startswith("cannot use HOSTWATCH_NATS_CA: ")


def _self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
