"""The components that other tests stand on are real and can be broken."""

from __future__ import annotations

import asyncio
import json

import asyncssh
import nats as nats_client
import psycopg
import pytest

from world.nats import Nats, NatsUser, organization_user
from world.postgres import Postgres
from world.process import ComponentError, Process
from world.proxy import TcpProxy
from world.scripted import raw_server
from world.sshd import OpenSSH
from world.wait import eventually

WITHIN = 20


def connect(server, **options):
    return asyncssh.connect(
        server.host,
        server.port,
        username=getattr(server, "user", "hostwatch"),
        client_keys=[asyncssh.import_private_key(server.private_key)],
        known_hosts=asyncssh.import_known_hosts(server.known_hosts + "\n"),
        config=[],
        agent_path=None,
        login_timeout=WITHIN,
        **options,
    )


def test_the_api_server_is_a_real_one_of_its_release(control_plane):
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.37.2"


def test_a_namespace_carries_its_organization(control_plane, namespace, organization):
    shown = json.loads(
        control_plane.kubectl("get", "namespace", namespace, "-o", "json")
    )
    assert shown["metadata"]["labels"]["hostwatch.dev/organization"] == organization


def test_a_credential_secret_has_the_type_of_its_content(
    control_plane, namespace, credential_secret
):
    credential_secret("web", ssh_privatekey="key", known_hosts="host key")
    shown = json.loads(
        control_plane.kubectl("get", "secret", "web", "-n", namespace, "-o", "json")
    )
    assert shown["type"] == "kubernetes.io/ssh-auth"
    assert sorted(shown["data"]) == ["known_hosts", "ssh-privatekey"]
    assert shown["metadata"]["labels"] == {"hostwatch.dev/ssh-credential": "true"}


def test_a_service_account_may_only_what_its_roles_allow(control_plane, namespace):
    control_plane.kubectl("create", "serviceaccount", "guest", "-n", namespace)
    kubeconfig = control_plane.kubeconfig_for(
        control_plane.token(namespace, "guest"), namespace=namespace
    )
    answer = control_plane.kubectl(
        f"--kubeconfig={kubeconfig}", "get", "secrets", check=False
    )
    assert "is forbidden" in answer


def test_the_api_server_comes_back_with_its_data(control_plane, namespace):
    control_plane.stop_api()
    with pytest.raises(ComponentError, match="refused"):
        control_plane.kubectl("get", "namespace", namespace)
    control_plane.start_api()
    assert namespace in control_plane.kubectl("get", "namespaces")


def test_a_database_is_empty_and_answers(database):
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM information_schema.tables"
            " WHERE table_schema = 'public'"
        ).fetchone()
    assert row == (0,)


def test_postgres_keeps_port_and_data_over_a_crash(tmp_path):
    with Postgres(tmp_path) as postgres:
        with psycopg.connect(postgres.dsn()) as connection:
            connection.execute("CREATE TABLE kept (x int)")
        postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgres.dsn())
        postgres.start()
        with psycopg.connect(postgres.dsn()) as connection:
            assert connection.execute("SELECT * FROM kept").fetchall() == []


async def test_a_message_goes_round_through_nats(nats):
    client = await nats_client.connect(nats.url)
    try:
        subscription = await client.subscribe("hostwatch.test.>")
        await client.publish("hostwatch.test.a", b"hello")
        message = await subscription.next_msg(timeout=WITHIN)
        assert (message.subject, message.data) == ("hostwatch.test.a", b"hello")
    finally:
        await client.close()


async def test_a_stream_outlives_a_restart_of_nats(tmp_path):
    with Nats(tmp_path) as server:
        client = await nats_client.connect(server.url)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"1")
        await client.close()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        server.start()
        client = await nats_client.connect(server.url)
        info = await client.jetstream().stream_info("KEPT")
        assert info.state.messages == 1
        await client.close()


async def test_a_member_of_an_organization_may_not_publish(tmp_path):
    refused = []

    async def on_error(error):
        refused.append(str(error))

    users = [NatsUser(name="operator", password="o"), organization_user("acme", "a")]
    with Nats(tmp_path, users=users) as server:
        client = await nats_client.connect(
            server.url_for("acme", "a"), error_cb=on_error
        )
        await client.publish("hostwatch.acme.alerts.n.s", b"forged")
        await eventually(lambda: refused)
        await client.close()
    assert "permissions violation" in refused[0].lower()


