from __future__ import annotations

import base64
import hashlib
import hmac
import time
from itertools import count

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.model.credential import Credential, HostTrust, Target
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.client import Client
from hostwatch.ssh.known_hosts import read_host_keys
from hostwatch.ssh.trust import Trust, fingerprint
from world.targets import server_key


def new_key(kind="ssh-ed25519", **size):
    return asyncssh.generate_private_key(kind, **size).convert_to_public()


def text_of(key):
    return key.export_public_key("openssh").decode().strip()


KEY, OTHER, AUTHORITY = new_key(), new_key(), new_key()
ECDSA = new_key("ecdsa-sha2-nistp256")
RSA_2048, RSA_3072 = (
    new_key("ssh-rsa", key_size=2048),
    new_key("ssh-rsa", key_size=3072),
)


def hashed(name):
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return "|1|" + "|".join(base64.b64encode(x).decode() for x in (salt, digest))


def keys_for(text, host="web-1.example.com", port=22):
    return read_host_keys(text, host=host, port=port)


def trust_in(*, host="web-1.example.com", port=22, secret="", password=None, **trust):
    credential = Credential("1", password=password, known_hosts=secret or None)
    return Trust.of(
        Target(server_key(), host, port, "hostwatch", credential, HostTrust(**trust))
    )


def refusal(trust, key):
    with pytest.raises(CollectionError) as raised:
        trust.check(key)
    return raised.value


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("web-1.example.com", "web-1.example.com", 22),
        ("web-1.example.com", "WEB-1.example.com", 22),
        ("web-1.example.com", "web-1.example.com", 2222),
        ("[web-1.example.com]:22", "web-1.example.com", 22),
        ("[web-1.example.com]:2222", "web-1.example.com", 2222),
        ("*.example.com,!db.example.com", "web-1.example.com", 22),
        ("other,web-1.example.com", "web-1.example.com", 22),
        (hashed("web-1.example.com"), "web-1.example.com", 22),
        (hashed("[web-1.example.com]:2222"), "web-1.example.com", 2222),
        ("10.0.0.7", "10.0.0.7", 22),
        ("WEB-?.Example.com", "web-1.example.com", 22),
        ("*", "web-1.example.com", 2222),
        ("[2001:db8::7]:2222", "2001:db8::7", 2222),
    ],
)
def test_a_line_is_for_its_host_and_port(pattern, host, port):
    text = f"# a comment\n\n{pattern} {text_of(KEY)} root@web-1\n"
    assert keys_for(text, host, port) == ((KEY,), (), ())


@pytest.mark.parametrize(
    ("pattern", "host", "port"),
    [
        ("web-2.example.com", "web-1.example.com", 22),
        ("[web-1.example.com]:2222", "web-1.example.com", 22),
        ("[web-1.example.com]:2222", "web-1.example.com", 2223),
        ("*.example.com,!web-1.example.com", "web-1.example.com", 22),
        (hashed("web-2.example.com"), "web-1.example.com", 22),
        ("!web-2.example.com", "web-1.example.com", 22),
        ("web-[1].example.com", "web-1.example.com", 22),
        ("10.0.0.0/8", "10.0.0.7", 22),
    ],
)
def test_a_line_is_for_no_other_host_or_port(pattern, host, port):
    assert keys_for(f"{pattern} {text_of(KEY)}", host, port) == ((), (), ())


def test_the_line_with_the_port_comes_before_the_one_without():
    text = f"web-1 {text_of(OTHER)}\n[web-1]:2222 {text_of(KEY)}"
    assert keys_for(text, "web-1", 2222).keys == (KEY,)


def test_a_bare_key_is_for_the_host_of_the_resource():
    text = f"{text_of(KEY)} a comment\n{text_of(ECDSA)}"
    assert keys_for(text, "anything", 2222) == ((KEY, ECDSA), (), ())


def test_marks_tell_authorities_and_revoked_keys():
    text = (
        f"@cert-authority *.example.com {text_of(AUTHORITY)}\n"
        f"@revoked * {text_of(OTHER)}\n"
        f"@cert-authority {text_of(ECDSA)}\n"
    )
    assert keys_for(text) == ((), (ECDSA, AUTHORITY), (OTHER,))
    assert keys_for(text, port=2222) == ((), (ECDSA, AUTHORITY), (OTHER,))


def test_a_key_of_a_kind_that_is_not_known_is_passed_over():
    name = b"ssh-of-the-future@example.com"
    blob = base64.b64encode(len(name).to_bytes(4, "big") + name + b"key").decode()
    text = f"web-1.example.com {name.decode()} {blob}\nweb-1.example.com {text_of(KEY)}"
    assert keys_for(text).keys == (KEY,)


