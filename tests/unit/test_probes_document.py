"""What is read out of a document: golden ones, wrong ones, hostile ones."""

from __future__ import annotations

import math
from pathlib import Path
from string import printable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.model.reading import (
    Cpu,
    CpuTimes,
    Filesystem,
    Filesystems,
    Interface,
    Load,
    Memory,
    Network,
    Readings,
    Uptime,
)
from hostwatch.model.reason import CollectionError, Reason
from hostwatch.probes import parse

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
BOOT_ID = "11111111-2222-3333-4444-555555555555"
CPU = "/proc/stat:cpu  1 0 1 8 0 0 0 0 0 0\n"


def golden(name: str) -> Readings:
    return parse((DOCUMENTS / f"{name}.txt").read_text())


def test_a_first_answer_of_debian_is_read_whole() -> None:
    readings = golden("debian-12")

    assert readings.missing == {}
    assert readings.get(Cpu) == Cpu(
        now=CpuTimes(221848, 42481, 54841, 305264, 8814, 0, 1050, 405),
        earlier=CpuTimes(221758, 42471, 54831, 305254, 8804, 0, 1040, 395),
    )
    assert readings.get(Memory) == Memory(total=25276514304, used=1859960832)
    assert readings.get(Load) == Load(5.69, 5.58, 3.66)
    assert readings.get(Uptime) == Uptime(
        3198.40, "ad0f980b-3f43-456f-a90b-54d9fa5b4019", 1795519776
    )
    assert readings.get(Network) == Network((Interface("eth0", 993902721, 2293089),))
    assert readings.get(Filesystems) == Filesystems(
        mounted=(
            Filesystem(
                mount_point="/srv/p%s\\101*[x]",
                device="/dev/mapper/vg-data",
                type="xfs",
                total=4096000,
                used=3072000,
                available=1024000,
            ),
            Filesystem(
                mount_point="/",
                device="/dev/vda",
                type="ext4",
                total=270553174016,
                used=23699083264,
                available=74094211072,
            ),
            Filesystem(
                mount_point="/srv/c\ufffdEND 0123456789abcdef\ufffdstat:1",
                device="/dev/loop1",
                type="ext4",
                total=18277376,
                used=14336,
                available=16795648,
            ),
        ),
    )


def test_a_later_answer_of_busybox_has_no_earlier_read() -> None:
    readings = golden("alpine-busybox")

    assert readings.missing == {}
    assert readings.get(Cpu) == Cpu(CpuTimes(100, 0, 50, 800, 10, 0, 5, 0))
    assert readings.get(Memory) == Memory(total=1024000000, used=256000000)
    assert readings.get(Network) == Network(
        (Interface("eth0", 5000, 7000), Interface("eth1", 300, 400))
    )
    assert mounts(readings) == ["/boot", "/", "/boot/efi"]


def test_an_old_kernel_tells_no_steal_and_no_available_memory() -> None:
    readings = golden("centos-6")

    assert readings.missing == {}
    assert readings.get(Cpu) == Cpu(CpuTimes(100, 20, 30, 400, 50, 6, 7, 0))
    assert readings.get(Memory) == Memory(total=1045192704, used=None)
    assert readings.get(Network) == Network((Interface("eth0", 5000, 7000),))
    assert mounts(readings) == ["/"]


def test_a_kubernetes_node_counts_the_mounts_that_were_not_asked() -> None:
    readings = golden("kubernetes-node")
    filesystems = readings.get(Filesystems)

    assert filesystems is not None
    assert filesystems.omitted == 12
    assert mounts(readings) == [
        "/var/lib/containerd",
        "/",
        "/var/lib/kubelet/pods/0b/volumes/kubernetes.io~csi/pv-1/mount",
    ]


