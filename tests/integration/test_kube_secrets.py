"""Secrets of the real API server, read with the rights of a ServiceAccount."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from hostwatch.kube.client import KubeClient
from hostwatch.kube.login import Login
from hostwatch.kube.secrets import SecretPace, Secrets
from hostwatch.model.reason import CollectionError, Reason, TryAgainLaterError
from world.kubeapi import CountingMeter, FaultyApi
from world.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from world.controlplane import ControlPlane

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def meter():
    return CountingMeter()


@pytest.fixture
async def api(control_plane: ControlPlane):
    async with FaultyApi(control_plane) as api:
        yield api


@pytest.fixture
async def client(api: FaultyApi, meter: CountingMeter, tmp_path):
    login = Login(kubeconfig=str(api.write_kubeconfig(tmp_path / "kubeconfig")))
    client = KubeClient(meter=meter, login=login, timeout=5)
    await client.open()
    yield client
    await client.close()


@pytest.fixture
async def make(client, meter):
    """Give a maker of `Secrets`, which are closed with the test."""
    made = []

    async def open_(**pace: float) -> Secrets:
        secrets = Secrets(client, meter=meter, pace=SecretPace(**pace))
        await secrets.open()
        made.append(secrets)
        return secrets

    yield open_
    for secrets in made:
        await secrets.close()


async def reason_of(secrets: Secrets, namespace: str, name: str) -> tuple[Reason, str]:
    with pytest.raises(CollectionError) as failed:
        await secrets.get(namespace, name)
    return failed.value.reason, failed.value.detail


async def test_a_key_is_read_and_kept(
    make, api, meter, namespace, credential_secret: Callable[..., str]
):
    credential_secret("web", ssh_privatekey=KEY, known_hosts="web-1 ssh-ed25519 AAAA")
    secrets = await make()
    first = await secrets.get(namespace, "web")
    assert (first.private_key, first.known_hosts) == (
        KEY.encode(),
        "web-1 ssh-ed25519 AAAA",
    )
    assert await secrets.get(namespace, "web") is first
    assert api.requests == [f"GET /api/v1/namespaces/{namespace}/secrets/web"]
    assert meter.secrets == 1


async def test_a_password_is_read(make, namespace, credential_secret):
    credential_secret("web", username="x", password="hunter2\n")
    secrets = await make()
    assert (await secrets.get(namespace, "web")).password == "hunter2"


async def test_a_secret_without_the_label_is_forbidden(
    make, namespace, credential_secret
):
    credential_secret("web", labelled=False, password="hunter2")
    reason, detail = await reason_of(await make(), namespace, "web")
    assert reason is Reason.SECRET_FORBIDDEN
    assert 'needs the label hostwatch.dev/ssh-credential: "true"' in detail


async def test_a_secret_of_another_type_is_invalid(make, control_plane, namespace):
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "web",
            "namespace": namespace,
            "labels": {"hostwatch.dev/ssh-credential": "true"},
        },
        "type": "acme.example/other",
        "stringData": {"password": "hunter2"},
    }
    control_plane.apply(json.dumps(document))
    reason, detail = await reason_of(await make(), namespace, "web")
    assert reason is Reason.SECRET_INVALID
    assert "must be of one of the types" in detail


async def test_a_missing_secret_is_told_and_found_once_it_is_there(
    make, api, namespace, credential_secret
):
    secrets = await make(failure=0.2)
    assert await reason_of(secrets, namespace, "web") == (
        Reason.SECRET_NOT_FOUND,
        "Secret web is not there: create it",
    )
    await reason_of(secrets, namespace, "web")
    assert len(api.requests) == 1
    credential_secret("web", password="hunter2")
    await asyncio.sleep(0.2)
    assert (await secrets.get(namespace, "web")).password == "hunter2"


@pytest.fixture
def reader(control_plane: ControlPlane, namespace: str):
    """Make a ServiceAccount; it gets the right to read Secrets when called."""
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)

    def grant() -> None:
        control_plane.kubectl(
            *("create", "role", "reader", "-n", namespace),
            *("--verb=get", "--resource=secrets"),
        )
        control_plane.kubectl(
            *("create", "rolebinding", "reader", "-n", namespace, "--role=reader"),
            f"--serviceaccount={namespace}:reader",
        )

    return grant


async def test_the_verb_get_alone_is_needed_and_its_lack_is_told(
    control_plane, namespace, credential_secret, reader, meter
):
    credential_secret("web", password="hunter2")
    path = control_plane.kubeconfig_for(control_plane.token(namespace, "reader"))
    client = KubeClient(meter=meter, login=Login(kubeconfig=str(path)))
    await client.open()
    secrets = Secrets(client, meter=meter, pace=SecretPace(failure=0))
    await secrets.open()

    reason, detail = await reason_of(secrets, namespace, "web")
    assert reason is Reason.SECRET_FORBIDDEN
    assert detail == (
        f"the operator may not read Secrets in namespace {namespace}: grant its "
        "ServiceAccount the verb get on Secrets there"
    )

    reader()
    async with asyncio.timeout(30):
        while True:
            try:
                credential = await secrets.get(namespace, "web")
            except CollectionError:
                await asyncio.sleep(0.05)
            else:
                break
    assert credential.password == "hunter2"
    await secrets.close()
    await client.close()


async def test_many_who_ask_at_once_share_one_request(
    make, api, namespace, credential_secret
):
    credential_secret("web", password="hunter2")
    secrets = await make()
    got = await asyncio.gather(*(secrets.get(namespace, "web") for _ in range(50)))
    assert len({id(credential) for credential in got}) == 1
    assert len(api.requests) == 1


async def test_one_who_gives_up_does_not_take_the_request_from_others(
    make, api, namespace, credential_secret
):
    credential_secret("web", password="hunter2")
    secrets = await make()
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def hold(_) -> None:
        arrived.set()
        await gate.wait()

    api.before = hold
    first = asyncio.create_task(secrets.get(namespace, "web"), name="first")
    second = asyncio.create_task(secrets.get(namespace, "web"), name="second")
    await arrived.wait()
    first.cancel()
    gate.set()
    assert (await second).password == "hunter2"
    assert len(api.requests) == 1


async def test_a_changed_secret_is_a_new_credential_and_an_unchanged_one_is_not(
    make, api, namespace, credential_secret, control_plane
):
    credential_secret("web", password="one")
    secrets = await make(reread=0.1, tick=0.02)
    first = await secrets.get(namespace, "web")
    control_plane.kubectl("annotate", "secret", "web", "-n", namespace, "a=b")
    seen = len(api.requests)
    await eventually(lambda: len(api.requests) >= seen + 2)
    assert await secrets.get(namespace, "web") is first

    credential_secret("web", password="two")
    seen = len(api.requests)
    await eventually(lambda: len(api.requests) >= seen + 3)
    second = await secrets.get(namespace, "web")
    assert second.password == "two"
    assert second.version != first.version
    assert {request.split()[0] for request in api.requests} == {"GET"}
    assert all(request.endswith("/secrets/web") for request in api.requests)


async def test_a_deleted_secret_is_noticed(
    make, api, namespace, credential_secret, control_plane
):
    credential_secret("web", password="one")
    secrets = await make(reread=0.1, tick=0.02)
    await secrets.get(namespace, "web")
    control_plane.kubectl("delete", "secret", "web", "-n", namespace)
    seen = len(api.requests)
    await eventually(lambda: len(api.requests) >= seen + 3)
    reason, _ = await reason_of(secrets, namespace, "web")
    assert reason is Reason.SECRET_NOT_FOUND


async def test_a_refused_secret_is_read_at_once_and_then_seldom(
    make, api, namespace, credential_secret
):
    credential_secret("web", password="one")
    secrets = await make()
    await secrets.get(namespace, "web")
    credential_secret("web", password="two")
    secrets.forget(namespace, "web")
    assert (await secrets.get(namespace, "web")).password == "two"
    for _ in range(5):
        secrets.forget(namespace, "web")
        await secrets.get(namespace, "web")
    assert len(api.requests) == 2
    secrets.forget(namespace, "never asked for")


async def test_a_refusal_is_not_forgotten_while_the_secret_may_not_be_read(
    make, api, namespace, credential_secret
):
    credential_secret("web", password="one")
    secrets = await make(forget=0.3)
    for _ in range(2):
        secrets.forget(namespace, "web")
        await secrets.get(namespace, "web")
    secrets.forget(namespace, "web")
    await secrets.get(namespace, "web")
    assert len(api.requests) == 2
    await asyncio.sleep(0.3)
    await secrets.get(namespace, "web")
    assert len(api.requests) == 3


async def test_while_the_api_is_away_what_is_cached_stays_in_use(
    make, api, namespace, credential_secret
):
    credential_secret("web", password="one")
    secrets = await make(reread=0.1, tick=0.02, failure=0)
    first = await secrets.get(namespace, "web")
    await reason_of(secrets, namespace, "nowhere")
    await api.stop()
    secrets.forget(namespace, "web")
    assert await secrets.get(namespace, "web") is first
    for name in ("other", "nowhere"):
        with pytest.raises(TryAgainLaterError):
            await secrets.get(namespace, name)
    await api.start()
    reason, _ = await reason_of(secrets, namespace, "other")
    assert reason is Reason.SECRET_NOT_FOUND


async def test_what_nobody_asks_for_leaves_the_cache(
    make, meter, namespace, credential_secret
):
    credential_secret("web", password="one")
    secrets = await make(reread=0.1, tick=0.02, unused=0.2)
    await secrets.get(namespace, "web")
    await eventually(lambda: meter.secrets == 0)
    assert (await secrets.get(namespace, "web")).password == "one"


async def test_a_closed_cache_has_no_answer(client, meter, namespace):
    secrets = Secrets(client, meter=meter)
    await secrets.open()
    await secrets.close()
    with pytest.raises(TryAgainLaterError):
        await secrets.get(namespace, "web")


def test_the_pace_follows_the_number_of_secrets():
    assert SecretPace().period(10) == 55
    assert SecretPace().period(1100) == 55
    assert SecretPace().period(12_000) == 600
