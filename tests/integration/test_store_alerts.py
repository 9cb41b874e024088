from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from structlog.testing import capture_logs

from hostwatch.model.alert import AlertRule, Notification
from hostwatch.model.kept import Errand, Kept, Outcome, ServerAlerts
from hostwatch.model.reason import TryAgainLaterError
from hostwatch.store.alerts import AlertBook
from world.alerts import NOON, after, firing, pending, raised, resolved, seen
from world.process import free_ports
from world.store import CLUSTER, execute, link, opened_store, rows, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WEB = server(1)
SINKS = ("nats", "events")
OTHER_CLUSTER = "00000000-0000-0000-0000-0000000000c2"

STATES = """
SELECT state, transition, ended_at, ended_reason FROM hostwatch.alerts
ORDER BY state, alert_id
"""
OUTBOX = """
SELECT alert_id::text, transition, sink, created_at, delivered_at, refused_at, inhibited
FROM hostwatch.notifications ORDER BY alert_id, transition, sink
"""
ACTIVE_OF_ONE = """
SELECT 1 FROM hostwatch.alerts WHERE state IN ('pending', 'firing')
    AND server_id = '00000000-0000-0000-0000-000000000001'
"""
WAITING = """
SELECT 1 FROM hostwatch.notifications
WHERE delivered_at IS NULL AND refused_at IS NULL AND NOT inhibited
    AND cluster_id = '00000000-0000-0000-0000-0000000000c1'
ORDER BY created_at
"""


@pytest.fixture
async def book(database: str) -> AsyncIterator[AlertBook]:
    async with opened_store(database) as store:
        yield store.alerts


def state(*alerts, of=WEB, at=NOON) -> ServerAlerts:
    return ServerAlerts(of, at, alerts)


def states(*of: ServerAlerts, **more) -> Kept:
    return Kept(servers=of, **more)


def errand(alert, sink="nats", at=NOON, **changes) -> Errand:
    return Errand(Notification(alert), sink, at, **changes)


def delivered(it: Errand, at) -> Errand:
    return replace(it, outcome=Outcome.DELIVERED, ended_at=at)


async def test_what_is_saved_is_loaded_again(book):
    kept = states(
        state(
            firing(cleared_since=after(3), absent=2, value=1 / 3),
            pending(
                label="", rule=AlertRule.HOST_KEY_CHANGED, value=None, threshold=None
            ),
            at=after(30),
        ),
        state(pending(2, label="/srv/ü 😀"), of=server(2)),
        errands=(errand(firing()), errand(firing(), "events")),
    )
    await book.save(kept)
    loaded = await book.load(SINKS)
    by_server = {s.server.id: s for s in loaded.servers}
    assert set(by_server) == {WEB.id, server(2).id}
    assert set(by_server[WEB.id].alerts) == set(kept.servers[0].alerts)
    assert by_server[WEB.id].as_of == after(30)
    assert by_server[server(2).id] == kept.servers[1]
    assert set(loaded.errands) == set(kept.errands)


async def test_saving_the_same_again_changes_nothing(book, database):
    kept = states(
        state(firing(), pending(label="/")),
        ended=(resolved(firing(3), after(9)),),
        errands=(errand(firing()), delivered(errand(firing(), "events"), after(1))),
    )
    await book.save(kept)
    before = rows(database, "SELECT * FROM hostwatch.alerts ORDER BY alert_id")
    outbox = rows(database, OUTBOX)
    await book.save(kept)
    assert rows(database, "SELECT * FROM hostwatch.alerts ORDER BY alert_id") == before
    assert rows(database, OUTBOX) == outbox


async def test_the_life_of_an_alert_is_one_row_and_its_waiting_place(book, database):
    await book.save(states(state(pending())))
    assert rows(database, STATES) == [("pending", 0, None, None)]
    alert = firing(at=after(60))
    await book.save(states(state(alert, at=after(60))))
    assert rows(database, STATES) == [
        ("firing", 1, None, None),
        ("inactive", 0, None, None),
    ]
    worse = raised(alert, after(90))
    await book.save(states(state(worse, at=after(90))))
    end = resolved(worse, after(120))
    await book.save(states(state(at=after(120)), ended=(end,)))
    assert rows(database, STATES) == [
        ("inactive", 0, None, None),
        ("resolved", 3, after(120), "cleared"),
    ]
    assert await book.load(SINKS) == Kept()
    again = firing(at=after(600))
    await book.save(states(state(pending(at=after(540)), at=after(540))))
    await book.save(states(state(again, at=after(600))))
    assert [row[0] for row in rows(database, STATES)] == [
        "firing",
        "inactive",
        "resolved",
    ]
    (row,) = rows(
        database,
        "SELECT alert_id::text, organization, namespace, name, rule, label, severity,"
        " value, threshold, message, started_at, cluster_id::text"
        " FROM hostwatch.alerts WHERE state = 'firing'",
    )
    assert row == (
        *(again.id, "acme", "acme", "web-1", "DiskFull", "/var", "warning"),
        *(87.125, 85.0, "/var is 87.1 % full", after(600), CLUSTER),
    )


