"""What servers do to whoever asks them: each ends soon, bounded, with one reason."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import asyncssh
import pytest

from hostwatch.model.credential import HostTrust
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.limits import Limits
from hostwatch.ssh.shells import Shells
from world.scripted import raw_server
from world.targets import (
    LOOPBACK_ALLOWED,
    SCRIPT,
    ask,
    open_shell,
    server_key,
    target_at,
    target_of,
)
from world.wait import eventually

GREETING = b"HOSTWATCH 1\n"
NOLOGIN = ("/usr/sbin/nologin",)
SOON = Limits(dns_time=1, connect_time=1, login_time=2, greeting_time=1)


@pytest.fixture
async def shells():
    made = Shells(LOOPBACK_ALLOWED, script=lambda _interval: SCRIPT, limits=SOON)
    yield made
    await made.close_all()


async def failure_of(shells, target, **options):
    with pytest.raises(CollectionError) as raised:
        await ask(shells, target, **options)
    assert len(raised.value.detail) <= 256
    assert raised.value.detail.isprintable()
    return raised.value


# Before the login


async def test_silence_after_the_connection_is_a_connect_timeout(shells):
    async def silent(reader, _writer):
        await reader.read()

    async with raw_server(silent) as address:
        error = await failure_of(shells, target_at(*address))
    assert error.reason == Reason.CONNECT_TIMEOUT
    assert error.reached


async def test_a_dripping_banner_is_a_connect_timeout(shells):
    async def drip(_reader, writer):
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with raw_server(drip) as address:
        error = await failure_of(shells, target_at(*address))
    assert error.reason == Reason.CONNECT_TIMEOUT


@pytest.mark.parametrize("chunk", [b"x" * 65536, b"a line of a banner\r\n" * 3000])
async def test_an_endless_banner_is_cut(shells, chunk):
    async def endless(_reader, writer):
        while True:
            writer.write(chunk)
            await writer.drain()

    async with raw_server(endless) as address:
        error = await failure_of(shells, target_at(*address))
    # What only the limit of time ends is a CONNECT_TIMEOUT.
    assert error.reason == Reason.CONNECTION_LOST
    assert error.reached


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 64,
        b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14" + b"\x00" * 10,
        b"SSH-2.0-\xff\xfe\r\n",
        b"",
    ],
)
async def test_what_does_not_speak_ssh_is_a_lost_connection(shells, answer):
    async def talk(reader, writer):
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw_server(talk) as address:
        error = await failure_of(shells, target_at(*address))
    assert error.reason == Reason.CONNECTION_LOST
    assert error.reached


async def test_any_bytes_after_the_version_end_in_a_failure(shells):
    async def garbage(reader, writer):
        writer.write(b"SSH-2.0-x\r\n" + os.urandom(2000))
        writer.write_eof()
        await reader.read()

    async with raw_server(garbage) as address:
        for _ in range(20):
            error = await failure_of(shells, target_at(*address))
            assert error.reason == Reason.CONNECTION_LOST


async def test_a_flood_of_login_banners_is_cut(shells, scripted_server):
    sent = 0

    class Flood(asyncssh.SSHServer):
        def connection_made(self, conn):
            self._conn = conn

        async def begin_auth(self, username):
            nonlocal sent
            while not self._conn.is_closed():
                self._conn.send_auth_banner("banner " * 1000)
                sent += 7000
                await asyncio.sleep(0)
            return True

    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Flood,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    async with acceptor:
        error = await failure_of(shells, target_at("127.0.0.1", acceptor.get_port()))
    assert error.reason == Reason.CONNECTION_LOST
    assert "256 KiB" in error.detail


@pytest.mark.parametrize(
    "options",
    [
        {"compression_algs": ["zlib@openssh.com"]},
        {"kex_algs": ["diffie-hellman-group14-sha1"]},
        {"encryption_algs": ["aes128-cbc"]},
        {"signature_algs": ["ssh-rsa"], "host_key_type": "ecdsa-sha2-nistp256"},
    ],
)
async def test_a_server_with_old_algorithms_only_has_none_in_common(
    shells, scripted_server, options
):
    server = await scripted_server(**options)
    target = target_of(server, trust=HostTrust(first_use=True))
    error = await failure_of(shells, target)
    assert error.reason == Reason.NO_COMMON_ALGORITHM
    assert error.reached
    assert server.seen.attempts == []


# Before the greeting


async def test_a_banner_of_the_login_shell_does_no_harm(
    shells, scripted_server, tmp_path
):
    (tmp_path / "rc").write_text(
        "echo Welcome; echo HOSTWATCH; echo HOSTWATCH 1 is coming\n"
        "printf '\\033]0;a title\\007'; head -c 60000 /dev/zero\n"
    )
    server = await scripted_server(  # noqa: S604 - the login shell to test
        shell=("/bin/bash",), environment={"BASH_ENV": str(tmp_path / "rc")}
    )
    assert (await ask(shells, target_of(server))).endswith(" all")


async def test_a_greeting_in_pieces_is_understood(shells, scripted_server):
    async def pieces(process, _command):
        for byte in b"noise\nHOSTWATCH 12\r\n":
            process.stdout.write(bytes([byte]))
            await asyncio.sleep(0.005)
        await process.stdin.read()

    server = await scripted_server(session=pieces)
    assert (await open_shell(shells, target_of(server))).version == 12


async def test_an_echo_of_the_script_is_no_greeting(shells, scripted_server):
    async def echo(process, command):
        process.stdout.write(command.encode().replace(b"\\n", b"\n"))
        await process.stdin.read()

    server = await scripted_server(session=echo)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED


async def test_silence_instead_of_a_greeting_ends_in_time(shells, scripted_server):
    async def silent(process, _command):
        await process.stdin.read()

    server = await scripted_server(session=silent)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED
    assert "no script started within 1 s" in error.detail
    await eventually(lambda: server.open_connections == 0)


async def test_endless_noise_instead_of_a_greeting_is_cut(shells, scripted_server):
    server = await scripted_server(session=flood)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED
    assert "start-up files" in error.detail


async def test_an_account_without_a_shell_is_named(shells, scripted_server):
    server = await scripted_server(shell=NOLOGIN)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED
    assert "exit status 1" in error.detail
    assert "currently not available" not in error.detail


async def test_a_server_that_refuses_a_session_is_named(shells, scripted_server):
    class NoSession(asyncssh.SSHServer):
        def begin_auth(self, username):
            return False

    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=NoSession,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    async with acceptor:
        error = await failure_of(shells, target_at("127.0.0.1", acceptor.get_port()))
    assert error.reason == Reason.COMMAND_FAILED
    assert "started no command" in error.detail


async def test_a_server_that_hangs_up_instead_of_a_session_lost_the_connection(shells):
    class HangUp(asyncssh.SSHServer):
        def connection_made(self, conn):
            self._conn = conn

        def begin_auth(self, username):
            return False

        def session_requested(self):
            self._conn.abort()
            return False

    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=HangUp,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    async with acceptor:
        error = await failure_of(shells, target_at("127.0.0.1", acceptor.get_port()))
    assert error.reason == Reason.CONNECTION_LOST


# Instead of an answer


async def flood(process, _command, *, sent=None):
    while True:
        process.stdout.write(b"x" * 65536)
        await process.stdout.drain()
        if sent is not None:
            sent.append(65536)


async def noise(process, _command):
    """Answer with what is no data: it would fill no buffer and no window."""
    process.stdout.write(GREETING)
    await process.stdin.readline()
    connection = process.get_extra_info("connection")
    while not connection.is_closed():
        connection.send_debug("noise " * 1000)
        await asyncio.sleep(0)


def answering(answer):
    """Return a session that greets and gives ``answer`` of each request's id."""

    async def session(process, _command):
        process.stdout.write(GREETING)
        async for line in process.stdin:
            data = answer(line.split()[1])
            if data is None:
                process.get_extra_info("connection").abort()
                return
            process.stdout.write(data)

    return session


