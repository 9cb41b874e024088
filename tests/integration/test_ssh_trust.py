"""No login without a believed host key, and no password before it was known."""

from __future__ import annotations

import asyncssh
import pytest

from hostwatch.model.credential import Credential, HostTrust, Target
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.shells import Shells
from world.scripted import ScriptedServer
from world.sshd import OpenSSH
from world.targets import (
    LOOPBACK_ALLOWED,
    SCRIPT,
    ask,
    open_shell,
    server_key,
    target_of,
)
from world.wait import eventually


@pytest.fixture
async def shells():
    made = Shells(LOOPBACK_ALLOWED, script=lambda _interval: SCRIPT)
    yield made
    await made.close_all()


async def failure_of(shells, target):
    with pytest.raises(CollectionError) as raised:
        await ask(shells, target)
    assert raised.value.reached
    return raised.value


def public(key):
    return key.export_public_key("openssh").decode().strip()


OTHER = asyncssh.generate_private_key("ssh-ed25519")


async def test_a_changed_host_key_is_refused_before_the_login(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server, trust=HostTrust(known_hosts=public(OTHER)))
    error = await failure_of(shells, target)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == server.fingerprint
    assert server.seen.attempts == []


async def test_openssh_with_another_host_key_is_refused(shells, tmp_path):
    with OpenSSH(tmp_path) as sshd:
        target = target_of(sshd)
        shell = await open_shell(shells, target)
        sshd.change_host_key()
        await eventually(lambda: not shell.alive)
        error = await failure_of(shells, target)
        assert error.reason == Reason.HOST_KEY_MISMATCH
        assert error.presented == sshd.fingerprint


async def test_a_host_without_a_line_is_refused_and_its_key_shown(
    shells, scripted_server
):
    server = await scripted_server()
    lines = f"another-host {public(server.host_key)}"
    target = target_of(server, trust=HostTrust(known_hosts=lines))
    error = await failure_of(shells, target)
    assert error.reason == Reason.HOST_KEY_UNKNOWN
    assert error.presented == server.fingerprint
    assert server.seen.attempts == []


async def test_nothing_known_refuses_every_key(shells, scripted_server):
    server = await scripted_server()
    error = await failure_of(shells, target_of(server, trust=HostTrust()))
    assert error.reason == Reason.HOST_KEY_UNKNOWN


async def test_a_pin_accepts_its_key_and_no_other(shells, scripted_server):
    server = await scripted_server()
    pinned = target_of(server, trust=HostTrust(pin=server.fingerprint))
    assert (await open_shell(shells, pinned)).host_key == server.fingerprint
    wrong = target_of(server, trust=HostTrust(pin=OTHER.get_fingerprint()))
    error = await failure_of(shells, wrong)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == server.fingerprint


async def test_a_first_use_tells_the_key_to_pin(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server, trust=HostTrust(first_use=True))
    assert (await open_shell(shells, target)).host_key == server.fingerprint


@pytest.mark.parametrize(
    ("trust", "reason"),
    [
        (HostTrust(first_use=True), Reason.HOST_KEY_UNKNOWN),
        (HostTrust(), Reason.HOST_KEY_UNKNOWN),
        (HostTrust(known_hosts="#"), Reason.HOST_KEY_UNKNOWN),
        (HostTrust(known_hosts=public(OTHER)), Reason.HOST_KEY_MISMATCH),
        (HostTrust(pin=OTHER.get_fingerprint()), Reason.HOST_KEY_MISMATCH),
        (HostTrust(certificate_authority=public(OTHER)), Reason.HOST_KEY_MISMATCH),
    ],
)
async def test_a_password_is_not_sent_to_a_host_that_is_not_known(
    shells, scripted_server, trust, reason
):
    server = await scripted_server(password="secret")
    secret = Credential("1", password="secret")
    error = await failure_of(shells, target_of(server, credential=secret, trust=trust))
    assert error.reason == reason
    assert server.seen.passwords == []
    assert server.seen.attempts == []


