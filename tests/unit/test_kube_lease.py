"""The Lease as a value, and the election in virtual time on an API in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from hostwatch.kube.client import ApiAwayError, ApiRefusedError
from hostwatch.kube.elector import Elector, Term, unique_identity
from hostwatch.kube.lease import Lease, Record, Sight, lease_body, micro_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

GRANT = (
    "Grant the verbs get, create and update on leases.coordination.k8s.io "
    "in this namespace"
)
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def body(holder: str | None = "a", **spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "shard", "resourceVersion": "7"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, **spec},
    }


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (NOW, "2026-11-23T10:00:00.000000Z"),
        (NOW + timedelta(microseconds=1500), "2026-11-23T10:00:00.001500Z"),
        (
            NOW.astimezone(timezone(timedelta(hours=-5))),
            "2026-11-23T10:00:00.000000Z",
        ),
    ],
)
def test_times_are_written_in_utc_with_six_decimals(when, text):
    assert micro_time(when) == text


def test_a_record_is_written_and_released():
    record = Record(holder="a", duration=2.5, acquired=NOW, transitions=4)
    later = NOW + timedelta(seconds=2)
    assert record.spec(later) == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 3,
        "acquireTime": "2026-11-23T10:00:00.000000Z",
        "renewTime": "2026-11-23T10:00:02.000000Z",
        "leaseTransitions": 4,
    }
    assert record.released(later) == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": "2026-11-23T10:00:00.000000Z",
        "renewTime": "2026-11-23T10:00:02.000000Z",
        "leaseTransitions": 4,
    }


def test_a_stored_lease_keeps_what_others_wrote_beside_the_spec():
    stored = Lease({"uid": "u", "resourceVersion": "7", "labels": {"a": "b"}}, {})
    assert lease_body("ops", "shard", {"leaseTransitions": 0}, stored) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
        "spec": {"leaseTransitions": 0},
    }
    made = lease_body("ops", "shard", {}, None)
    assert made["metadata"] == {"namespace": "ops", "name": "shard"}


@pytest.mark.parametrize(
    ("seen", "free_at"),
    [
        (None, None),
        ({}, 100),
        ({"spec": None}, 100),
        (body(holder=""), 100),
        (body(holder=None), 100),
        (body(holder="a"), 115),
        (body(holder="a", leaseDurationSeconds=60), 160),
        (body(holder="a", leaseDurationSeconds=None), 130),
        (body(holder="a", renewTime="1999-01-01T00:00:00.000000Z"), 115),
        (body(holder="a", renewTime=None), 115),
        (body(holder="a", renewTime="2999-01-01T00:00:00.000000Z"), 115),
    ],
)
def test_a_lease_seen_first_is_held_for_as_long_as_it_says(seen, free_at):
    sight = Sight(duration=30)
    sight.see(seen, 100)
    if free_at is None:
        assert sight.free(0)
    else:
        assert sight.free_at == free_at
        assert sight.free(free_at)
        assert not sight.free(free_at - 0.01)


@pytest.mark.parametrize(
    ("change", "free_at"),
    [
        ({}, 115),
        ({"metadata": {"resourceVersion": "8", "labels": {"seen": "by-a-third"}}}, 115),
        (body(renewTime="2026-11-23T10:00:00.000000Z"), 120),
        (body(renewTime="1999-11-23T10:00:00.000000Z"), 120),
        (body(leaseDurationSeconds=60), 165),
        (body(leaseTransitions=1), 120),
        (body(holder="b"), 120),
        (body(holder=""), 105),
    ],
)
def test_only_a_changed_spec_is_a_sign_of_life(change, free_at):
    sight = Sight(duration=30)
    sight.see(body(), 100)
    sight.see({**body(), **change}, 105)
    assert sight.free_at == free_at


def test_a_deleted_lease_stays_held_for_its_time():
    sight = Sight(duration=30)
    sight.see(body(leaseTransitions=3), 100)
    sight.see(None, 105)
    assert (sight.lease, sight.holder) == (None, "")
    assert (sight.free(114.9), sight.free(115)) == (False, True)
    assert sight.transitions == 3


def test_an_identity_is_never_given_twice():
    first, second = (unique_identity("hostwatch-0") for _ in range(2))
    assert first.startswith("hostwatch-0-")
    assert first != second


# The election ---------------------------------------------------------------------


class Api:
    """Keeps one Lease; an answer takes ``latency`` seconds, or an error comes."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.latency = 0.01
        self.error: Exception | None = None
        self.fails: Callable[[str], Exception | None] = lambda _: self.error
        self.requests: list[str] = []
        self._version = 0

    @property
    def spec(self) -> dict[str, Any]:
        assert self.stored is not None
        return self.stored["spec"]

    async def get(self, path: str) -> dict[str, Any]:
        await self._answer("GET", path)
        if self.stored is None:
            raise ApiRefusedError(404, "not found")
        return self.stored

    async def post(self, path: str, body: Any, *, query: Any) -> dict[str, Any]:
        await self._answer("POST", path)
        if self.stored is not None:
            raise ApiRefusedError(409, "already exists")
        return self.write(body)

    async def put(self, path: str, body: Any, *, query: Any) -> dict[str, Any]:
        await self._answer("PUT", path)
        assert query == {"fieldManager": "hostwatch"}
        if self.stored is None:
            raise ApiRefusedError(404, "not found")
        if body["metadata"] != self.stored["metadata"]:
            raise ApiRefusedError(409, "the object has been modified")
        return self.write(body)

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self._version)}
        self.stored = {**body, "metadata": metadata}
        return self.stored

    def hold(self, holder: str, **spec: object) -> None:
        """Write as another holder would."""
        self.write({"metadata": {}, "spec": body(holder, **spec)["spec"]})

    async def _answer(self, method: str, path: str) -> None:
        assert path.startswith("/apis/coordination.k8s.io/v1/namespaces/ops/leases")
        self.requests.append(method)
        error = self.fails(method)
        await asyncio.sleep(self.latency)
        if error is not None:
            raise error


