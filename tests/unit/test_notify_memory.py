from __future__ import annotations

import pytest

from hostwatch.model.alert import AlertRule, Notification
from hostwatch.model.kept import Errand, Kept, Outcome, ServerAlerts
from hostwatch.notify.memory import Memory
from world.alerts import NOON, after, firing, pending, raised, resolved, seen
from world.store import server

WEB = server(1)


@pytest.fixture
def refused() -> list[Errand]:
    return []


@pytest.fixture
def memory(refused) -> Memory:
    return Memory(["nats", "events"], full=refused.append, limit=3)


def record(memory: Memory, *alerts, tell=(), at=NOON, now=0.0, inhibited=False) -> bool:
    notifications = [Notification(alert, inhibited=inhibited) for alert in tell]
    of = (*alerts, *tell)[0].server if (*alerts, *tell) else WEB
    return memory.record(of, alerts, notifications, at=at, now=now)


def write(memory: Memory, now: float = 0.0) -> Kept:
    batch = memory.next_batch(now)
    memory.written(batch, now)
    return batch


def sinks(errands) -> list[tuple[str, int]]:
    return [(e.sink, e.notification.alert.transition) for e in errands]


def test_what_is_recorded_is_known_and_must_be_written_with_its_errands(memory):
    alert = firing()
    assert record(memory, alert, tell=[alert])
    assert memory.active() == {WEB.id: (alert,)}
    batch = memory.next_batch(0)
    assert batch.servers == (ServerAlerts(WEB, NOON, (alert,)),)
    assert batch.errands == tuple(
        Errand(Notification(alert), sink, NOON) for sink in ("nats", "events")
    )
    assert memory.take_fresh() == list(batch.errands)
    assert memory.take_fresh() == []
    memory.written(batch, 0)
    assert not memory.next_batch()


def test_the_same_notification_makes_no_second_errand(memory):
    alert = firing()
    record(memory, alert, tell=[alert])
    memory.take_fresh()
    record(memory, alert, tell=[alert])
    assert memory.take_fresh() == []


def test_numbers_and_times_are_no_news_and_written_once_a_minute(memory):
    alert = firing()
    record(memory, alert, now=100)
    write(memory, 100)
    assert not record(memory, seen(alert, after(30), value=88.0), now=130)
    assert not memory.next_batch(159.9)
    assert not record(memory, seen(alert, after(60), value=89.0), now=159.9)
    batch = memory.next_batch(160)
    assert [s.alerts[0].value for s in batch.servers] == [89.0]
    memory.written(batch, 160)
    record(memory, seen(alert, after(90)), now=190)
    assert not memory.next_batch(219.9)
    assert memory.next_batch(220)


@pytest.mark.parametrize(
    "news",
    [
        (),
        (firing(),),
        (pending(at=after(30)),),
        (pending(), pending(label="/")),
        (pending(rule=AlertRule.CPU_HIGH),),
    ],
)
def test_another_set_of_alerts_is_news_and_written_at_once(memory, news):
    record(memory, pending(), now=100)
    write(memory, 100)
    assert record(memory, *news, now=101)
    assert [s.alerts for s in memory.next_batch(101).servers] == [news]


def test_a_raised_severity_is_news(memory):
    alert = firing()
    record(memory, alert)
    write(memory)
    assert record(memory, raised(alert, after(30)))


def test_what_changes_while_it_is_written_is_written_again(memory):
    alert = firing()
    record(memory, alert, tell=[alert])
    batch = memory.next_batch(0)
    (nats, events) = memory.take_fresh()
    record(memory, raised(alert, after(30)), at=after(30))
    memory.end(nats, Outcome.DELIVERED, after(31))
    memory.written(batch, 0)
    again = memory.next_batch(0)
    assert [s.alerts[0].transition for s in again.servers] == [2]
    assert [(e.sink, e.outcome, e.ended_at) for e in again.errands] == [
        ("nats", Outcome.DELIVERED, after(31))
    ]
    assert events not in again.errands


def test_an_errand_is_forgotten_once_its_outcome_is_written(memory):
    alert = firing()
    record(memory, alert, tell=[alert])
    write(memory)
    for errand in memory.take_fresh():
        memory.end(errand, Outcome.DELIVERED, after(1))
    assert len(write(memory).errands) == 2
    assert memory.everything().errands == ()
    assert memory.active() == {WEB.id: (alert,)}


def test_an_inhibited_notification_is_written_and_not_told(memory):
    alert = firing()
    record(memory, alert, tell=[alert], inhibited=True)
    assert memory.take_fresh() == []
    outcomes = [e.outcome for e in write(memory).errands]
    assert outcomes == [Outcome.INHIBITED] * 2
    assert memory.everything().errands == ()