@pytest.mark.parametrize(
    "line",
    [
        "web-1.example.com",
        "web-1.example.com ssh-ed25519",
        "ssh-ed25519",
        "@revoked",
        f"@unknown web-1.example.com {text_of(KEY)}",
        "web-1.example.com ssh-ed25519 not-base64",
        "web-1.example.com ssh-ed25519 AAAA",
        f"web-1.example.com ssh-rsa {text_of(KEY).split()[1]}",
        f"web-1.example.com {text_of(KEY)[:-8]}",
        f"|1|short {text_of(KEY)}",
        f"|2|AAAA|AAAA {text_of(KEY)}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
    ids=count(),
)
def test_a_line_that_cannot_be_read_is_named_by_its_number(line):
    with pytest.raises(ValueError, match="line 3 is neither"):
        keys_for(f"{text_of(KEY)}\n# comment\n{line}\n")


def complaint(text):
    try:
        keys_for(text)
    except ValueError as error:
        return str(error)
    return ""


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused(text):
    assert complaint(text)[:5] in ("", "line ")


@given(st.binary(max_size=200))
def test_any_key_blob_is_read_or_refused(blob):
    for kind in (b"ssh-rsa", b"ecdsa-sha2-nistp256", b"ssh-dss", b"ssh-ed448"):
        data = len(kind).to_bytes(4, "big") + kind + blob
        text = f"{kind.decode()} {base64.b64encode(data).decode()}"
        assert complaint(text)[:6] in ("", "line 1")


@pytest.mark.parametrize(
    "pattern",
    [
        ",".join(["web-1.example.com"] * 65),
        f"web-1.example.com,{'*' * 301}",
        f"|1|{base64.b64encode(bytes(300)).decode()}|AAAA",
    ],
)
def test_a_line_of_very_many_or_very_long_hosts_is_refused(pattern):
    with pytest.raises(ValueError, match="line 2 has more than 64 hosts, or one of"):
        keys_for(f"# comment\n{pattern} {text_of(KEY)}")


def test_hosts_are_matched_in_linear_time():
    names = ",".join(f"{'?*' * 140}{n}x" for n in range(50))
    hostile = "\n".join([f"{names} {text_of(KEY)}"] * 4)
    before = time.thread_time()
    assert keys_for(hostile, "a" * 253) == ((), (), ())
    # The time of the processor alone, and a multiple of what it takes.
    assert time.thread_time() - before < 1


def test_a_text_without_end_is_refused():
    with pytest.raises(ValueError, match="longer than 64 KiB"):
        keys_for("#" * 65537)


def test_a_bad_text_of_the_spec_is_an_invalid_spec():
    with pytest.raises(CollectionError) as raised:
        trust_in(known_hosts="nonsense")
    assert raised.value.reason == Reason.INVALID_SPEC
    assert raised.value.detail.startswith("spec.hostKey.knownHosts: line 1 ")
    with pytest.raises(CollectionError) as raised:
        trust_in(certificate_authority="nonsense")
    assert raised.value.reason == Reason.INVALID_SPEC
    assert raised.value.detail.startswith("spec.hostKey.certificateAuthority: line 1 ")


def test_a_bad_text_of_the_secret_is_an_invalid_secret():
    with pytest.raises(CollectionError) as raised:
        trust_in(known_hosts="nonsense", secret="nonsense")
    assert raised.value.reason == Reason.SECRET_INVALID
    assert raised.value.detail.startswith("known_hosts in the Secret: line 1 ")


def test_a_known_key_is_believed():
    trust_in(known_hosts=text_of(KEY)).check(KEY)


def test_another_key_than_the_known_one_is_a_mismatch_and_shown():
    error = refusal(trust_in(known_hosts=text_of(KEY)), OTHER)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == fingerprint(OTHER)
    assert error.reached


def test_a_host_without_a_line_is_unknown_and_its_key_shown():
    error = refusal(trust_in(known_hosts=f"web-2 {text_of(KEY)}"), KEY)
    assert error.reason == Reason.HOST_KEY_UNKNOWN
    assert error.presented == fingerprint(KEY)


def test_nothing_known_at_all_is_unknown():
    assert refusal(trust_in(), KEY).reason == Reason.HOST_KEY_UNKNOWN


def test_a_plain_key_does_not_stand_for_a_certificate():
    error = refusal(trust_in(certificate_authority=text_of(AUTHORITY)), KEY)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == fingerprint(KEY)


@pytest.mark.parametrize("form", ["{}", "* {}", "@cert-authority *.example.com {}"])
def test_an_authority_is_a_bare_key_or_a_line(form):
    trust = trust_in(certificate_authority=form.format(text_of(AUTHORITY)))
    trust.check_authority(AUTHORITY)
    with pytest.raises(CollectionError) as raised:
        trust.check_authority(OTHER)
    assert raised.value.reason == Reason.HOST_KEY_MISMATCH


def test_a_revoked_authority_certifies_nothing():
    lines = f"@cert-authority * {text_of(AUTHORITY)}\n@revoked * {text_of(AUTHORITY)}"
    with pytest.raises(CollectionError) as raised:
        trust_in(known_hosts=lines).check_authority(AUTHORITY)
    assert raised.value.reason == Reason.HOST_KEY_MISMATCH


def test_a_pin_is_exactly_one_key():
    trust = trust_in(pin=fingerprint(KEY))
    trust.check(KEY)
    error = refusal(trust, OTHER)
    assert error.reason == Reason.HOST_KEY_MISMATCH
    assert error.presented == fingerprint(OTHER)


def test_a_first_use_believes_any_key_unless_a_password_would_be_sent():
    trust_in(first_use=True).check(KEY)
    error = refusal(trust_in(first_use=True, password="secret"), KEY)
    assert error.reason == Reason.HOST_KEY_UNKNOWN
    assert error.presented == fingerprint(KEY)
    trust_in(pin=fingerprint(KEY), password="secret").check(KEY)


def test_a_revoked_key_is_refused_however_it_was_believed():
    trust = trust_in(known_hosts=f"{text_of(KEY)}\n@revoked * {text_of(KEY)}")
    with pytest.raises(CollectionError) as raised:
        trust.check_strength(KEY)
    assert raised.value.reason == Reason.HOST_KEY_MISMATCH
    assert raised.value.presented == fingerprint(KEY)


def test_a_short_rsa_key_is_weak():
    with pytest.raises(CollectionError) as raised:
        trust_in(first_use=True).check_strength(RSA_2048)
    assert raised.value.reason == Reason.WEAK_HOST_KEY
    assert raised.value.presented == fingerprint(RSA_2048)
    for key in (RSA_3072, KEY, ECDSA):
        trust_in(first_use=True).check_strength(key)


PLAIN = ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"]


def test_the_kind_of_the_known_key_is_asked_for_first():
    assert trust_in(first_use=True).algorithms == PLAIN
    assert trust_in(known_hosts=text_of(RSA_3072)).algorithms == [
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ssh-ed25519",
    ]
    ecdsa = trust_in(known_hosts=text_of(ECDSA))
    assert ecdsa.algorithms == ["ecdsa-sha2-nistp256", *PLAIN]


def test_a_pinned_key_is_asked_for_by_the_kinds_that_were_not_shown():
    pinned = trust_in(pin=fingerprint(RSA_3072))
    assert pinned.algorithms == PLAIN
    others = pinned.without(b"ssh-ed25519")
    assert others.algorithms == ["rsa-sha2-512", "rsa-sha2-256"]
    assert others.pin == pinned.pin
    assert others.without(b"ssh-rsa") is None
    assert others.without(b"ssh-ed25519") is None
    assert pinned.without(b"") is None


def test_only_a_pin_is_asked_for_again():
    for trust in ({"known_hosts": text_of(KEY)}, {"first_use": True}, {}):
        assert trust_in(**trust).without(b"ssh-ed25519") is None


def test_certificates_are_asked_for_where_an_authority_is_known():
    certified = [f"{name}-cert-v01@openssh.com" for name in PLAIN]
    trust = trust_in(certificate_authority=text_of(AUTHORITY))
    assert trust.algorithms == [*certified, *PLAIN]


def test_a_fingerprint_reads_like_the_one_of_ssh_keygen(tmp_path):
    digest = hashlib.sha256(KEY.public_data).digest()
    expected = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    assert fingerprint(KEY) == expected


def test_a_first_use_ends_with_the_first_key():
    client = Client(trust_in(first_use=True))
    assert client.validate_host_public_key("web-1", "10.0.0.7", 22, KEY)
    assert client.validate_host_public_key("web-1", "10.0.0.7", 22, KEY)
    with pytest.raises(CollectionError) as raised:
        client.validate_host_public_key("web-1", "10.0.0.7", 22, OTHER)
    assert raised.value.reason == Reason.HOST_KEY_MISMATCH
    assert raised.value.presented == fingerprint(OTHER)


def test_no_login_starts_without_a_proved_key():
    with pytest.raises(CollectionError) as raised:
        Client(trust_in(first_use=True)).begin_auth("hostwatch")
    assert raised.value.reason == Reason.HOST_KEY_UNKNOWN