async def test_a_password_is_sent_to_a_pinned_host(shells, scripted_server):
    server = await scripted_server(password="secret")
    secret = Credential("1", password="secret")
    trust = HostTrust(pin=server.fingerprint)
    await ask(shells, target_of(server, credential=secret, trust=trust))
    assert server.seen.passwords == ["secret"]


def host_key_in(folder, kind, **size):
    """Make a further host key; return it and its line in sshd_config."""
    key = asyncssh.generate_private_key(kind, **size)
    path = folder / key.get_algorithm()
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key("openssh"))
    return key, f"HostKey {path}"


async def test_the_known_kind_of_key_is_asked_for(shells, tmp_path):
    rsa, first = host_key_in(tmp_path, "ssh-rsa", key_size=3072)
    ecdsa, second = host_key_in(tmp_path, "ecdsa-sha2-nistp256")
    keys = [rsa, ecdsa]
    with OpenSSH(tmp_path / "sshd", settings=[first, second]) as sshd:
        for key in keys:
            target = target_of(sshd, trust=HostTrust(known_hosts=public(key)))
            shell = await open_shell(shells, target)
            assert shell.host_key == key.get_fingerprint()
        assert (await open_shell(shells, target_of(sshd))).host_key == sshd.fingerprint


async def test_a_pinned_key_is_found_beside_a_newer_one_of_another_kind(
    shells, tmp_path
):
    rsa, setting = host_key_in(tmp_path, "ssh-rsa", key_size=3072)
    with OpenSSH(tmp_path / "sshd", settings=[setting]) as sshd:
        assert sshd.fingerprint != rsa.get_fingerprint()
        for _ in range(2):
            target = target_of(sshd, trust=HostTrust(pin=rsa.get_fingerprint()))
            shell = await open_shell(shells, target)
            assert shell.host_key == rsa.get_fingerprint()
        newer = target_of(sshd, trust=HostTrust(pin=sshd.fingerprint))
        assert (await open_shell(shells, newer)).host_key == sshd.fingerprint
        gone = target_of(sshd, trust=HostTrust(pin=OTHER.get_fingerprint()))
        error = await failure_of(shells, gone)
        assert error.reason == Reason.HOST_KEY_MISMATCH
        assert error.presented == sshd.fingerprint


async def test_a_login_that_fails_with_the_pinned_key_is_told_as_such(shells, tmp_path):
    rsa, setting = host_key_in(tmp_path, "ssh-rsa", key_size=3072)
    with OpenSSH(tmp_path / "sshd", settings=[setting]) as sshd:
        secret = Credential("1", private_key=OTHER.export_private_key("openssh"))
        trust = HostTrust(pin=rsa.get_fingerprint())
        error = await failure_of(
            shells, target_of(sshd, credential=secret, trust=trust)
        )
        assert error.reason == Reason.AUTHENTICATION_FAILED


async def test_a_changed_key_is_looked_at_once_more_per_kind_and_no_oftener(
    shells, scripted_server
):
    server = await scripted_server()
    wrong = HostTrust(pin=OTHER.get_fingerprint())
    error = await failure_of(shells, target_of(server, trust=wrong))
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == server.fingerprint
    assert server.seen.connections == 2
    assert server.seen.attempts == []


async def test_a_short_rsa_host_key_is_refused_before_the_login(
    shells, scripted_server
):
    server = await scripted_server(host_key_type="ssh-rsa", host_key_size=2048)
    for trust in (
        HostTrust(known_hosts=server.known_hosts),
        HostTrust(pin=server.fingerprint),
        HostTrust(first_use=True),
    ):
        error = await failure_of(shells, target_of(server, trust=trust))
        assert error.reason == Reason.WEAK_HOST_KEY
        assert error.presented == server.fingerprint
    assert server.seen.attempts == []


async def test_a_long_rsa_host_key_is_accepted(shells, scripted_server):
    server = await scripted_server(host_key_type="ssh-rsa", host_key_size=3072)
    assert (await ask(shells, target_of(server))).endswith(" all")


AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")