def test_a_container_keeps_its_memory_from_the_cache_of_its_host() -> None:
    readings = golden("lxc")

    assert readings.get(Memory) == Memory(total=1073741824, used=536870912)
    assert readings.get(Network) == Network(
        (Interface("eth0", 5000, 7000),), physical=False
    )
    assert readings.missing == {}


def test_the_zfs_cache_counts_as_available_down_to_its_minimum() -> None:
    readings = golden("zfs-server")

    assert readings.get(Memory) == Memory(total=32 * 2**30, used=(24 - 15) * 2**30)
    assert readings.get(Uptime) == Uptime(60.0, None)
    assert readings.get(Network) == Network((Interface("eno1", 5000, 7000),))
    assert mounts(readings) == ["/home", "/tank"]


def test_what_is_missing_is_said_and_never_zero() -> None:
    readings = golden("gvisor")

    assert readings.get(Memory) == Memory(total=2 * 2**30, used=2**30)
    assert readings.get(Uptime) == Uptime(60.0, None)
    assert [readings.get(kind) for kind in (Cpu, Load, Network, Filesystems)] == (
        [None] * 4
    )
    assert readings.missing == {
        "cpu": "/proc/stat has no cpu line",
        "load": "/proc/loadavg could not be read",
        "network": "there is no network interface but lo",
        "filesystems": "no local filesystem is mounted, or none may be asked",
    }


def mounts(readings: Readings) -> list[str]:
    filesystems = readings.get(Filesystems)
    assert filesystems is not None
    return [filesystem.mount_point for filesystem in filesystems.mounted]


@pytest.mark.parametrize("body", ["", "\n", "Darwin\n", "sh: grep: not found", "/proc"])
def test_a_document_without_proc_is_not_linux(body: str) -> None:
    with pytest.raises(CollectionError) as failure:
        parse(body)

    assert failure.value.reason is Reason.NOT_LINUX
    assert failure.value.reached


@pytest.mark.parametrize(
    "body", ["/proc/stat:cpu what\n", "/proc/uptime:\n/proc/loadavg:nan nan nan\n"]
)
def test_a_document_that_nothing_can_be_read_of_is_unreadable(body: str) -> None:
    with pytest.raises(CollectionError) as failure:
        parse(body)

    assert failure.value.reason is Reason.OUTPUT_UNREADABLE
    assert failure.value.reached


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("/proc/loadavg:nan 0.1 0.1 1/1 1", "load", "a number is not one"),
        ("/proc/loadavg:1e308 0.1 0.1 1/1 1", "load", "a number is not one"),
        ("/proc/loadavg:-1 0.1 0.1 1/1 1", "load", "a number is not one"),
        ("/proc/uptime:99999999999 1", "uptime", "a number is not one"),
        ("/proc/uptime:9999999999 1", "uptime", "the uptime is more than a century"),
        ("/proc/meminfo:MemTotal: 0 kB", "memory", "MemTotal is 0"),
        ("/proc/meminfo:MemTotal: -5 kB", "memory", "a number is not one"),
        ("/proc/meminfo:MemTotal: 1_000 kB", "memory", "a number is not one"),
        ("/proc/meminfo:MemTotal: ٣ kB", "memory", "a number is not one"),
        (
            "/proc/meminfo:MemTotal: 9223372036854775807 kB",
            "memory",
            "a number is out of range",
        ),
        (
            "/proc/meminfo:MemTotal: 5 kB\n/proc/meminfo:MemAvailable: 6 kB",
            "memory",
            "MemAvailable is more than MemTotal",
        ),
        (
            "/proc/meminfo:MemTotal:",
            "memory",
            "the server's output could not be read",
        ),
        (
            "/proc/net/dev:eth0: 9223372036854775808 0 0 0 0 0 0 0 1",
            "network",
            "a number is out of range",
        ),
        (
            "/proc/net/dev:eth0: 5 5",
            "network",
            "the server's output could not be read",
        ),
        (
            "\n".join(
                f"/proc/net/dev:{n}: 9223372036854775807 0 0 0 0 0 0 0 1" for n in "ab"
            ),
            "network",
            "a number is out of range",
        ),
        (
            "\n".join(f"/proc/net/dev:veth{i}: 1 0 0 0 0 0 0 0 1" for i in range(101)),
            "network",
            "there are more than 100 network interfaces",
        ),
    ],
)
def test_a_value_that_cannot_be_is_not_measured(
    line: str, name: str, reason: str
) -> None:
    readings = parse(f"{CPU}{line}\n")

    assert readings.missing[name] == reason
    assert readings.get(Cpu) is not None


