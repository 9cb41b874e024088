from __future__ import annotations

import asyncio
import base64
import subprocess
import threading
import time
from dataclasses import replace
from itertools import count

import asyncssh
import pytest
from asyncssh.asn1 import der_encode
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.model.credential import Credential, HostTrust, Target
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.keys import Keyring, read_login
from world.targets import server_key

KEY = asyncssh.generate_private_key("ssh-ed25519")
AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")


def credential(private_key=None, **rest):
    return Credential("1", private_key=private_key, **rest)


def refusal(given_credential):
    with pytest.raises(CollectionError) as raised:
        read_login(given_credential).check()
    assert raised.value.reason == Reason.SECRET_INVALID
    assert not raised.value.reached
    return raised.value.detail


def keygen(path, *options):
    subprocess.run(["ssh-keygen", "-q", "-f", path, *options], check=True)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_what_ssh_keygen_makes_is_read(tmp_path, kind, form):
    text = keygen(tmp_path / "key", "-t", kind, "-m", form, "-N", "")
    login = read_login(credential(text))
    public = (tmp_path / "key.pub").read_text().split()[1]
    assert login.key.export_public_key("openssh").decode().split()[1] == public


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_a_passphrase_opens_its_key(tmp_path, form):
    options = ("-t", "rsa", "-b", "2048", "-m", form, "-N", "correct horse")
    text = keygen(tmp_path / "key", *options)
    assert read_login(credential(text, passphrase=b"correct horse")).key is not None
    assert "add its passphrase" in refusal(credential(text))
    wrong = refusal(credential(text, passphrase=b"wrong"))
    assert wrong == "the passphrase in the Secret does not open its ssh-privatekey"


def test_windows_lines_and_space_around_a_key_do_no_harm():
    text = KEY.export_private_key("openssh").replace(b"\n", b"\r\n")
    assert read_login(credential(b"\n  " + text.strip())).key == KEY


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        KEY.export_public_key("openssh"),
        KEY.export_private_key("openssh")[:120],
        KEY.export_private_key("pkcs8-der"),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\n%%%%\n-----END PRIVATE KEY-----",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n\n-----END ENCRYPTED PRIVATE KEY-----",
    ],
    ids=count(),
)
def test_what_is_no_private_key_is_refused_with_a_remedy(text):
    assert "is not a private key that OpenSSH can read" in refusal(credential(text))


def test_an_empty_secret_says_what_it_lacks():
    expected = "the Secret holds neither ssh-privatekey nor password"
    assert refusal(credential()) == expected
    assert refusal(credential(b"")) == expected


def test_a_key_of_more_than_64_kib_is_refused():
    assert "longer than 64 KiB" in refusal(credential(b"x" * 65537))


def test_a_key_that_takes_minutes_to_open_is_refused_at_once():
    text = KEY.export_private_key(
        "openssh", passphrase="x", rounds=16, ignore_few_rounds=True
    )
    data = bytearray(unarmored(text))
    at = data.index((16).to_bytes(4, "big"), data.index(b"bcrypt") + 14 + 16)
    data[at : at + 4] = (2**31).to_bytes(4, "big")
    costly = credential(armored("OPENSSH PRIVATE KEY", bytes(data)), passphrase=b"x")
    assert "takes too long to open" in refusal(costly)


def test_a_pkcs8_key_that_takes_minutes_to_open_is_refused_at_once():
    text = KEY.export_private_key("pkcs8-pem", passphrase="x")
    data = unarmored(text)
    # INTEGER 2048, the iterations; three bytes of length keep the rest in place.
    changed = data.replace(b"\x02\x02\x08\x00", b"\x02\x02\x7f\xff")
    assert read_login_error(changed) != "costly"
    huge = data.replace(b"\x02\x02\x08\x00", b"\x02\x04\x7f\xff\xff\xff")
    huge = grown(huge, 2)
    assert read_login_error(huge) == "costly"


def read_login_error(data):
    text = armored("ENCRYPTED PRIVATE KEY", data)
    detail = refusal(credential(text, passphrase=b"x"))
    return "costly" if "takes too long" in detail else detail


def grown(data, more):
    """Add to the lengths of the sequences that hold the iterations (DER)."""
    data = bytearray(data)
    at = data.index(b"\x02\x04\x7f\xff\xff\xff")
    for tag in range(at - 1, -1, -1):
        if data[tag] != 0x30 or data[tag + 1] & 0x80:
            continue
        if tag + 2 + data[tag + 1] + more > at and tag + 2 <= at:
            data[tag + 1] += more
    if data[1] == 0x81:
        data[2] += more
    return bytes(data)


def unarmored(text):
    lines = [line for line in text.splitlines() if not line.startswith(b"--")]
    return base64.b64decode(b"".join(lines))


def armored(name, data):
    body = base64.encodebytes(data).decode()
    return f"-----BEGIN {name}-----\n{body}-----END {name}-----\n".encode()