async def test_what_fired_and_ended_before_it_was_saved_is_history(book, database):
    end = resolved(firing(), after(30))
    await book.save(states(state(at=after(30)), ended=(end,)))
    assert rows(database, STATES) == [("resolved", 2, after(30), "cleared")]


async def test_older_never_replaces_newer(book):
    alert = firing()
    now = state(seen(alert, after(60), value=99.0), at=after(60))
    await book.save(states(now))
    await book.save(states(state(seen(alert, after(30)), at=after(30))))
    assert (await book.load(SINKS)).servers == (now,)
    # Neither do the alerts that there were then end those that there are now.
    await book.save(states(state(at=after(59))))
    assert (await book.load(SINKS)).servers == (now,)


async def test_an_old_file_cannot_bring_a_resolved_alert_back(book, database):
    alert = firing()
    end = resolved(alert, after(30))
    await book.save(states(state(alert)))
    await book.save(states(state(at=after(30)), ended=(end,)))
    await book.save(states(state(seen(alert, after(20)), at=after(20))))
    assert rows(database, STATES) == [("resolved", 2, after(30), "cleared")]


async def test_a_higher_number_wins_over_a_clock_that_was_set_back(book):
    alert = firing()
    await book.save(states(state(seen(alert, after(3600)), at=after(3600))))
    worse = raised(alert, after(5))
    await book.save(states(state(worse, at=after(5))))
    (found,) = (await book.load(SINKS)).servers
    assert found.alerts == (worse,)


async def test_an_alert_that_was_lost_sight_of_ends_without_a_reason(book, database):
    await book.save(states(state(firing(), pending(label="/"))))
    await book.save(states(state(firing(label="/new"), at=after(90))))
    assert rows(database, STATES) == [
        ("firing", 1, None, None),
        ("inactive", 0, None, None),
        ("resolved", 1, after(90), None),
    ]


async def test_other_servers_are_left_alone(book):
    await book.save(states(state(firing()), state(firing(2), of=server(2))))
    await book.save(states(state(at=after(30))))
    (left,) = (await book.load(SINKS)).servers
    assert left.server == server(2)


async def test_the_outbox_says_what_became_of_each(book, database):
    alert = firing()
    waiting = [errand(alert, sink) for sink in ("a", "b", "c")]
    note = Notification(resolved(alert, after(9)), inhibited=True)
    silent = Errand(note, "a", after(9), Outcome.INHIBITED)
    await book.save(states(errands=(*waiting, silent)))
    await book.save(
        states(
            errands=(
                delivered(waiting[0], after(1)),
                replace(waiting[1], outcome=Outcome.REFUSED, ended_at=after(2)),
            )
        )
    )
    assert rows(database, OUTBOX) == [
        (alert.id, 1, "a", NOON, after(1), None, False),
        (alert.id, 1, "b", NOON, None, after(2), False),
        (alert.id, 1, "c", NOON, None, None, False),
        (alert.id, 2, "a", after(9), None, None, True),
    ]
    assert (await book.load("abc")).errands == (waiting[2],)
    assert (await book.load("ab")).errands == ()


async def test_an_outcome_is_final(book, database):
    it = errand(firing())
    await book.save(states(errands=(delivered(it, after(1)),)))
    await book.save(states(errands=(it,)))
    await book.save(states(errands=(delivered(it, after(5)),)))
    assert [row[4] for row in rows(database, OUTBOX)] == [after(1)]
    assert await book.load(SINKS) == Kept()


async def test_what_waits_comes_in_the_order_it_was_made(book):
    first, second = firing(1), firing(2)
    errands = (
        errand(first, at=after(1)),
        errand(raised(first, after(1)), at=after(1)),
        errand(second, at=after(3)),
    )
    await book.save(states(errands=errands[::-1]))
    assert (await book.load(SINKS)).errands == errands