def test_a_short_cpu_line_is_not_measured() -> None:
    readings = parse("/proc/stat:cpu 1 2 3\n/proc/loadavg:1 2 3 4/5 6\n")

    assert readings.missing["cpu"] == "the cpu line of /proc/stat is too short"


NUMBERS = st.sampled_from(
    ["0", "1", "-1", "nan", "inf", "1e308", str(2**63), str(2**63 - 1), "9" * 5000, "²"]
)
SOURCES = st.sampled_from(
    [
        *("/proc/stat:cpu ", "/proc/stat:btime ", "earlier:cpu ", "/proc/loadavg:"),
        *("/proc/meminfo:MemTotal: ", "/proc/meminfo:MemAvailable: ", "/proc/uptime:"),
        *("/proc/spl/kstat/zfs/arcstats:size 4 ", "/proc/net/dev:eth0:", "devices:"),
        *("/proc/spl/kstat/zfs/arcstats:c_min 4 ", "mount:", "stat:", "more:"),
        *("mount:ext4 /dev/a /", "stat:4096 10 5 5 1 1 ", "/proc/mounts:"),
        "/proc/sys/kernel/random/boot_id:",
    ]
)
WORDS = st.one_of(
    NUMBERS, st.integers(0, 2**65).map(str), st.text(max_size=9), st.just("ef53")
)
LINES = st.builds(
    lambda source, words: source + " ".join(words), SOURCES, st.lists(WORDS, max_size=9)
)
BODIES = st.one_of(
    st.text(),
    st.lists(st.one_of(LINES, st.text(max_size=30))).map("\n".join),
    st.lists(LINES).map(lambda lines: CPU + "\n".join(lines)),
)


@given(BODIES)
def test_any_text_gives_readings_in_range_or_one_error(body: str) -> None:
    reading = read(body)

    if isinstance(reading, CollectionError):
        assert reading.reason in {Reason.NOT_LINUX, Reason.OUTPUT_UNREADABLE}
        assert set(str(reading)) <= set(printable)
    else:
        check(reading)


def read(body: str) -> Readings | CollectionError:
    try:
        return parse(body)
    except CollectionError as failure:
        return failure


def check(readings: Readings) -> None:
    numbers: list[float] = []
    names: list[str] = list(readings.missing.values())
    for cpu in filter(None, [readings.get(Cpu)]):
        numbers += [cpu.now.user, cpu.now.idle, cpu.now.steal]
    for memory in filter(None, [readings.get(Memory)]):
        numbers += [memory.total, memory.used or 0]
    for network in filter(None, [readings.get(Network)]):
        numbers += [i.receive_bytes for i in network.interfaces]
        names += [i.name for i in network.interfaces]
    for load in filter(None, [readings.get(Load)]):
        numbers += [load.one, load.five, load.fifteen]
    for uptime in filter(None, [readings.get(Uptime)]):
        numbers += [uptime.seconds, uptime.booted or 0]
    for filesystems in filter(None, [readings.get(Filesystems)]):
        numbers += [filesystems.omitted]
        for f in filesystems.mounted:
            numbers += [f.total, f.used, f.available]
            names += [f.mount_point, f.device, f.type]
    assert all(math.isfinite(n) and 0 <= n < 2**63 for n in numbers)
    assert all(name.isprintable() for name in names)