def certified(*, authority=AUTHORITY, principals=("127.0.0.1",), size=None, **made):
    """Return a server that shows a certificate for its key."""
    kind = {"host_key_type": "ssh-rsa", "host_key_size": size} if size else {}
    server = ScriptedServer(**kind)
    certificate = authority.generate_host_certificate(
        server.host_key.convert_to_public(), "id", principals=principals, **made
    )
    server._options["server_host_certs"] = [certificate.export_certificate()]
    return server


@pytest.mark.parametrize(
    "trust",
    [
        HostTrust(certificate_authority=public(AUTHORITY)),
        HostTrust(known_hosts=f"@cert-authority * {public(AUTHORITY)}"),
    ],
)
async def test_a_certificate_of_a_trusted_authority_is_believed(shells, trust):
    async with certified() as server:
        shell = await open_shell(shells, target_of(server, trust=trust))
        assert shell.host_key == server.fingerprint


@pytest.mark.parametrize(
    "made",
    [
        {"valid_after": 1, "valid_before": 2},
        {"principals": ["another-host"]},
        {"authority": asyncssh.generate_private_key("ssh-ed25519")},
    ],
)
async def test_a_certificate_that_does_not_hold_is_refused(shells, made):
    trust = HostTrust(certificate_authority=public(AUTHORITY))
    async with certified(**made) as server:
        error = await failure_of(shells, target_of(server, trust=trust))
        assert error.reason == Reason.HOST_KEY_MISMATCH
        assert server.seen.attempts == []


async def test_a_certificate_makes_a_short_key_no_better(shells):
    trust = HostTrust(certificate_authority=public(AUTHORITY))
    async with certified(size=2048) as server:
        error = await failure_of(shells, target_of(server, trust=trust))
        assert error.reason == Reason.WEAK_HOST_KEY
        assert server.seen.attempts == []


async def test_a_certificate_makes_a_revoked_key_no_better(shells):
    async with certified() as server:
        lines = f"@cert-authority * {public(AUTHORITY)}\n"
        lines += f"@revoked * {public(server.host_key)}"
        target = target_of(server, trust=HostTrust(known_hosts=lines))
        error = await failure_of(shells, target)
        assert error.reason == Reason.HOST_KEY_MISMATCH
        assert error.presented == server.fingerprint
        assert server.seen.attempts == []


async def test_a_server_without_a_certificate_is_not_believed(shells, scripted_server):
    server = await scripted_server()
    trust = HostTrust(certificate_authority=public(AUTHORITY))
    error = await failure_of(shells, target_of(server, trust=trust))
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == server.fingerprint


async def test_a_key_that_is_shown_but_not_held_is_a_mismatch(shells):
    server = ScriptedServer()
    known, (held,) = server.host_key, asyncssh.load_keypairs([OTHER])
    (shown,) = asyncssh.load_keypairs([known])
    shown.sign = held.sign
    server.host_key = shown
    async with server:
        target = Target(
            server_key(),
            server.host,
            server.port,
            "hostwatch",
            Credential("1", private_key=server.private_key.encode()),
            HostTrust(known_hosts=public(known)),
        )
        error = await failure_of(shells, target)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == known.get_fingerprint()
    assert "could not prove" in error.detail
    assert server.seen.attempts == []


async def test_a_wrong_key_is_refused_by_the_server(shells, scripted_server):
    server = await scripted_server(user_keys=[public(OTHER)])
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.AUTHENTICATION_FAILED
    assert len(server.seen.attempts) == 1


async def test_a_wrong_key_is_refused_by_openssh(shells, openssh):
    secret = Credential("1", private_key=OTHER.export_private_key("openssh"))
    error = await failure_of(shells, target_of(openssh, credential=secret))
    assert error.reason == Reason.AUTHENTICATION_FAILED


async def test_a_wrong_password_is_sent_once(shells, scripted_server):
    server = await scripted_server(password="right")
    secret = Credential("1", password="wrong")
    error = await failure_of(shells, target_of(server, credential=secret))
    assert error.reason == Reason.AUTHENTICATION_FAILED
    assert server.seen.passwords == ["wrong"]
