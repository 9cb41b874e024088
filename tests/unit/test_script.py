"""The script itself, run by real shells with real tools."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from hostwatch.model.reading import Cpu, Filesystems, Load, Memory, Network, Uptime
from hostwatch.probes import parse
from hostwatch.probes.document import PROBES
from hostwatch.probes.script import GREETING, SCRIPT, VERSION, compose
from world.script import FIRST, SECOND, by, eventually, installed, make_tools, session

SHELLS = ["dash", "bash", "bash --posix", "busybox", "mksh"]
LOGIN_SHELLS = ["bash", "dash", "tcsh", "fish", "zsh", "bash -r", "busybox sh"]

AT_ONCE = SCRIPT.replace("sleep 1;", "")
"""The script without the second that a first answer takes."""


@pytest.fixture(params=SHELLS)
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_tools(tmp_path, request.param)


def test_the_text_passes_through_any_login_shell_and_authorized_keys() -> None:
    assert re.fullmatch(r"sh -c '[ -~]+'", SCRIPT)
    assert len(SCRIPT) <= 4096
    assert SCRIPT.count("'") == 2
    for forbidden in ("!", "\\\\", "exec sh", "/bin/sh", "`", "echo"):
        assert forbidden not in SCRIPT
    assert not re.search("@[A-Z]", SCRIPT)  # a mark that nothing was put in for
    assert f"HOSTWATCH {VERSION}" == GREETING == "HOSTWATCH 1"


def test_only_the_mount_table_stands_behind_where_the_script_cuts() -> None:
    assert PROBES[-1].files == ("/proc/mounts",)
    assert all("/proc/mounts" not in probe.files for probe in PROBES[:-1])


def test_no_pattern_takes_a_mount_line_but_the_one_for_mounts() -> None:
    patterns = [p for probe in PROBES[:-1] for p in probe.patterns]
    text = "|".join(patterns).replace("${nics:-[^ :]+}", "eth0|[^ :]+")
    sources = ("eth0:/x", "eth0:", "cpu", "btime", "size", "c_min", "MemTotal:", "1.0")
    lines = [f"{source} /mnt nfs4 rw,addr=10.0.0.1:5 0 0" for source in sources]

    found = subprocess.run(
        ["grep", "-E", text],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout == ""
    assert found.returncode == 1


def assert_plausible(body: str, *, first: bool) -> None:
    readings = parse(body)
    cpu, memory = readings.get(Cpu), readings.get(Memory)
    uptime, load = readings.get(Uptime), readings.get(Load)
    assert cpu
    assert cpu.now.user > 0
    assert (cpu.earlier is not None) == first
    assert memory
    assert memory.total > 2**20
    assert memory.used is None or 0 < memory.used < memory.total
    assert uptime
    now = float(Path("/proc/uptime").read_text().split()[0])
    assert now - 60 < uptime.seconds <= now
    assert load
    assert 0 <= load.one < 10_000
    assert not readings.missing.keys() & {"cpu", "memory", "uptime", "load"}
    network, filesystems = readings.get(Network), readings.get(Filesystems)
    known = psutil.net_io_counters(pernic=True)
    assert network is None or {i.name for i in network.interfaces} <= known.keys()
    for mounted in filesystems.mounted if filesystems else ():
        assert Path(mounted.mount_point).exists()
        assert mounted.total > 0
        assert 0 <= mounted.used <= mounted.total
    assert len(body) < 8192


def test_every_shell_answers_and_ends_when_its_input_does(tools: Path) -> None:
    with session(by(tools), tools) as running:
        running.greeted()

        assert_plausible(running.ask(FIRST), first=True)
        assert_plausible(running.ask(SECOND), first=False)
        assert running.ask(FIRST, word="fs") == "\n"

        running.stdin.close()
        assert eventually(running.ended)
        assert running.stdout.read() == b""
        assert running.process.stderr
        assert running.process.stderr.read() == b""


@pytest.mark.parametrize("login", LOGIN_SHELLS)
def test_every_login_shell_passes_the_script_on(login: str, tmp_path: Path) -> None:
    program, *options = login.split()
    with session([installed(program), *options, "-c", SCRIPT], tmp_path) as running:
        running.greeted()

        assert_plausible(running.ask(FIRST), first=True)
        assert_plausible(running.ask(SECOND), first=False)

        running.send("top 0123456789abcdef\n")
        assert eventually(running.ended)


@pytest.mark.parametrize(
    "request_line",
    [
        "top 0123456789abcdef",
        "uname -a",
        "",
        "all",
        "all 0123456789abcde",
        "all 0123456789abcdef0",
        "all 0123456789ABCDEF",
        "all  0123456789abcdef",
        "all 0123456789abcdef fs",
        "all $(touch pwned)----",
    ],
)
def test_any_other_input_ends_the_script(request_line: str, tmp_path: Path) -> None:
    with session(by(make_tools(tmp_path, "dash")), tmp_path) as running:
        running.greeted().send(f"{request_line}\n")

        assert eventually(running.ended)
        assert running.stdout.read() == b""


def test_bad_input_leaves_no_process_in_any_shell(tools: Path) -> None:
    with session(by(tools), tools) as running:
        running.greeted().send("shutdown\n")

        assert eventually(running.ended)


def test_an_end_before_the_greeting_leaves_no_process(tools: Path) -> None:
    with session(by(tools), tools) as running:
        running.stdin.close()

        assert eventually(running.ended)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_shell_leaves_no_process(
    tools: Path, number: signal.Signals
) -> None:
    with session(by(tools), tools) as running:
        running.greeted().process.send_signal(number)

        assert eventually(running.ended)


def test_an_answer_that_nobody_takes_leaves_no_process(tools: Path) -> None:
    with session(by(tools), tools) as running:
        running.greeted().stdout.close()
        running.send(f"fs {FIRST}\n")
        running.stdin.close()

        assert eventually(running.ended)


def test_two_hundred_answers_leave_three_processes_and_no_zombie(tools: Path) -> None:
    with session(by(tools, AT_ONCE), tools) as running:
        running.greeted()
        running.ask()
        for n in range(200):
            assert "/proc/loadavg:" in running.ask(f"{n:016x}")

        def at_rest() -> bool:
            family = psutil.Process(running.process.pid).children(recursive=True)
            zombies = [p for p in family if p.status() == psutil.STATUS_ZOMBIE]
            return not zombies and len(running.processes()) == 3

        assert eventually(at_rest)  # the shell, its watchdog, the watchdog's sleep


def test_a_shell_that_nothing_is_asked_of_ends_itself(tools: Path) -> None:
    with session(by(tools, compose(idle_seconds=1)), tools) as running:
        running.greeted()

        assert eventually(running.ended)


def test_a_shell_that_is_asked_stays(tools: Path) -> None:
    with session(by(tools, compose(idle_seconds=1)), tools) as running:
        running.greeted()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            running.ask()
            time.sleep(0.2)

        assert running.process.poll() is None


def test_the_watchdog_goes_when_its_shell_was_killed(tools: Path) -> None:
    with session(by(tools, compose(idle_seconds=1)), tools) as running:
        running.greeted().process.kill()

        assert eventually(running.ended)


class Mounts:
    """A mount table of our own, in place of the kernel's."""

    def __init__(self, folder: Path) -> None:
        self.table = folder / "table"
        self.folder = folder / "m"
        self.folder.mkdir()

    def script(self) -> str:
        return AT_ONCE.replace("/proc/mounts", str(self.table))

    def write(self, *mounts: tuple[str, str, str]) -> None:
        """Write (device, name, type) of mounts; each gets a directory of that name."""
        lines = []
        for device, name, kind in mounts:
            point = self.folder / name
            if "absent" not in name:
                point.mkdir(parents=True, exist_ok=True)
            lines.append(f"{device} {self.escape(str(point))} {kind} rw,x=a:b 0 0\n")
        self.table.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))

    @staticmethod
    def escape(path: str) -> str:
        """Write a path as the kernel does in /proc/mounts."""
        return re.sub(r"[ \t\n\\#]", lambda c: f"\\{ord(c[0]):03o}", path)

    def of(self, body: str) -> list[str]:
        """Return the printed table, without this folder; as many rows belong to it."""
        lines = body.split("\n")
        table = [line for line in lines if line.startswith("mount:")]
        rows = [line for line in lines if line.startswith("stat:")]
        assert len(table) == len(rows)
        assert all(re.fullmatch(r"stat:(\d+ ){6}[0-9a-f]+", row) for row in rows)
        assert str(self.table) not in body
        return [line.replace(f"{self.folder}/", "") for line in table]


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts(tmp_path)