class Meter:
    def __init__(self) -> None:
        self.states: list[bool] = []
        self.renewals = 0
        self.failures: list[str] = []
        self.number = -1

    def leading(self, leading: bool) -> None:  # noqa: FBT001 - as the protocol
        self.states.append(leading)

    def renewed(self, seconds: float) -> None:
        assert 0 <= seconds <= 5
        self.renewals += 1

    def failed(self, why: str) -> None:
        self.failures.append(why)

    def transitions(self, number: int) -> None:
        self.number = number


class Work:
    """Work that writes down when it ran, and stops within ``stopping`` seconds."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self.spans: list[list[float]] = []
        self.stopping = 0.0
        self.failure: Exception | None = None
        self.over = asyncio.Event()

    @property
    def runs(self) -> bool:
        return bool(self.spans) and len(self.spans[-1]) == 1

    async def __call__(self, term: Term) -> None:
        self.terms.append(term)
        self.spans.append([now()])
        try:
            await self.over.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            await asyncio.sleep(self.stopping)
            self.spans[-1].append(now())


class Replica:
    """One elector with its work."""

    def __init__(self, api: Api, identity: str = "me") -> None:
        self.work = Work()
        self.meter = Meter()
        self.abandoned: list[float] = []
        self.elector = Elector(
            api,  # type: ignore[arg-type] - what the elector needs of a client
            namespace="ops",
            name="shard",
            identity=identity,
            meter=self.meter,
            chance=lambda: 0.5,
            abandon=lambda: self.abandoned.append(now()),
        )


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def competing(api: Api, identity: str = "me") -> AsyncIterator[Replica]:
    replica = Replica(api, identity)
    task = asyncio.create_task(replica.elector.run(replica.work), name=identity)
    try:
        yield replica
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Callable[[], object]) -> float:
    """Return the time when it holds, in steps of virtual time."""
    while not condition():
        await asyncio.sleep(0.01)
    return now()


@pytest.mark.looptime
async def test_a_lease_that_nobody_made_is_taken_at_once():
    api = Api()
    async with competing(api) as replica:
        await until(lambda: replica.work.runs)
        assert now() < 0.1
        assert api.requests == ["GET", "POST"]
        assert api.spec["holderIdentity"] == "me"
        assert api.spec["leaseDurationSeconds"] == 15
        assert api.spec["leaseTransitions"] == 0
        assert replica.work.terms[0].number == 0
        assert replica.meter.states == [True]


@pytest.mark.looptime
async def test_a_holder_renews_with_one_request_every_two_seconds():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(61)
        assert api.requests == ["GET", "POST"] + ["PUT"] * 30
        assert replica.meter.renewals == 30
        assert len(replica.work.spans) == 1
        assert api.spec["acquireTime"] < api.spec["renewTime"]
        assert api.spec["leaseTransitions"] == 0


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("spec", "taken_at"),
    [
        ({}, 15.25),
        ({"leaseDurationSeconds": 60}, 60.25),
        ({"renewTime": None, "acquireTime": None}, 15.25),
        ({"leaseDurationSeconds": 1}, 1.25),
    ],
)
async def test_the_lease_of_a_dead_holder_is_taken_when_its_time_is_over(
    spec, taken_at
):
    api = Api()
    api.hold("dead-pod", leaseTransitions=4, **spec)
    with capture_logs() as logs:
        async with competing(api) as replica:
            await until(lambda: replica.work.runs)
    assert replica.work.spans[0][0] == pytest.approx(taken_at, abs=0.1)
    assert replica.work.terms[0].number == replica.meter.number == 5
    told = [(line["event"], line.get("holder") or line.get("after")) for line in logs]
    assert told == [
        ("Following", "dead-pod"),
        ("Leading", "dead-pod"),
        ("Released the lease", None),
    ]


@pytest.mark.looptime
async def test_a_holder_that_renews_is_followed_for_ever():
    api = Api()
    async with competing(api, "first"), competing(api, "second") as second:
        await asyncio.sleep(300)
        assert second.work.spans == []
        assert second.meter.states == []


@pytest.mark.looptime
async def test_our_own_name_in_a_lease_we_do_not_hold_is_another():
    api = Api()
    api.hold("me")
    async with competing(api) as replica:
        await asyncio.sleep(14.9)
        assert replica.work.spans == []
        await asyncio.sleep(1)
        assert replica.work.terms[0].number == 1


@pytest.mark.looptime
async def test_a_lease_deleted_under_its_holder_is_not_taken_by_a_follower():
    api = Api()
    async with competing(api, "first") as first, competing(api, "second") as second:
        await asyncio.sleep(5)
        with capture_logs() as logs:
            api.stored = None
            await asyncio.sleep(5)
        assert api.spec["holderIdentity"] == "first"
        assert first.work.runs
        assert len(first.work.spans) == 1
        assert second.work.spans == []
        assert [line["event"] for line in logs] == [
            "The lease was deleted, making it again"
        ]


@pytest.mark.looptime
async def test_a_label_set_by_a_third_party_costs_one_more_request():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(5)
        assert api.stored is not None
        api.write({**api.stored, "metadata": {"labels": {"team": "ops"}}})
        await asyncio.sleep(30)
        assert len(replica.work.spans) == 1
        assert api.stored["metadata"]["labels"] == {"team": "ops"}
        assert replica.meter.failures == ["conflict"]


@pytest.mark.looptime
async def test_a_lease_taken_by_hand_ends_the_work_at_the_next_renewal():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(5)
        with capture_logs() as logs:
            api.hold("admin")
            await until(lambda: not replica.work.runs)
        assert now() < 7
        assert not replica.work.terms[0].valid()
        assert [(line["event"], line["holder"]) for line in logs] == [
            ("Lost the lease", "admin")
        ]
        assert api.spec["holderIdentity"] == "admin"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ApiAwayError("no answer"), "away"),
        (ApiAwayError("500: broken", status=500), "away"),
        (ApiAwayError("401: expired", status=401), "away"),
        (ApiRefusedError(403, "forbidden"), "forbidden"),
        (ApiRefusedError(422, "invalid"), "refused"),
    ],
)
async def test_a_holder_that_cannot_renew_has_stopped_before_the_lease_ends(error, why):
    api = Api()
    async with competing(api) as replica:
        replica.work.stopping = 4.9
        await asyncio.sleep(5)
        renewed = 4.0
        api.error = error
        term = replica.work.terms[0]
        assert await until(lambda: not term.valid()) == pytest.approx(
            renewed + 10, abs=0.1
        )
        await until(lambda: replica.meter.states == [True, False])
        assert replica.work.spans[0][1] == pytest.approx(renewed + 14.9, abs=0.1)
        assert set(replica.meter.failures) == {why}
        assert replica.abandoned == []

        api.error = None
        await until(lambda: replica.work.runs)
        assert replica.meter.states == [True, False, True]
        assert replica.work.terms[1].number == 1


@pytest.mark.looptime
async def test_a_silent_api_is_asked_again_until_the_deadline():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(5)
        api.latency = 3600
        asked = len(api.requests)
        stopped = await until(lambda: not replica.work.runs)
        assert stopped == pytest.approx(14, abs=0.1)
        assert api.requests[asked:] == ["PUT", "PUT", "GET"]
        assert replica.meter.failures == ["away", "away"]


@pytest.mark.looptime
async def test_a_short_silence_costs_nothing():
    api = Api()
    async with competing(api) as replica:
        for _ in range(5):
            await asyncio.sleep(5)
            api.error = ApiAwayError("no answer")
            await asyncio.sleep(7)
            api.error = None
        assert len(replica.work.spans) == 1


@pytest.mark.looptime
async def test_a_renewal_that_arrived_without_an_answer_is_no_loss():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(5)
        assert api.stored is not None
        api.write({**api.stored, "spec": {**api.spec, "renewTime": "unheard"}})
        await asyncio.sleep(10)
        assert len(replica.work.spans) == 1
        assert api.spec["renewTime"] != "unheard"


@pytest.mark.looptime
async def test_lease_writes_that_always_collide_lose_the_lease_in_time():
    api = Api()
    async with competing(api) as replica:
        await asyncio.sleep(5)
        api.fails = lambda method: (
            ApiRefusedError(409, "modified") if method == "PUT" else None
        )
        assert await until(lambda: not replica.work.runs) == pytest.approx(14, abs=0.1)


@pytest.mark.looptime
async def test_a_cancelled_run_stops_the_work_and_then_releases():
    api = Api()
    replica = Replica(api)
    replica.work.stopping = 8
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.sleep(7.9)
    assert replica.work.terms[0].valid()
    assert api.spec["holderIdentity"] == "me"
    await asyncio.wait({task})
    assert task.cancelled()
    assert replica.work.spans[0][1] == pytest.approx(13, abs=0.1)
    assert api.spec["holderIdentity"] == ""
    assert api.spec["leaseDurationSeconds"] == 1
    assert replica.abandoned == []
    assert replica.meter.states == [True, False]


@pytest.mark.looptime
async def test_a_release_is_given_up_after_two_seconds():
    api = Api()
    replica = Replica(api)
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    api.latency = 3600
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert now() == pytest.approx(7, abs=0.1)


@pytest.mark.looptime
async def test_a_release_that_always_collides_is_given_up():
    api = Api()
    with capture_logs() as logs:
        async with competing(api) as replica:
            await asyncio.sleep(5)
            api.fails = lambda method: (
                ApiRefusedError(409, "modified") if method == "PUT" else None
            )
    assert api.requests[-6:] == ["PUT", "GET"] * 3
    assert replica.meter.failures == ["conflict"] * 3 + ["away"]
    assert logs[-1]["detail"] == "others write this Lease at the same time"


@pytest.mark.looptime
async def test_a_lease_taken_while_the_work_stops_is_not_released():
    api = Api()
    replica = Replica(api)
    replica.work.stopping = 3
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.sleep(1)
    api.hold("admin")
    await asyncio.wait({task})
    assert api.spec["holderIdentity"] == "admin"


@pytest.mark.looptime
async def test_a_second_cancellation_does_not_shorten_the_stop():
    api = Api()
    replica = Replica(api)
    replica.work.stopping = 3
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert replica.work.spans[0][1] == pytest.approx(8, abs=0.1)
    assert replica.meter.states == [True, False]
    assert api.spec["holderIdentity"] == ""


@pytest.mark.looptime
async def test_a_run_cancelled_while_a_lost_term_stops_ends_after_the_work():
    api = Api()
    replica = Replica(api)
    replica.work.stopping = 3
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    api.hold("admin")
    term = replica.work.terms[0]
    await until(lambda: api.requests[-1] == "GET")
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert (task.done(), replica.work.runs) == (False, True)
    await asyncio.wait({task})
    assert task.cancelled()
    assert replica.work.spans[0][1] == now() == pytest.approx(9, abs=0.1)
    assert not term.valid()
    assert replica.meter.states == [True, False]
    assert api.spec["holderIdentity"] == "admin"


@pytest.mark.looptime
async def test_work_that_fails_after_a_cancelled_stop_is_told_and_the_run_cancelled():
    api = Api()
    replica = Replica(api)

    async def work(_: Term) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)
            raise LookupError("the work broke")

    task = asyncio.create_task(replica.elector.run(work), name="run")
    await asyncio.sleep(5)
    api.hold("admin")
    await until(lambda: api.requests[-1] == "GET")
    await asyncio.sleep(1)
    with capture_logs() as logs:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    assert [line["event"] for line in logs] == ["The work failed to stop"]


@pytest.mark.looptime
async def test_a_run_cancelled_while_it_takes_the_lease_gives_it_back():
    api = Api()
    api.hold("")

    async def written_but_not_answered(path: str, body: Any, *, query: Any) -> Any:
        answer = api.write(body)
        await asyncio.sleep(1)
        return answer

    put, api.put = api.put, written_but_not_answered  # type: ignore[method-assign]
    replica = Replica(api)
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(0.5)
    assert api.spec["holderIdentity"] == "me"
    api.put = put  # type: ignore[method-assign]
    task.cancel()
    await asyncio.wait({task})
    assert api.spec["holderIdentity"] == ""
    assert replica.work.spans == []


@pytest.mark.looptime
async def test_a_follower_that_is_cancelled_writes_nothing():
    api = Api()
    api.hold("other")
    async with competing(api):
        await asyncio.sleep(5)
    assert set(api.requests) == {"GET"}


@pytest.mark.looptime
async def test_work_that_does_not_stop_makes_the_process_end():
    api = Api()
    replica = Replica(api)
    replica.work.stopping = 30
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    api.error = ApiAwayError("no answer")
    with capture_logs() as logs:
        await until(lambda: replica.abandoned)
    assert now() == pytest.approx(4 + 15, abs=0.1)
    assert logs[-1]["event"] == "The work does not stop, so the process has to"
    assert logs[-1]["log_level"] == "critical"
    api.error = None
    await asyncio.sleep(20)
    assert len(replica.work.spans) == 1
    assert replica.work.runs
    task.cancel()
    await until(lambda: not replica.work.runs)
    await asyncio.wait({task})


@pytest.mark.looptime
async def test_work_that_fails_ends_the_run_after_the_release():
    api = Api()
    replica = Replica(api)
    replica.work.failure = LookupError("the work broke")
    task = asyncio.create_task(replica.elector.run(replica.work), name="run")
    await asyncio.sleep(5)
    replica.work.over.set()
    with pytest.raises(LookupError, match="the work broke"):
        await task
    assert api.spec["holderIdentity"] == ""


@pytest.mark.looptime
async def test_work_that_returns_ends_the_run_after_the_release():
    api = Api()
    replica = Replica(api)
    replica.work.over.set()
    await replica.elector.run(replica.work)
    assert api.spec["holderIdentity"] == ""


@pytest.mark.looptime
@pytest.mark.parametrize("lost", [True, False])
async def test_work_that_fails_while_it_stops_is_told(lost):
    api = Api()
    replica = Replica(api)

    async def work(_: Term) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("the work broke")

    task = asyncio.create_task(replica.elector.run(work), name="run")
    await asyncio.sleep(5)
    with capture_logs() as logs:
        if lost:
            api.error = ApiAwayError("no answer")
        else:
            task.cancel()
        await asyncio.wait({task})
    told = next(line for line in logs if line["event"] == "The work failed to stop")
    assert str(told["exc_info"]) == "the work broke"
    assert task.cancelled() is not lost
    if lost:
        assert isinstance(task.exception(), LookupError)


@pytest.mark.looptime
async def test_trouble_is_told_once_and_again_after_half_a_minute():
    api = Api()
    api.error = ApiAwayError("no answer")
    with capture_logs() as logs:
        async with competing(api) as replica:
            await asyncio.sleep(61)
            api.error = ApiRefusedError(403, "leases is forbidden")
            await asyncio.sleep(5)
    assert len(replica.meter.failures) == pytest.approx(30, abs=3)
    assert [(line["event"], line["detail"]) for line in logs] == [
        *[("The lease cannot be read or written", "no answer")] * 2,
        (GRANT, "403: leases is forbidden"),
    ]
    assert (logs[-1]["namespace"], logs[-1]["lease"]) == ("ops", "shard")


@pytest.mark.looptime
async def test_of_many_that_race_for_a_free_lease_one_wins():
    api = Api()
    replicas = [Replica(api, f"replica-{number}") for number in range(10)]
    tasks = [
        asyncio.create_task(replica.elector.run(replica.work), name="race")
        for replica in replicas
    ]
    for _ in range(30):
        await asyncio.sleep(1)
        assert sum(replica.work.runs for replica in replicas) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize(
    "times",
    [
        {"duration": 10, "deadline": 10},
        {"deadline": 2, "retry": 2},
        {"retry": 0},
    ],
)
def test_times_that_cannot_work_are_refused(times):
    with pytest.raises(ValueError, match=r"retry × 1\.2 < deadline < duration"):
        Elector(
            Api(),  # type: ignore[arg-type]
            namespace="ops",
            name="shard",
            identity="me",
            meter=Meter(),
            **times,
        )
