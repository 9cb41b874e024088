"""Shells over real connections: kept, renewed, closed, and never mixed up."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from dataclasses import replace
from ipaddress import ip_network

import asyncssh
import psutil
import pytest

from hostwatch.model.credential import Credential, HostTrust
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.settings import SshSettings
from hostwatch.ssh.limits import Limits
from hostwatch.ssh.options import prepare
from hostwatch.ssh.shells import Shells
from world.proxy import TcpProxy
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


def script(_interval):
    return SCRIPT


@pytest.fixture
async def shells():
    made = Shells(LOOPBACK_ALLOWED, script=script)
    yield made
    await made.close_all()


async def failure_of(shells, target, **options):
    with pytest.raises(CollectionError) as raised:
        await ask(shells, target, **options)
    return raised.value


async def test_fifty_answers_come_over_one_connection_and_one_session(
    shells, scripted_server
):
    server = await scripted_server()
    target = target_of(server)
    answers = [await ask(shells, target) for _ in range(50)]
    assert len(set(answers)) == 1
    assert answers[0].split()[1] == "all"
    assert server.seen.connections == 1
    assert server.seen.sessions == 1
    assert server.seen.commands == [SCRIPT]


async def test_openssh_answers(shells, openssh):
    target = target_of(openssh)
    first, second = [await ask(shells, target) for _ in range(2)]
    assert first == second
    shell = await open_shell(shells, target)
    assert shell.host_key == openssh.fingerprint
    assert shell.version == 1


async def test_the_real_script_answers_over_openssh(openssh):
    shells = Shells(LOOPBACK_ALLOWED)
    try:
        target = target_of(openssh)
        for _ in range(2):
            assert "MemTotal" in await ask(shells, target)
    finally:
        await shells.close_all()


async def test_the_script_also_runs_as_a_forced_command(shells, tmp_path):
    command = SCRIPT.replace('"', '\\"')
    with OpenSSH(tmp_path, prefix=f'restrict,command="{command}"') as sshd:
        assert (await ask(shells, target_of(sshd))).endswith(" all")


async def test_answers_are_ever_so_long_but_not_longer(scripted_server):
    async def answer(process, _command):
        process.stdout.write(b"HOSTWATCH 7\n")
        word, id_ = (await process.stdin.readline()).split()
        assert word == b"all"
        process.stdout.write(b"BEGIN %b\n%b\nEND %b\n" % (id_, b"x" * 200_000, id_))
        await process.stdin.read()

    server = await scripted_server(session=answer)
    shells = Shells(LOOPBACK_ALLOWED, script=script)
    try:
        shell = await open_shell(shells, target_of(server))
        assert shell.version == 7
        assert await shell.ask("all") == "x" * 200_000
    finally:
        await shells.close_all()


async def test_two_opens_at_once_share_one_connection(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server)
    one, other = await asyncio.gather(
        open_shell(shells, target), open_shell(shells, target)
    )
    assert one is other
    assert server.seen.connections == 1
    answers = await asyncio.gather(*(one.ask("all") for _ in range(5)))
    assert len(set(answers)) == 1


async def test_two_servers_have_a_connection_each(shells, scripted_server):
    server = await scripted_server()
    await ask(shells, target_of(server))
    await ask(shells, target_of(server, server=server_key("web-2")))
    assert server.open_connections == 2


async def test_a_changed_secret_takes_a_new_connection_and_ends_the_old(
    shells, scripted_server
):
    server = await scripted_server()
    target = target_of(server)
    old = await open_shell(shells, target)
    changed = replace(target, credential=replace(target.credential, version="2"))
    new = await open_shell(shells, changed)
    assert new is not old
    assert not old.alive
    await eventually(lambda: server.open_connections == 1)
    assert server.seen.connections == 2
    with pytest.raises(CollectionError) as raised:
        await old.ask("all")
    assert raised.value.reason == Reason.CONNECTION_LOST


async def test_a_connection_per_collection_is_not_used_twice(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server, persistent=False)
    for _ in range(3):
        await ask(shells, target)
        await shells.close(target.server.id)
        await eventually(lambda: server.open_connections == 0)
    assert server.seen.connections == 3
    await ask(shells, target)
    await ask(shells, target)
    assert server.seen.connections == 5


async def test_a_key_that_was_pinned_after_the_first_use_keeps_its_connection(
    shells, scripted_server
):
    server = await scripted_server()
    first = target_of(server, trust=HostTrust(first_use=True))
    shell = await open_shell(shells, first)
    pinned = replace(first, trust=HostTrust(pin=shell.host_key))
    assert await open_shell(shells, pinned) is shell
    assert await open_shell(shells, pinned) is shell
    assert server.seen.connections == 1


async def test_a_connection_is_renewed_when_its_time_is_over(scripted_server):
    server = await scripted_server()
    shells = Shells(LOOPBACK_ALLOWED, script=script, limits=Limits(lifetime=0))
    try:
        target = target_of(server)
        for _ in range(3):
            await ask(shells, target)
        await eventually(lambda: server.open_connections == 1)
        assert server.seen.connections == 3
    finally:
        await shells.close_all()


async def test_a_connection_ends_with_its_certificate(shells, scripted_server):
    authority = asyncssh.generate_private_key("ssh-ed25519")
    server = await scripted_server()
    public = server.user_key.convert_to_public()

    def certified(**times):
        made = authority.generate_user_certificate(public, "id", **times)
        secret = target_of(server).credential
        return target_of(
            server, credential=replace(secret, certificate=made.export_certificate())
        )

    # The server does not know the authority, but it knows the key itself.
    target = certified(valid_after=0, valid_before="+2s")
    shell = await open_shell(shells, target)
    assert await open_shell(shells, target) is shell
    await eventually(lambda: not shell.login.holds)
    error = await failure_of(shells, target)
    assert error.reason == Reason.SECRET_INVALID
    assert "expired" in error.detail
    assert not shell.alive


async def test_a_server_that_restarted_is_connected_to_anew(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server)
    shell = await open_shell(shells, target)
    await server.stop()
    await eventually(lambda: not shell.alive)
    assert (await failure_of(shells, target)).reason == Reason.CONNECTION_REFUSED
    await server.start()
    assert (await ask(shells, target)).endswith(" all")


async def test_close_ends_the_connection_and_may_find_nothing(shells, scripted_server):
    server = await scripted_server()
    target = target_of(server)
    await shells.close(target.server.id)
    await ask(shells, target)
    await shells.close(target.server.id)
    await eventually(lambda: server.open_connections == 0)
    await shells.close(target.server.id)


async def test_close_all_leaves_nothing_open(scripted_server):
    server = await scripted_server()
    shells = Shells(LOOPBACK_ALLOWED, script=script)
    for number in range(5):
        await ask(shells, target_of(server, server=server_key(f"web-{number}")))
    assert server.open_connections == 5
    await shells.close_all()
    await eventually(lambda: server.open_connections == 0)


async def test_what_is_opened_while_it_is_closed_does_not_stay(scripted_server):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(process, _command):
        reached.set()
        await go_on.wait()
        process.stdout.write(b"HOSTWATCH 1\n")
        await process.stdin.read()

    server = await scripted_server(session=slow)
    shells = Shells(LOOPBACK_ALLOWED, script=script)
    opening = asyncio.create_task(open_shell(shells, target_of(server)))
    await reached.wait()
    await shells.close(target_of(server).server.id)
    go_on.set()
    with pytest.raises(CollectionError) as raised:
        await opening
    assert raised.value.reason == Reason.CONNECTION_LOST
    await eventually(lambda: server.open_connections == 0)
    await shells.close_all()


@pytest.mark.parametrize("moment", [0, 0.001, 0.003, 0.01, 0.03, 0.1])
async def test_a_cancelled_open_leaves_nothing_behind(scripted_server, moment):
    server = await scripted_server()
    shells = Shells(LOOPBACK_ALLOWED, script=script, limits=Limits(handshakes=1))
    try:
        target = target_of(server)
        before = psutil.Process().num_fds()
        for _ in range(5):
            opening = asyncio.create_task(open_shell(shells, target))
            await asyncio.sleep(moment)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await shells.close(target.server.id)
        await eventually(lambda: server.open_connections == 0)
        await eventually(lambda: psutil.Process().num_fds() <= before)
        # No place was lost either.
        assert (await ask(shells, target)).endswith(" all")
    finally:
        await shells.close_all()


async def test_a_cancelled_question_closes_the_shell(shells, scripted_server):
    asked = asyncio.Event()

    async def silent(process, _command):
        process.stdout.write(b"HOSTWATCH 1\n")
        await process.stdin.readline()
        asked.set()
        await process.stdin.read()

    server = await scripted_server(session=silent)
    target = target_of(server)
    shell = await open_shell(shells, target)
    question = asyncio.create_task(shell.ask("all"))
    await asked.wait()
    question.cancel()
    await asyncio.gather(question, return_exceptions=True)
    assert not shell.alive
    await eventually(lambda: server.open_connections == 0)
    assert await open_shell(shells, target) is not shell


async def test_a_late_answer_never_meets_the_next_question(shells, scripted_server):
    first = True

    async def late(process, _command):
        nonlocal first
        process.stdout.write(b"HOSTWATCH 1\n")
        async for line in process.stdin:
            id_ = line.split()[1]
            if first:
                first = False
                await asyncio.sleep(0.5)
                process.stdout.write(b"BEGIN %b\nold\nEND %b\n" % (id_, id_))
            process.stdout.write(b"BEGIN %b\nnew\nEND %b\n" % (id_, id_))

    server = await scripted_server(session=late)
    target = target_of(server)
    with pytest.raises(TimeoutError):
        await ask(shells, target, within=0.3)
    assert await ask(shells, target) == "new"


async def test_a_place_in_the_queue_costs_no_time_of_the_deadline(scripted_server):
    server = await scripted_server()
    limits = Limits(handshakes=1, login_time=1)
    shells = Shells(LOOPBACK_ALLOWED, script=script, limits=limits)
    try:
        async with TcpProxy(server.host, server.port) as proxy:
            proxy.pause()
            silent = target_of(server, server=server_key("web-2"), port=proxy.port)
            first = asyncio.create_task(failure_of(shells, silent))
            await eventually(lambda: proxy.open_connections == 1)
            assert (await ask(shells, target_of(server), within=0.9)).endswith(" all")
            assert (await first).reason == Reason.CONNECT_TIMEOUT
    finally:
        await shells.close_all()


async def test_a_dead_peer_is_noticed_and_the_next_open_connects_anew(
    shells, scripted_server
):
    server = await scripted_server()
    async with TcpProxy(server.host, server.port) as proxy:
        target = target_of(
            server, port=proxy.port, trust=HostTrust(pin=server.fingerprint)
        )
        shell = await open_shell(shells, target)
        await proxy.cut()
        await eventually(lambda: not shell.alive)
        assert (await ask(shells, target)).endswith(" all")
        assert server.seen.connections == 2


async def test_a_connection_that_nobody_uses_notices_a_dead_peer_by_itself(
    scripted_server,
):
    server = await scripted_server()
    limits = Limits()
    shells = Shells(LOOPBACK_ALLOWED, script=script, limits=limits)
    try:
        async with TcpProxy(server.host, server.port) as proxy:
            # Asked for a sign of life six seconds after the last byte, then twice more.
            target = target_of(
                server,
                port=proxy.port,
                interval=1,
                trust=HostTrust(pin=server.fingerprint),
            )
            shell = await open_shell(shells, target)
            proxy.pause()
            await eventually(lambda: not shell.alive, within=40)
    finally:
        await shells.close_all()


async def test_a_user_id_without_a_name_may_connect(
    monkeypatch, shells, scripted_server
):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    prepare()
    assert os.environ["USER"] == "hostwatch"
    server = await scripted_server()
    assert (await ask(shells, target_of(server))).endswith(" all")


async def test_a_log_of_the_library_names_no_host(caplog, shells, scripted_server):
    caplog.set_level(logging.INFO)
    server = await scripted_server()
    await ask(shells, target_of(server, user="very-secret-name"))
    assert "very-secret-name" not in caplog.text


async def test_a_password_logs_in_where_the_key_is_known(shells, scripted_server):
    server = await scripted_server(password="open sesame", user_keys=())
    secret = Credential("1", password="open sesame")
    assert (await ask(shells, target_of(server, credential=secret))).endswith(" all")
    assert server.seen.passwords == ["open sesame"]


async def test_a_certificate_logs_in(shells, scripted_server):
    authority = asyncssh.generate_private_key("ssh-ed25519")
    key = asyncssh.generate_private_key("ssh-ed25519")
    line = authority.export_public_key("openssh").decode().strip()

    server = await scripted_server(
        authorized_client_keys=asyncssh.import_authorized_keys(f"cert-authority {line}")
    )
    certificate = authority.generate_user_certificate(
        key.convert_to_public(), "id", principals=["hostwatch"]
    )
    secret = Credential(
        "1",
        private_key=key.export_private_key("openssh"),
        certificate=certificate.export_certificate(),
    )
    assert (await ask(shells, target_of(server, credential=secret))).endswith(" all")


async def test_an_encrypted_key_logs_in(shells, scripted_server):
    server = await scripted_server()
    text = server.user_key.export_private_key("openssh", passphrase="x", rounds=64)
    secret = Credential("1", private_key=text, passphrase=b"x")
    assert (await ask(shells, target_of(server, credential=secret))).endswith(" all")


async def test_a_forbidden_destination_is_never_dialled(scripted_server):
    server = await scripted_server()
    for settings in (
        SshSettings(),
        SshSettings(allowed_destinations=(ip_network("0.0.0.0/0"),)),
        SshSettings(
            allowed_destinations=LOOPBACK_ALLOWED.allowed_destinations,
            allowed_ports="22",
        ),
    ):
        shells = Shells(settings, script=script)
        try:
            for host in (server.host, "localhost", "2130706433", "0x7f.1", "127.1"):
                error = await failure_of(shells, target_of(server, host=host))
                assert error.reason == Reason.DESTINATION_FORBIDDEN
                assert not error.reached
        finally:
            await shells.close_all()
    assert server.seen.connections == 0


async def test_a_name_is_matched_as_written_and_its_address_dialled(
    shells, scripted_server
):
    server = await scripted_server()
    public = server.known_hosts.partition(" ")[2]
    lines = f"[localhost]:{server.port} {public}"
    target = target_of(server, host="LocalHost", trust=HostTrust(known_hosts=lines))
    assert (await ask(shells, target)).endswith(" all")
    by_address = HostTrust(known_hosts=f"[127.0.0.1]:{server.port} {public}")
    error = await failure_of(shells, replace(target, trust=by_address))
    assert error.reason == Reason.HOST_KEY_UNKNOWN