HOSTILE = [
    f"a\nEND {FIRST}\nstat:1 2 3 4 5 6 ef53",
    "newline at the end\n",
    "tab\tand\\backslash",
    "p%s%d\\n",
    "*",
    "[a-z]?",
    "-f",
    "$(id)`id`;'\"",
    "\udcff\udcfe",
    "\x1b[2Jclear",
    "ü",
    "#x",
]


def test_hostile_mount_points_are_asked_and_cannot_break_the_frame(
    tools: Path, mounts: Mounts
) -> None:
    mounts.write(*((f"/dev/{n}", name, "ext4") for n, name in enumerate(HOSTILE)))
    with session(by(tools, mounts.script()), tools) as running:
        running.greeted().send(f"all {FIRST}\n")
        assert running.stdout.readline() == f"BEGIN {FIRST}\n".encode()
        lines = iter(running.stdout.readline, f"END {FIRST}\n".encode())
        body = b"".join(lines).decode("utf-8", "surrogateescape")

        assert mounts.of(body) == [
            f"mount:ext4 /dev/{n} {mounts.escape(name)}"
            for n, name in enumerate(HOSTILE)
        ]
        running.stdin.close()
        assert eventually(running.ended)


def test_one_mount_point_per_device_is_asked(tools: Path, mounts: Mounts) -> None:
    mounts.write(
        ("/dev/a", "long/bind", "ext4"),
        ("/dev/a", "a", "ext4"),
        ("/dev/a", "b", "ext4"),
        ("/dev/hidden", "over", "ext4"),
        ("server:/x", "over", "nfs4"),
        ("/dev/lower", "twice", "xfs"),
        ("/dev/upper", "twice", "btrfs"),
        ("tmpfs", "t", "tmpfs"),
        ("/dev/loop0", "snap", "squashfs"),
        ("/dev/odd", "odd", "ext4x"),
        ("tank/home", "home", "zfs"),
    )
    with session(by(tools, mounts.script()), tools) as running:
        assert mounts.of(running.greeted().ask()) == [
            "mount:ext4 /dev/a a",
            "mount:btrfs /dev/upper twice",
            "mount:zfs tank/home home",
        ]