def test_a_very_long_rsa_key_is_refused():
    # Built from numbers: to search primes of this size takes minutes.
    prime = (1 << 4500) + 1
    other = (1 << 4501) + 3
    numbers = (0, prime * other, 65537, 3, prime, other, 3, 3, 3)
    text = armored("RSA PRIVATE KEY", der_encode(numbers))
    assert "more than 8192 bits" in refusal(credential(text))


@given(st.binary(max_size=400), st.sampled_from(["", "RSA ", "EC ", "ENCRYPTED "]))
def test_any_content_of_a_key_is_read_or_refused(data, kind):
    text = armored(f"{kind}PRIVATE KEY", data)
    with pytest.raises(CollectionError):
        read_login(credential(text, passphrase=b"x"))


@given(st.binary(max_size=400))
def test_any_content_of_an_openssh_key_is_read_or_refused(data):
    text = armored("OPENSSH PRIVATE KEY", b"openssh-key-v1\0" + data)
    with pytest.raises(CollectionError):
        read_login(credential(text, passphrase=b"x"))


def test_deeply_nested_der_is_refused():
    nested = b"\x05\x00"
    for _ in range(3000):
        length = len(nested)
        if length < 128:
            nested = b"\x30" + bytes([length]) + nested
        else:
            nested = b"\x30\x82" + length.to_bytes(2, "big") + nested
    for kind in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        assert "not a private key" in refusal(credential(armored(kind, nested)))


def certificate(key=KEY, **options):
    public = key.convert_to_public()
    made = AUTHORITY.generate_user_certificate(public, "id", **options)
    return made.export_certificate()


def with_certificate(text):
    return credential(KEY.export_private_key("openssh"), certificate=text)


def test_a_certificate_comes_with_its_key():
    login = read_login(with_certificate(certificate()))
    assert login.certificate.key == KEY.convert_to_public()
    assert login.holds
    login.check()


def test_a_certificate_holds_only_between_its_times():
    expired = certificate(valid_after=1, valid_before=2)
    assert not read_login(with_certificate(expired)).holds
    assert "expired, not valid yet" in refusal(with_certificate(expired))
    early = certificate(valid_after="20990101")
    assert "expired, not valid yet" in refusal(with_certificate(early))


def test_a_host_certificate_logs_nobody_in():
    public = KEY.convert_to_public()
    text = AUTHORITY.generate_host_certificate(public, "id").export_certificate()
    assert "no user certificate" in refusal(with_certificate(text))


def test_a_certificate_of_another_key_is_refused():
    other = asyncssh.generate_private_key("ssh-ed25519")
    detail = refusal(with_certificate(certificate(other)))
    assert "is not for its ssh-privatekey" in detail


@pytest.mark.parametrize("text", [b"", b"nonsense", b"x" * 65537])
def test_what_is_no_certificate_is_refused(text):
    assert "not an OpenSSH certificate" in refusal(with_certificate(text))


def test_nothing_secret_shows_in_a_login():
    login = read_login(credential(KEY.export_private_key("openssh")))
    assert repr(login) == "Login()"


def test_text_around_a_key_does_no_harm():
    text = KEY.export_private_key("openssh")
    other = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    mark = b"-----BEGIN -----BEGIN"
    assert read_login(credential(other + text + mark + other)).key == KEY
    assert read_login(credential(mark + other + b"a comment: x\n" + text)).key == KEY


@pytest.mark.parametrize(
    "line",
    [
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN A PRIVATE KEY-----",
        b"-----BEGIN ",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END PRIVATE KEY-----\n",
        b"-----BEGIN -----",
        b"-",
    ],
)
def test_many_marks_are_searched_once(line):
    text = (line * 65536)[:65536]
    before = time.thread_time()
    assert "is not a private key that OpenSSH can read" in refusal(credential(text))
    # The time of the processor alone: to search anew from each mark took a second.
    assert time.thread_time() - before < 0.3


@pytest.fixture
def keyring():
    made = Keyring()
    yield made
    made.close()


async def log_in(keyring, given_credential, *, namespace="acme", within=20):
    async with asyncio.timeout(within) as deadline:
        return await keyring.login(
            given_credential, namespace=namespace, deadline=deadline
        )


async def test_a_password_is_a_login_by_itself(keyring):
    login = await log_in(keyring, credential(password="secret"))
    assert (login.password, login.key) == ("secret", None)
    assert login.holds


async def test_a_key_is_opened_once(keyring):
    text = KEY.export_private_key("openssh", passphrase="x")
    logins = await asyncio.gather(
        *(log_in(keyring, credential(text, passphrase=b"x")) for _ in range(5))
    )
    assert all(login is logins[0] for login in logins)


