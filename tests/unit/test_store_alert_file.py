from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from hostwatch.model.alert import Notification
from hostwatch.model.kept import Errand, Kept, Outcome, ServerAlerts
from hostwatch.store.alert_file import AlertFile, alert_file
from world.alerts import NOON, after, firing, pending, resolved, seen
from world.store import server

if TYPE_CHECKING:
    from pathlib import Path

KEPT = Kept(
    servers=(
        ServerAlerts(
            server(1),
            NOON,
            (
                firing(cleared_since=after(3), absent=2),
                pending(label="/srv/ü 😀", value=None, threshold=None),
            ),
        ),
        ServerAlerts(server(2), after(30), ()),
    ),
    ended=(resolved(firing(3), after(60)),),
    errands=(
        Errand(Notification(firing()), "nats", NOON),
        Errand(Notification(firing()), "events", NOON, Outcome.DELIVERED, after(1)),
        Errand(
            Notification(resolved(firing(3), after(60)), inhibited=True),
            "nats",
            after(60),
            Outcome.INHIBITED,
        ),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "alerts.json"


def other(path: Path) -> AlertFile:
    return AlertFile(path.parent)


async def test_what_is_saved_is_loaded_again(path):
    await other(path).save(KEPT)
    assert await other(path).load() == KEPT


async def test_a_later_save_replaces_all_of_it(path):
    file = other(path)
    await file.save(KEPT)
    (first, _), alert = KEPT.servers, firing(4)
    now = Kept(
        servers=(
            replace(first, alerts=(seen(firing(), after(90)),)),
            ServerAlerts(server(4), after(90), (alert,)),
        ),
        errands=KEPT.errands[:1],
    )
    await file.save(now)
    assert await other(path).load() == now
    await file.save(Kept())
    assert await other(path).load() == Kept()


async def test_before_the_first_save_there_is_nothing(path):
    with capture_logs() as logs:
        assert await other(path).load() == Kept()
    assert logs == []


async def test_only_its_owner_may_read_it(path):
    old = os.umask(0)
    try:
        await other(path).save(KEPT)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_left_half_written_disturbs_nobody(path):
    await other(path).save(KEPT)
    half = path.with_name(".alerts.json.new")
    half.write_text('{"version":1,\n"servers":[')
    assert await other(path).load() == KEPT
    await other(path).save(KEPT)
    assert [p.name for p in path.parent.iterdir()] == ["alerts.json"]


async def test_the_new_file_follows_no_link(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.parent.mkdir()
    path.with_name(".alerts.json.new").symlink_to(victim)
    await other(path).save(KEPT)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"version":2,"servers":[],"ended":[],"errands":[]}',
        b'{"version":1,"servers":[{}],"ended":[],"errands":[]}',
        b'{"version":1,"servers":[],"ended":[7],"errands":[]}',
        b"[" * 100_000,
    ],
)
async def test_a_damaged_file_is_moved_aside_and_said_once(path, text):
    path.parent.mkdir()
    path.write_bytes(text)
    file = other(path)
    with capture_logs() as logs:
        assert await file.load() == Kept()
        assert await file.load() == Kept()
    assert [(e["event"], e["log_level"]) for e in logs] == [
        ("The alerts' file is damaged, it is moved aside", "warning")
    ]
    assert path.with_name("alerts.json.bad").read_bytes() == text
    await file.save(KEPT)
    assert await file.load() == KEPT


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
async def test_a_cut_file_is_damaged(path, cut):
    await other(path).save(KEPT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    assert await other(path).load() == Kept()


async def test_a_rule_of_a_later_version_makes_it_unreadable_here(path):
    await other(path).save(KEPT)
    path.write_text(path.read_text().replace("DiskFull", "DiskOnFire"))
    assert await other(path).load() == Kept()


async def test_a_file_that_cannot_be_read_is_said_and_left(path):
    path.mkdir(parents=True)
    with capture_logs() as logs:
        assert await other(path).load() == Kept()
    assert [e["event"] for e in logs] == ["The alerts' file cannot be read"]
    assert path.is_dir()


async def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(OSError, match="File exists"):
        await AlertFile(tmp_path / "spool").save(KEPT)


async def test_after_an_error_everything_is_written_again(path):
    file = other(path)
    await file.save(KEPT)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        await file.save(Kept(KEPT.servers))
    path.rmdir()
    await file.save(KEPT)
    assert await other(path).load() == KEPT


async def test_it_is_json_of_one_line_for_each_thing(path):
    await other(path).save(KEPT)
    read = json.loads(path.read_text())
    assert set(read) == {"version", "servers", "ended", "errands"}
    things = [line for line in path.read_text().splitlines() if line.startswith("{")]
    assert len(things) == 1 + 2 + 1 + 3


async def test_a_save_that_was_given_up_ends_before_the_next_begins(path, monkeypatch):
    file, hangs = other(path), threading.Event()
    real = os.fsync

    def hanging(descriptor: int) -> None:
        hangs.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", hanging)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await file.save(KEPT)
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await file.save(Kept())
    assert threading.active_count() == threads
    hangs.set()
    await file.save(Kept(KEPT.servers))
    assert await other(path).load() == Kept(KEPT.servers)


def test_off_means_no_file(tmp_path):
    assert alert_file("off") is None
    assert alert_file(str(tmp_path)) is not None