async def test_other_clusters_and_namespaces_are_not_ours(book, database):
    elsewhere = replace(server(2), namespace="globex")
    await book.save(
        states(
            state(firing()),
            state(firing(elsewhere), of=elsewhere),
            errands=(errand(firing()), errand(firing(elsewhere))),
        )
    )
    own = link(database)
    found = {}
    for cluster in (CLUSTER, OTHER_CLUSTER):
        for names in ((), ("acme",), ("globex", "acme"), ("nobody",)):
            other = AlertBook(own, cluster_id=cluster, namespaces=names)
            kept = await other.load(SINKS)
            assert len(kept.servers) == len(kept.errands)
            found[cluster == CLUSTER, names] = {s.server.id for s in kept.servers}
    await own.close()
    assert found == {
        (True, ()): {WEB.id, elsewhere.id},
        (True, ("acme",)): {WEB.id},
        (True, ("globex", "acme")): {WEB.id, elsewhere.id},
        (True, ("nobody",)): set(),
        **{(False, n): set() for n in ((), ("acme",), ("globex", "acme"), ("nobody",))},
    }


async def test_one_refused_value_costs_its_server_only(book, database):
    bad = pending(2, label="/a\0b")
    with capture_logs() as logs:
        await book.save(
            states(
                state(firing(1)),
                state(bad, of=server(2)),
                state(firing(3), of=server(3)),
                ended=(resolved(firing(4), after(1)),),
                errands=(errand(firing(1)), errand(firing(3))),
            )
        )
    assert [row[0] for row in rows(database, STATES)] == ["firing"] * 2 + ["resolved"]
    assert len(rows(database, OUTBOX)) == 2
    assert [(e["event"], e["server_id"]) for e in logs] == [
        ("The database refuses a server's alerts", server(2).id)
    ]
    assert "/a" not in str(logs)


async def test_state_and_outbox_are_one_transaction(book, database):
    execute(database, "ALTER TABLE hostwatch.notifications ADD CHECK (sink <> 'bad')")
    await book.save(states(state(firing()), errands=(errand(firing(), "bad"),)))
    assert rows(database, STATES) == []
    assert rows(database, OUTBOX) == []


async def test_what_a_later_version_wrote_is_left_alone(book, database):
    await book.save(
        states(state(firing(), pending(label="/")), errands=(errand(firing()),))
    )
    execute(
        database,
        "UPDATE hostwatch.alerts SET rule = 'DiskOnFire' WHERE state = 'firing'",
    )
    execute(
        database,
        "UPDATE hostwatch.notifications"
        ' SET payload = payload || \'{"rule": "DiskOnFire"}\'',
    )
    with capture_logs() as logs:
        loaded = await book.load(SINKS)
    assert loaded == states(state(pending(label="/")))
    assert [e["event"] for e in logs] == ["Some alerts are of another version"] * 2


async def test_without_the_tables_it_is_later(database):
    async with opened_store(database, prepared=False) as store:
        for asked in (store.alerts.load(SINKS), store.alerts.save(states(state()))):
            with pytest.raises(TryAgainLaterError, match="alerts: the schema is not"):
                await asked


async def test_without_a_database_it_is_later():
    (port,) = free_ports(1)
    nobody = link(f"host=127.0.0.1 port={port}")
    book = AlertBook(nobody, cluster_id=CLUSTER)
    with pytest.raises(TryAgainLaterError, match="does not answer"):
        await book.load(SINKS)
    with pytest.raises(TryAgainLaterError, match="does not answer"):
        await book.save(states(state()))


async def test_a_thousand_servers_are_saved_and_loaded(book):
    alerts = [firing(n) for n in range(1000)]
    await book.save(
        states(
            *(state(a, of=a.server) for a in alerts),
            errands=tuple(errand(a, sink) for a in alerts for sink in SINKS),
        )
    )
    loaded = await book.load(SINKS)
    assert {a for s in loaded.servers for a in s.alerts} == set(alerts)
    assert len(loaded.errands) == 2000


@pytest.mark.parametrize(
    ("query", "index"),
    [(ACTIVE_OF_ONE, "alerts_active"), (WAITING, "notifications_waiting")],
)
async def test_what_is_asked_often_has_an_index(book, database, query, index):
    with psycopg.connect(database, autocommit=True) as connection:
        # A table of no rows is otherwise read whole.
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(f"EXPLAIN {query}".encode()).fetchall()
    assert index in str(plan)
    assert "Sort" not in str(plan)