async def test_another_version_of_a_secret_is_opened_anew(keyring):
    text = KEY.export_private_key("openssh")
    first = await log_in(keyring, Credential("1", private_key=text))
    second = await log_in(keyring, Credential("2", private_key=text))
    assert first is not second
    assert first.key == second.key


async def test_a_bad_key_is_refused_each_time(keyring):
    for _ in range(2):
        with pytest.raises(CollectionError) as raised:
            await log_in(keyring, credential(b"nonsense"))
        assert raised.value.reason == Reason.SECRET_INVALID


async def test_opening_a_key_leaves_the_event_loop_alone(keyring):
    text = KEY.export_private_key("openssh", passphrase="x", rounds=64)
    turns = 0
    opening = asyncio.ensure_future(log_in(keyring, credential(text, passphrase=b"x")))
    while not opening.done():
        turns += 1
        await asyncio.sleep(0.001)
    await opening
    assert turns > 5
    assert any(t.name.startswith("ssh-keys") for t in threading.enumerate())


async def test_one_that_gives_up_does_not_spoil_it_for_the_others(keyring):
    text = KEY.export_private_key("openssh", passphrase="x", rounds=64)
    secret = credential(text, passphrase=b"x")
    first = asyncio.ensure_future(log_in(keyring, secret))
    second = asyncio.ensure_future(log_in(keyring, secret))
    await asyncio.sleep(0.001)
    first.cancel()
    assert (await second).key == KEY


async def test_an_error_that_nobody_foresaw_is_an_invalid_secret(keyring, monkeypatch):
    def give_up(*_args, **_options):
        raise AssertionError("a parser that gives up")

    monkeypatch.setattr(asyncssh, "import_private_key", give_up)
    with pytest.raises(CollectionError) as raised:
        await log_in(keyring, credential(KEY.export_private_key("openssh")))
    assert raised.value.reason == Reason.SECRET_INVALID
    assert "cannot be read" in raised.value.detail


async def test_keys_of_one_namespace_do_not_hold_up_those_of_another(keyring):
    costly = [
        credential(
            KEY.export_private_key("openssh", passphrase=f"{n}", rounds=64),
            passphrase=f"{n}".encode(),
        )
        for n in range(3)
    ]
    opening = [asyncio.ensure_future(log_in(keyring, secret)) for secret in costly]
    await asyncio.sleep(0)
    plain = credential(KEY.export_private_key("openssh"))
    assert (await log_in(keyring, plain, namespace="globex")).key == KEY
    assert not opening[-1].done()
    assert [(await one).key for one in opening] == [KEY] * 3


PUBLIC = KEY.export_public_key("openssh").decode().strip()


def believing(*, host="web-1", port=22, secret=None, **trust):
    known = Credential("1", password="x", known_hosts=secret)
    return Target(server_key(), host, port, "hostwatch", known, HostTrust(**trust))


async def trusted(keyring, target):
    async with asyncio.timeout(20) as deadline:
        return await keyring.trust(target, deadline)


async def test_known_hosts_are_read_once_per_text_host_and_port(keyring):
    target = believing(known_hosts=f"web-1 {PUBLIC}")
    first = await trusted(keyring, target)
    assert first.keys == (KEY.convert_to_public(),)
    again = believing(known_hosts=f"web-1 {PUBLIC}")
    assert await trusted(keyring, again) is first
    assert (await trusted(keyring, replace(target, host="web-2"))).keys == ()
    assert await trusted(keyring, replace(target, port=2222)) is not first
    changed = replace(target, trust=HostTrust(known_hosts=f"web-1 {PUBLIC} "))
    assert await trusted(keyring, changed) is not first


async def test_known_hosts_and_an_authority_of_one_text_are_not_confused(keyring):
    known = await trusted(keyring, believing(known_hosts=PUBLIC))
    authority = await trusted(keyring, believing(certificate_authority=PUBLIC))
    assert (known.keys, known.authorities) == ((KEY.convert_to_public(),), ())
    assert (authority.keys, authority.authorities) == ((), known.keys)


async def test_a_bad_text_is_refused_each_time_by_where_it_stands(keyring):
    for _ in range(2):
        with pytest.raises(CollectionError) as raised:
            await trusted(keyring, believing(known_hosts="nonsense"))
        assert raised.value.reason == Reason.INVALID_SPEC
        with pytest.raises(CollectionError) as raised:
            await trusted(keyring, believing(known_hosts="nonsense", secret="nonsense"))
        assert raised.value.reason == Reason.SECRET_INVALID


async def test_known_hosts_are_read_off_the_event_loop(keyring):
    turns, lines = 0, "\n".join(f"*{n:x}* {PUBLIC}" for n in range(700))
    reading = asyncio.ensure_future(
        trusted(keyring, believing(known_hosts=lines[:65536].rpartition("\n")[0]))
    )
    while not reading.done():
        turns += 1
        await asyncio.sleep(0.001)
    await reading
    assert turns > 2
