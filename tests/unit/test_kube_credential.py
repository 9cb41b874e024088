"""What a Secret must look like."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hostwatch.kube.credential import credential_of
from hostwatch.model.credential import Credential
from hostwatch.model.reason import CollectionError, Reason

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"


def secret(*, kind: str = "Opaque", label: str = "true", **data: bytes) -> Any:
    return {
        "metadata": {"name": "web", "labels": {"hostwatch.dev/ssh-credential": label}},
        "type": kind,
        "data": {
            key if key == "known_hosts" else key.replace("_", "-"): base64.b64encode(
                content
            ).decode()
            for key, content in data.items()
        },
    }


def read(document: Any) -> Credential:
    return credential_of(document, salt=b"salt")


@pytest.mark.parametrize("kind", ["kubernetes.io/ssh-auth", "Opaque"])
def test_a_key_is_read(kind):
    credential = read(
        secret(
            kind=kind,
            ssh_privatekey=KEY,
            passphrase=b"pass phrase\n",
            ssh_certificate=b"ssh-ed25519-cert-v01@openssh.com AAAA",
            known_hosts=b"web-1 ssh-ed25519 AAAA\n",
            other=b"ignored",
        )
    )
    assert credential == Credential(
        version=credential.version,
        private_key=KEY,
        passphrase=b"pass phrase",
        certificate=b"ssh-ed25519-cert-v01@openssh.com AAAA",
        known_hosts="web-1 ssh-ed25519 AAAA\n",
    )


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_password_is_read_without_its_line_end(end):
    document = secret(
        kind="kubernetes.io/basic-auth",
        username=b"ignored",
        password=" pä ss ".encode() + end,
    )
    credential = read(document)
    assert credential == Credential(version=credential.version, password=" pä ss ")


@pytest.mark.parametrize(
    ("document", "reason", "says"),
    [
        (
            secret(label="yes", password=b"x"),
            Reason.SECRET_FORBIDDEN,
            'needs the label hostwatch.dev/ssh-credential: "true"',
        ),
        ({"metadata": {"name": "web"}}, Reason.SECRET_FORBIDDEN, "needs the label"),
        (
            secret(kind="kubernetes.io/service-account-token", password=b"x"),
            Reason.SECRET_INVALID,
            "must be of one of the types Opaque, kubernetes.io/basic-auth",
        ),
        (secret(), Reason.SECRET_INVALID, "either ssh-privatekey or password"),
        (
            secret(ssh_privatekey=KEY, password=b"x"),
            Reason.SECRET_INVALID,
            "either ssh-privatekey or password",
        ),
        (
            secret(ssh_privatekey=b"PuTTY-User-Key-File-3"),
            Reason.SECRET_INVALID,
            "ssh-privatekey must be a private key",
        ),
        (
            secret(ssh_privatekey=b"\n"),
            Reason.SECRET_INVALID,
            "ssh-privatekey is empty",
        ),
        (secret(password=b"\xff"), Reason.SECRET_INVALID, "password is no UTF-8 text"),
        (
            secret(password=b"x" * 1025),
            Reason.SECRET_INVALID,
            "password is longer than 1024 bytes",
        ),
        (
            secret(ssh_privatekey=KEY * 1000),
            Reason.SECRET_INVALID,
            "ssh-privatekey is longer than 65536 bytes",
        ),
        (
            secret(password=b"x", known_hosts=b"\xff"),
            Reason.SECRET_INVALID,
            "known_hosts is no UTF-8 text",
        ),
        (
            secret(password=b"x") | {"data": {"password": "*"}},
            Reason.SECRET_INVALID,
            "password is no base64",
        ),
    ],
)
def test_what_cannot_be_used_is_told_by_key(document, reason, says):
    with pytest.raises(CollectionError) as refused:
        read(document)
    assert refused.value.reason is reason
    assert refused.value.detail.startswith("Secret web")
    assert says in refused.value.detail


def test_the_version_follows_the_content_alone():
    first = read(secret(password=b"one", known_hosts=b"k"))
    same = read(
        secret(kind="kubernetes.io/basic-auth", password=b"one", known_hosts=b"k")
    )
    assert first.version == same.version
    assert first.version != read(secret(password=b"two", known_hosts=b"k")).version
    assert first.version != read(secret(password=b"one")).version


def test_nothing_secret_shows():
    for document in (secret(password=b"hunter2"), secret(ssh_privatekey=KEY)):
        shown = repr(read(document))
        assert "hunter2" not in shown
        assert "b3Bl" not in shown


def test_the_version_tells_nothing_without_the_salt():
    document = secret(password=b"hunter2")
    assert (
        credential_of(document, salt=b"a").version
        != credential_of(document, salt=b"b").version
    )