async def test_an_endless_answer_is_cut(shells, scripted_server):
    sent = []

    async def endless(process, command):
        process.stdout.write(GREETING)
        id_ = (await process.stdin.readline()).split()[1]
        process.stdout.write(b"BEGIN %b\n" % id_)
        await flood(process, command, sent=sent)

    server = await scripted_server(session=endless)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.OUTPUT_TOO_LARGE
    await eventually(lambda: server.open_connections == 0)
    # The limit, and what fits into windows and buffers on the way.
    assert SOON.document_bytes - 65536 <= sum(sent) <= SOON.document_bytes + 2**20


async def test_an_answer_of_more_than_the_limit_is_refused(shells, scripted_server):
    server = await scripted_server(
        session=answering(
            lambda id_: b"BEGIN %b\n%b\nEND %b\n" % (id_, b"x" * 262_144, id_)
        )
    )
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.OUTPUT_TOO_LARGE


async def test_packets_without_data_are_bounded_too(shells, scripted_server):
    server = await scripted_server(session=noise)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.OUTPUT_TOO_LARGE
    assert "512 KiB" in error.detail


async def test_silence_instead_of_an_answer_is_the_callers_time_to_end(
    shells, scripted_server
):
    server = await scripted_server(session=answering(lambda _id: b"BEGIN"))
    target = target_of(server)
    shell = await open_shell(shells, target)
    with pytest.raises(TimeoutError):
        await ask(shells, target, within=0.2)
    assert not shell.alive
    await eventually(lambda: server.open_connections == 0)


