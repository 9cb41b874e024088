"""The values of a sample out of readings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hostwatch.model.reading import (
    Cpu,
    CpuTimes,
    CpuUsage,
    Filesystem,
    Filesystems,
    Interface,
    Load,
    Memory,
    Network,
    Readings,
    Uptime,
)
from hostwatch.model.sample import Metrics
from hostwatch.probes import summarize

NOW = datetime(2026, 11, 24, 12, 0, 0, 400_000, tzinfo=UTC)
BOOT = "11111111-2222-3333-4444-555555555555"


def ticks(user: int, idle: int) -> CpuTimes:
    return CpuTimes(user, 0, 0, idle, 0, 0, 0, 0)


def busy(percent: float) -> CpuUsage:
    return CpuUsage(total=percent, user=percent, system=0, iowait=0, steal=0)


def filesystem(point: str, used: int) -> Filesystem:
    return Filesystem(point, f"/dev{point}", "ext4", 100, used, 100 - used)


def readings(*found: object, missing: dict[str, str] | None = None) -> Readings:
    return Readings({type(reading): reading for reading in found}, missing or {})


def summary(
    *found: object,
    before: tuple[CpuTimes, Uptime] | None = None,
    exclude: tuple[str, ...] = (),
    missing: dict[str, str] | None = None,
) -> Metrics:
    return summarize(
        readings(*found, missing=missing),
        collected_at=NOW,
        before=before,
        exclude=exclude,
    )


def test_all_readings_are_flattened() -> None:
    mounted = (filesystem("/var", 90), filesystem("/", 10))
    interfaces = (Interface("eth0", 1, 2), Interface("eth1", 10, 20))

    metrics = summary(
        Cpu(now=ticks(50, 150), earlier=ticks(0, 100)),
        Memory(total=1000, used=250),
        Load(0.1, 0.2, 0.3),
        Uptime(100.9, BOOT),
        Network(interfaces),
        Filesystems(mounted),
    )

    assert metrics == Metrics(
        cpu=busy(50),
        memory_used=250,
        memory_total=1000,
        disk_used=90,
        disk_available=10,
        disk_total=100,
        disk_mount="/var",
        network_receive_bytes=11,
        network_transmit_bytes=22,
        load=(0.1, 0.2, 0.3),
        uptime_seconds=100,
        boot_time=datetime(2026, 11, 24, 11, 58, 19, tzinfo=UTC),
        filesystems=mounted,
        interfaces=interfaces,
        missing={},
    )


def test_what_was_not_read_is_absent_and_its_reason_kept() -> None:
    why = {"cpu": "no cpu", "filesystems": "no mounts", "network": "no network"}

    assert summary(Load(1, 2, 3), missing=why) == Metrics(load=(1, 2, 3), missing=why)


def test_memory_without_available_says_why() -> None:
    metrics = summary(Memory(total=1000, used=None), missing={"cpu": "no cpu"})

    assert metrics.memory_used is None
    assert metrics.memory_total == 1000
    assert metrics.missing["memory"] == (
        "/proc/meminfo has no MemAvailable (Linux before 3.14)"
    )


EARLIER = ticks(0, 0)  # 20 % against now
SAMPLE = ticks(0, 60)  # 50 % against now
NEW = ticks(20, 80)


@pytest.mark.parametrize(
    ("earlier", "age", "boot_id", "percent"),
    [
        (EARLIER, 30, BOOT, 50),
        (EARLIER, 5, BOOT, 50),
        (EARLIER, 0.9, BOOT, 20),
        (EARLIER, 600, BOOT, 50),
        (EARLIER, 601, BOOT, 20),
        (EARLIER, -5, BOOT, 20),
        (EARLIER, 30, "another", 20),
        (EARLIER, 30, None, 20),
        (None, 601, BOOT, 50),
        (None, 0.9, BOOT, None),
        (None, 30, "another", None),
    ],
)
def test_cpu_is_taken_between_the_samples_or_within_the_document(
    earlier: CpuTimes | None, age: float, boot_id: str | None, percent: float | None
) -> None:
    metrics = summary(
        Cpu(now=NEW, earlier=earlier),
        Uptime(1000.0, BOOT),
        before=(SAMPLE, Uptime(1000.0 - age, boot_id)),
    )

    assert metrics.cpu == (None if percent is None else busy(percent))
    assert ("cpu" in metrics.missing) == (percent is None)


def test_a_server_without_a_boot_id_is_compared_by_its_uptime() -> None:
    metrics = summary(
        Cpu(now=NEW), Uptime(1000.0, None), before=(SAMPLE, Uptime(970.0, None))
    )

    assert metrics.cpu == busy(50)


def test_counters_that_went_back_fall_back_to_the_document() -> None:
    before = (ticks(1000, 1000), Uptime(970.0, BOOT))
    uptime = Uptime(1000.0, BOOT)

    assert summary(Cpu(NEW, EARLIER), uptime, before=before).cpu == busy(20)
    assert summary(Cpu(NEW), uptime, before=before).cpu is None


def test_excluded_filesystems_are_not_counted() -> None:
    mounted = Filesystems((filesystem("/var/lib/docker/a", 99), filesystem("/", 10)))

    some = summary(mounted, exclude=("/var/lib/docker/**",))
    none = summary(mounted, exclude=("**",))

    assert some.disk_mount == "/"
    assert some.filesystems == (filesystem("/", 10),)
    assert none.disk_mount is None
    assert none.missing["disk"] == "every filesystem is excluded"


@pytest.mark.parametrize("latency", [-0.9, 0.0, 0.7, 3.0])
def test_the_boot_time_is_the_servers_own_and_stands_still(latency: float) -> None:
    booted = int(NOW.timestamp()) - 1000
    metrics = summary(Uptime(1000.0 + latency, BOOT, booted))

    assert metrics.boot_time == datetime.fromtimestamp(booted, UTC)


@pytest.mark.parametrize("booted", [0, 2**63 - 1, int(NOW.timestamp()) - 5000])
def test_a_boot_time_of_another_clock_is_reckoned_from_the_uptime(booted: int) -> None:
    metrics = summary(Uptime(1000.0, BOOT, booted))

    assert metrics.boot_time == NOW.replace(microsecond=0) - timedelta(seconds=1000)
