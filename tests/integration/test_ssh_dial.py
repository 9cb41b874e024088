"""From a name to a TCP connection: silent name servers, black holes, many addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace

import pytest

from hostwatch.model.credential import HostTrust
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.destination import DestinationPolicy
from hostwatch.ssh.dial import Candidate, Resolver, dial
from hostwatch.ssh.limits import Limits
from hostwatch.ssh.shells import Shells
from world.targets import (
    LOOPBACK_ALLOWED,
    SCRIPT,
    ask,
    server_key,
    target_at,
    target_of,
)
from world.wait import eventually

SOON = Limits(dns_time=1, connect_time=1, login_time=2, greeting_time=1)


@pytest.fixture
async def shells():
    made = Shells(LOOPBACK_ALLOWED, script=lambda _interval: SCRIPT, limits=SOON)
    yield made
    await made.close_all()


async def failure_of(shells, target):
    with pytest.raises(CollectionError) as raised:
        await ask(shells, target)
    return raised.value


async def test_a_refused_port_is_named(shells, free_port):
    error = await failure_of(shells, target_at("127.0.0.1", free_port))
    assert error.reason == Reason.CONNECTION_REFUSED
    assert not error.reached


async def test_a_black_hole_is_a_connect_timeout(shells, black_hole):
    started = time.monotonic()
    error = await failure_of(shells, target_at("127.0.0.1", black_hole))
    assert error.reason == Reason.CONNECT_TIMEOUT
    assert not error.reached
    assert time.monotonic() - started < SOON.connect_time + 5


async def test_the_next_address_of_a_name_is_tried_while_there_is_time(
    black_hole, free_port
):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        candidates = [
            Candidate(socket.AF_INET, ("127.0.0.1", black_hole)),
            Candidate(socket.AF_INET, ("127.0.0.1", free_port)),
            Candidate(socket.AF_INET, address),
        ]
        with await dial(candidates, time=3) as sock:
            assert sock.getpeername() == address


async def test_the_last_address_of_a_name_tells_why_none_answers(black_hole, free_port):
    candidates = [
        Candidate(socket.AF_INET, ("127.0.0.1", black_hole)),
        Candidate(socket.AF_INET, ("127.0.0.1", free_port)),
    ]
    with pytest.raises(CollectionError) as raised:
        await dial(candidates, time=1)
    assert raised.value.reason == Reason.CONNECTION_REFUSED


@pytest.fixture
def silent_dns(monkeypatch):
    """Let the name servers of some names be silent until the end of the test.

    Gives a list that every look-up of such a name is noted in, and what ends them.
    """
    asked, ended, look_up = [], threading.Event(), socket.getaddrinfo

    def silent(host, *args, **options):
        if not host.endswith(".dead.example"):
            return look_up(host, *args, **options)
        asked.append(host)
        ended.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    yield asked, ended
    ended.set()


async def test_names_whose_dns_is_silent_end_in_time(shells, silent_dns):
    started = time.monotonic()
    error = await failure_of(shells, target_at("web-1.dead.example", 22))
    assert time.monotonic() - started < SOON.dns_time + 5
    assert error.reason == Reason.DNS_FAILED
    assert "no answer from DNS" in error.detail


async def test_silent_names_of_one_namespace_leave_those_of_others_alone(
    shells, scripted_server, silent_dns
):
    asked, ended = silent_dns
    dead = [
        replace(
            target_at(f"web-{n}.dead.example", 22),
            server=server_key(f"web-{n}", "initech"),
        )
        for n in range(200)
    ]
    failing = [asyncio.create_task(failure_of(shells, target)) for target in dead]
    await eventually(lambda: len(asked) == SOON.look_ups_each)
    server = await scripted_server()
    known = f"[localhost]:{server.port} {server.known_hosts.partition(' ')[2]}"
    target = target_of(server, host="localhost", trust=HostTrust(known_hosts=known))
    async with asyncio.timeout(20):  # the deadline of `ask` stands still in queues
        for _ in range(3):
            assert (await ask(shells, target)).endswith(" all")
            await shells.close(target.server.id)
    # Those that were looked up have failed by now or soon will, but their threads
    # are not free; the time of the others has not begun.
    await eventually(lambda: sum(f.done() for f in failing) == SOON.look_ups_each)
    assert (await ask(shells, target)).endswith(" all")
    assert len(asked) == SOON.look_ups_each
    ended.set()
    assert {(await failed).reason for failed in failing} == {Reason.DNS_FAILED}
    assert len(asked) == len(dead)


async def test_a_numeric_address_waits_for_no_name(scripted_server, silent_dns):
    asked, ended = silent_dns
    limits = replace(SOON, look_ups=1)
    shells = Shells(LOOPBACK_ALLOWED, script=lambda _interval: SCRIPT, limits=limits)
    try:
        silent = target_at("web-1.dead.example", 22)
        failing = asyncio.create_task(failure_of(shells, silent))
        await eventually(lambda: asked)
        server = await scripted_server()
        target = target_of(server, server=server_key("web-2"))
        assert (await ask(shells, target)).endswith(" all")
        ended.set()
        assert (await failing).reason == Reason.DNS_FAILED
    finally:
        await shells.close_all()


async def test_only_the_allowed_addresses_of_a_name_are_dialled(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 22, 0, 2)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 22)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 22)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 22)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    resolver = Resolver(DestinationPolicy(), SOON)
    try:
        async with asyncio.timeout(20) as deadline:
            candidates = await resolver.resolve(
                "rebinding.example.com", 22, namespace="acme", deadline=deadline
            )
    finally:
        resolver.close()
    assert candidates == [Candidate(socket.AF_INET, ("10.0.0.7", 22))]


async def test_a_name_that_does_not_exist_is_a_dns_failure(shells):
    error = await failure_of(shells, target_at("no-such-host.invalid", 22))
    assert error.reason == Reason.DNS_FAILED
    assert not error.reached


@pytest.mark.parametrize("name", ["a" * 300, "a..b", "\udc80"])
async def test_a_name_that_no_resolver_takes_is_refused(shells, name):
    error = await failure_of(shells, target_at(name, 22))
    assert error.reason in (Reason.DNS_FAILED, Reason.INVALID_SPEC)