async def test_half_an_answer_before_the_end_is_a_lost_connection(
    shells, scripted_server
):
    async def half(process, _command):
        process.stdout.write(GREETING)
        id_ = (await process.stdin.readline()).split()[1]
        process.stdout.write(b"BEGIN %b\nhalf" % id_)
        await process.stdout.drain()
        process.get_extra_info("connection").abort()

    server = await scripted_server(session=half)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.CONNECTION_LOST
    assert error.reached


async def test_a_polite_goodbye_instead_of_an_answer_is_a_lost_connection(
    shells, scripted_server
):
    async def goodbye(process, _command):
        process.stdout.write(GREETING)
        await process.stdin.readline()
        process.get_extra_info("connection").disconnect(11, "\x1b[31mserver text")

    server = await scripted_server(session=goodbye)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.CONNECTION_LOST
    assert "server text" not in str(error)


async def test_half_an_answer_with_exit_status_0_is_a_failure(shells, scripted_server):
    async def half(process, _command):
        process.stdout.write(GREETING)
        id_ = (await process.stdin.readline()).split()[1]
        process.stdout.write(b"BEGIN %b\nhalf\n" % id_)
        process.exit(0)

    server = await scripted_server(session=half)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED
    assert "exit status 0" in error.detail


async def test_a_script_that_a_signal_ended_is_named(shells, scripted_server):
    async def killed(process, _command):
        process.stdout.write(GREETING)
        await process.stdin.readline()
        process.exit_with_signal("KILL", msg="\x1b[31mserver text")

    server = await scripted_server(session=killed)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.COMMAND_FAILED
    assert "by a signal" in error.detail
    assert "server text" not in str(error)


async def test_the_end_of_the_output_without_an_exit_is_a_lost_connection(
    shells, scripted_server
):
    async def mute(process, _command):
        process.stdout.write(GREETING)
        await process.stdin.readline()
        process.stdout.write_eof()
        await process.stdin.read()
        await asyncio.sleep(30)

    server = await scripted_server(session=mute)
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.CONNECTION_LOST


async def test_a_script_that_ends_between_two_questions_is_started_anew(
    shells, scripted_server
):
    server = await scripted_server()
    target = target_of(server)
    shell = await open_shell(shells, target)
    with pytest.raises(CollectionError) as raised:
        await shell.ask("top")
    assert raised.value.reason == Reason.COMMAND_FAILED
    assert "exit status 3" in raised.value.detail
    assert (await ask(shells, target)).endswith(" all")
    assert server.seen.connections == 2


async def test_bytes_that_are_no_utf8_break_nothing(shells, scripted_server):
    body = b"/mnt/caf\xe9 \xff\xfe\x00 \xf0\x9f\x98\x80 \xed\xa0\x80"
    server = await scripted_server(
        session=answering(lambda id_: b"BEGIN %b\n%b\nEND %b\n" % (id_, body, id_))
    )
    answer = await ask(shells, target_of(server))
    assert answer == body.decode("utf-8", "replace")
    assert answer.startswith("/mnt/caf\ufffd \ufffd\ufffd\x00 \U0001f600 \ufffd")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"BEGIN %(id)b\nEND %(id)b\n", ""),
        (b"BEGIN %(id)b\n\nEND %(id)b\n", ""),
        (b"BEGIN %(id)b\na\n\nEND %(id)b\n", "a\n"),
        (b"You have mail\nBEGIN %(id)b\na\nEND %(id)b\nmore", "a"),
        (b"BEGIN 0\nold\nEND 0\nBEGIN %(id)b\na\nEND %(id)b\n", "a"),
        (b"BEGIN %(id)b\nEND 0000\nBEGIN 1\n END %(id)b\n\nEND %(id)b\n", None),
    ],
)
async def test_only_what_stands_between_the_marks_of_the_request_counts(
    shells, scripted_server, answer, body
):
    server = await scripted_server(session=answering(lambda i: answer % {b"id": i}))
    got = await ask(shells, target_of(server))
    assert got == ("END 0000\nBEGIN 1\n END " + got[-17:] if body is None else body)