def test_a_change_of_mounts_is_seen_at_the_next_answer(
    tools: Path, mounts: Mounts
) -> None:
    mounts.write(("/dev/a", "a", "ext4"))
    with session(by(tools, mounts.script()), tools) as running:
        seen = [mounts.of(running.greeted().ask())]
        for names in ("ab", "b", "", "b"):
            mounts.write(*((f"/dev/{name}", name, "ext4") for name in names))
            seen.append(mounts.of(running.ask()))

    a, b = "mount:ext4 /dev/a a", "mount:ext4 /dev/b b"
    assert seen == [[a], [a, b], [b], [], [b]]


def test_a_mount_that_cannot_be_asked_is_left_out(tools: Path, mounts: Mounts) -> None:
    mounts.write(("/dev/x", "absent", "ext4"), ("/dev/a", "a", "ext4"))
    with session(by(tools, mounts.script()), tools) as running:
        assert mounts.of(running.greeted().ask()) == ["mount:ext4 /dev/a a"]

        (mounts.folder / "a").rmdir()
        assert mounts.of(running.ask()) == []


def test_two_hundred_devices_are_asked_and_the_rest_counted(
    tmp_path: Path, mounts: Mounts
) -> None:
    mounts.write(*((f"pool/{n}", f"d{n}", "zfs") for n in range(230)))
    tools = make_tools(tmp_path, "dash")
    with session(by(tools, mounts.script()), tools) as running:
        body = running.greeted().ask()

    assert mounts.of(body) == [f"mount:zfs pool/{n} d{n}" for n in range(200)]
    assert "\nmore:30\n" in body


def test_without_grep_or_stat_the_answer_is_short_and_framed(tmp_path: Path) -> None:
    for name in ("grep", "stat", "awk", "sleep"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    tools = make_tools(tmp_path, "dash")
    with session(by(tools), tools) as running:
        body = running.greeted().ask()

    assert "/proc/loadavg" not in body
    assert "\ndevices:" in body