def test_a_resolved_alert_is_written_with_its_end_and_then_gone(memory):
    alert = firing()
    record(memory, alert)
    write(memory)
    end = resolved(alert, after(30))
    assert record(memory, tell=[end], at=after(30))
    assert memory.active() == {}
    batch = memory.next_batch(0)
    assert batch.servers == (ServerAlerts(WEB, after(30), ()),)
    assert batch.ended == (end,)
    memory.written(batch, 0)
    everything = memory.everything()
    assert (everything.servers, everything.ended) == ((), ())
    assert sinks(everything.errands) == [("nats", 2), ("events", 2)]


def test_the_end_is_recorded_where_nobody_is_told(refused):
    memory = Memory([], full=refused.append)
    alert = firing()
    record(memory, alert)
    record(memory, tell=[resolved(alert, after(30))])
    assert memory.next_batch(0).ended == (resolved(alert, after(30)),)


def test_a_server_without_alerts_is_kept_until_that_is_written(memory):
    record(memory, pending())
    record(memory, at=after(30))
    assert memory.everything().servers == (ServerAlerts(WEB, after(30), ()),)
    write(memory)
    assert not memory.everything()


def test_beyond_the_limit_no_errand_is_made(memory, refused):
    for number in range(4):
        alert = firing(number)
        record(memory, alert, tell=[alert])
    assert len(memory.take_fresh()) == 6
    assert [e.notification.alert.server.id for e in refused] == [server(3).id] * 2
    assert len(memory.active()) == 4


def test_a_sink_that_is_full_costs_the_others_nothing(memory, refused):
    for number in range(4):
        record(memory, firing(number), tell=[firing(number)])
        for errand in memory.take_fresh():
            if errand.sink == "nats":
                memory.end(errand, Outcome.DELIVERED, after(1))
        write(memory)
    assert [e.sink for e in refused] == ["events"]


def test_no_errand_goes_before_the_state_of_its_server():
    memory = Memory(["nats"], full=lambda _: None)
    for number in range(450):
        alert = firing(number)
        record(memory, alert, tell=[alert])
    batches = [write(memory), write(memory), write(memory)]
    assert [len(batch.servers) for batch in batches] == [200, 200, 50]
    for batch in batches:
        assert {s.server.id for s in batch.servers} == {
            e.notification.alert.server.id for e in batch.errands
        }
    assert not memory.next_batch()


def test_outcomes_alone_come_in_batches_too():
    memory = Memory(["nats"], full=lambda _: None)
    for number in range(300):
        record(memory, firing(number), tell=[firing(number)])
    while write(memory):
        pass
    for errand in memory.take_fresh():
        memory.end(errand, Outcome.DELIVERED, after(1))
    assert [len(write(memory).errands) for _ in range(3)] == [200, 100, 0]


class TestAdopting:
    KEPT = Kept(
        servers=(ServerAlerts(WEB, NOON, (firing(),)),),
        ended=(resolved(firing(2), after(5)),),
        errands=(
            Errand(Notification(raised(firing(), after(9))), "nats", after(9)),
            Errand(Notification(firing()), "nats", NOON),
            Errand(Notification(firing()), "forgotten", NOON),
            Errand(Notification(firing()), "events", NOON, Outcome.DELIVERED, NOON),
        ),
    )

    def test_from_the_file_all_is_still_to_be_written(self, memory):
        memory.adopt(self.KEPT, written=False, now=5)
        assert memory.active() == {WEB.id: (firing(),)}
        batch = memory.next_batch(5)
        assert batch == self.KEPT
        # What waits is told, the older first; what sink is not there any more, not.
        assert sinks(memory.take_fresh()) == [("nats", 1), ("nats", 2)]
        memory.written(batch, 5)
        assert sinks(memory.everything().errands) == [("nats", 2), ("nats", 1)]

    def test_from_the_database_nothing_is_to_be_written(self, memory):
        memory.adopt(self.KEPT, written=True, now=5)
        assert not memory.next_batch()
        assert sinks(memory.take_fresh()) == [("nats", 1), ("nats", 2)]
        assert not record(memory, seen(firing(), after(30)), now=30)
        assert not memory.next_batch(64.9)
        assert memory.next_batch(65)

    def test_what_became_of_an_errand_is_known_better_here(self, memory):
        record(memory, firing(), tell=[firing()])
        for errand in memory.take_fresh():
            memory.end(errand, Outcome.DELIVERED, after(1))
        memory.adopt(self.KEPT, written=True, now=5)
        assert sinks(memory.take_fresh()) == [("nats", 2)]
        outcomes = {e.key: e.outcome for e in memory.next_batch().errands}
        assert set(outcomes.values()) == {Outcome.DELIVERED}
        assert len(outcomes) == 2


def test_the_outcome_of_a_forgotten_errand_is_nothing(memory):
    memory.end(Errand(Notification(firing()), "nats", NOON), Outcome.DELIVERED, NOON)
    assert not memory.everything()


def test_unwritten_tells_of_those_asked_for(memory):
    record(memory, firing(), tell=[firing()])
    fresh = memory.take_fresh()
    assert memory.unwritten(fresh)
    assert not memory.unwritten([])
    write(memory)
    assert not memory.unwritten(fresh)