@pytest.mark.parametrize(
    "answer", [b"\nEND %(id)b\n", b"x BEGIN %(id)b\na\nEND %(id)b\n"]
)
async def test_an_end_without_a_beginning_is_unreadable(
    shells, scripted_server, answer
):
    server = await scripted_server(session=answering(lambda i: answer % {b"id": i}))
    error = await failure_of(shells, target_of(server))
    assert error.reason == Reason.OUTPUT_UNREADABLE


async def test_unread_standard_error_never_stalls_the_answers(scripted_server):
    complaint = "x" * 60
    noisy = SCRIPT.replace("all) ", f"all) echo {complaint} >&2; ")
    shells = Shells(LOOPBACK_ALLOWED, script=lambda _interval: noisy)
    try:
        server = await scripted_server()
        shell = await open_shell(shells, target_of(server))
        first = await shell.ask("all")
        for _ in range(2000):
            assert await shell.ask("all") == first
        assert server.seen.sessions == 1
    finally:
        await shells.close_all()


async def test_output_that_nobody_asked_for_is_dropped_and_bounded(
    shells, scripted_server
):
    server = await scripted_server(session=flood_after_greeting)
    shell = await open_shell(shells, target_of(server))
    await eventually(lambda: not shell.alive)
    with pytest.raises(CollectionError) as raised:
        await shell.ask("all")
    assert raised.value.reason == Reason.OUTPUT_TOO_LARGE


async def flood_after_greeting(process, command):
    process.stdout.write(GREETING)
    await flood(process, command)


async def test_a_channel_that_the_server_opens_is_refused(shells, scripted_server):
    refused = []

    async def intrude(process, _command):
        process.stdout.write(GREETING)
        id_ = (await process.stdin.readline()).split()[1]
        connection = process.get_extra_info("connection")
        try:
            await connection.open_connection("127.0.0.1", 22)
        except asyncssh.ChannelOpenError:
            refused.append(True)
        process.stdout.write(b"BEGIN %b\nfine\nEND %b\n" % (id_, id_))
        await process.stdin.read()

    server = await scripted_server(session=intrude)
    assert await ask(shells, target_of(server)) == "fine"
    assert refused == [True]


# Login shells

LOGIN_SHELLS = [
    ("/bin/sh",),
    ("/usr/bin/bash",),
    ("/usr/bin/bash", "--posix"),
    ("/usr/bin/bash", "--restricted"),
    ("/usr/bin/dash",),
    ("/usr/bin/busybox", "ash"),
    ("/usr/bin/fish",),
    ("/usr/bin/tcsh",),
    ("/usr/bin/zsh",),
]


@pytest.mark.parametrize("shell", LOGIN_SHELLS, ids=" ".join)
async def test_any_login_shell_starts_the_script(scripted_server, shell):
    shells = Shells(LOOPBACK_ALLOWED)
    try:
        server = await scripted_server(shell=shell)
        target = target_of(server)
        for _ in range(2):
            assert "MemTotal" in await ask(shells, target)
        assert server.seen.sessions == 1
    finally:
        await shells.close_all()


async def test_servers_that_misbehave_do_not_hold_up_the_others(
    scripted_server, black_hole
):
    async def silent(process, _command):
        await process.stdin.read()

    good, bad = await scripted_server(), await scripted_server(session=silent)
    lost = [
        replace(target_at("127.0.0.1", black_hole), server=server_key(f"lost-{n}"))
        for n in range(10)
    ]
    mute = [target_of(bad, server=server_key(f"mute-{n}")) for n in range(10)]
    limits = Limits(connect_time=5, greeting_time=5)
    shells = Shells(LOOPBACK_ALLOWED, script=lambda _interval: SCRIPT, limits=limits)
    try:
        bad_ones = [asyncio.create_task(failure_of(shells, t)) for t in (*lost, *mute)]
        target = target_of(good)
        for _ in range(20):
            await ask(shells, target)
        assert not any(failed.done() for failed in bad_ones)
        reasons = [(await failed).reason for failed in bad_ones]
        assert reasons == [Reason.CONNECT_TIMEOUT] * 10 + [Reason.COMMAND_FAILED] * 10
    finally:
        await shells.close_all()