async def test_the_real_sshd_runs_a_command(openssh):
    async with connect(openssh) as connection:
        done = await connection.run("echo $((6 * 7))", check=True)
    assert done.stdout == "42\n"


async def test_a_forced_command_replaces_what_was_asked(tmp_path):
    with OpenSSH(tmp_path, prefix='restrict,command="echo forced"') as server:
        async with connect(server) as connection:
            done = await connection.run("echo asked", check=True)
    assert done.stdout == "forced\n"


async def test_a_changed_host_key_is_presented_on_the_same_port(tmp_path):
    with OpenSSH(tmp_path) as server:
        before = server.known_hosts
        server.change_host_key()
        port, fingerprint = server.port, server.fingerprint
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await asyncssh.connect(
                server.host,
                port,
                known_hosts=asyncssh.import_known_hosts(before + "\n"),
                config=[],
            )
        async with connect(server) as connection:
            assert connection.get_server_host_key().get_fingerprint() == fingerprint


@pytest.mark.parametrize(
    "shell",
    [
        ("/bin/sh",),
        ("bash",),
        ("dash",),
        ("busybox", "sh"),
        ("tcsh",),
        ("fish",),
        ("zsh",),
        ("mksh",),
    ],
    ids=" ".join,
)
async def test_the_scripted_server_runs_any_login_shell(scripted_server, shell):
    server = await scripted_server(shell=shell)
    async with connect(server) as connection:
        done = await connection.run("sh -c 'read -r x; echo got $x'", input="it\n")
    assert (done.stdout, done.exit_status) == ("got it\n", 0)
    assert server.seen.commands == ["sh -c 'read -r x; echo got $x'"]
    assert (server.seen.bytes_received, server.seen.bytes_sent) == (3, 7)


async def test_the_scripted_server_says_what_a_test_wrote(scripted_server):
    async def greet_wrongly(process, command):
        process.stdout.write(b"\xff" + command.encode())
        process.exit(3)

    server = await scripted_server(session=greet_wrongly)
    async with connect(server) as connection:
        done = await connection.run("hello", encoding=None)
    assert (done.stdout, done.exit_status) == (b"\xffhello", 3)


async def test_the_scripted_server_tells_the_passwords_it_saw(scripted_server):
    server = await scripted_server(user_keys=(), password="right")
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(server, password="wrong")
    async with connect(server, password="right") as connection:
        assert server.open_connections == 1
        await connection.run("true", check=True)
    assert server.seen.passwords == ["wrong", "right"]
    assert server.seen.connections == 2


async def test_a_cut_connection_ends_its_session(scripted_server):
    server = await scripted_server()
    async with connect(server) as connection:
        process = await connection.create_process("sleep 600")
        await eventually(lambda: server.seen.sessions)
        await server.close_connections()
        await connection.wait_closed()
        assert process.exit_status is None
    assert server.open_connections == 0


async def test_a_flood_that_nobody_reads_ends_with_the_server(scripted_server):
    server = await scripted_server()
    async with connect(server) as connection:
        await connection.create_process("while :; do echo flood; done")
        await eventually(lambda: server.seen.bytes_sent)
        await server.stop()
    assert server.open_connections == 0


async def test_a_raw_server_stays_silent():
    async def say_nothing(reader, writer):
        await asyncio.Event().wait()

    async with raw_server(say_nothing) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.close()


async def test_the_proxy_passes_swallows_and_passes_again():
    async with (
        raw_server(_echo) as (host, port),
        TcpProxy(host, port) as proxy,
    ):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"1")
        assert await asyncio.wait_for(reader.read(9), WITHIN) == b"1"
        proxy.pause()
        writer.write(b"2")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(9), 0.2)
        await proxy.resume()
        assert await asyncio.wait_for(reader.read(9), WITHIN) == b"2"
        writer.close()


async def test_the_proxy_resets_and_refuses():
    async with (
        raw_server(_echo) as (host, port),
        TcpProxy(host, port) as proxy,
    ):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        await eventually(lambda: proxy.open_connections == 1)
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), WITHIN)
        writer.close()
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        await proxy.resume()
        _, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.close()


def test_a_component_that_does_not_come_up_shows_its_log(tmp_path):
    broken = Process(
        "broken", ["sh", "-c", "echo no such disk; exit 3"], directory=tmp_path
    )
    with pytest.raises(ComponentError, match=r"(?s)code 3.*no such disk"):
        broken.start(lambda: False)


async def _echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
