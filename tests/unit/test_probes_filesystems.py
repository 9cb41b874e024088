"""Filesystems: which rows count, and in which order."""

from __future__ import annotations

import pytest

from hostwatch.model.reading import Filesystem, Filesystems
from hostwatch.probes import parse

UPTIME = "/proc/uptime:60.00 50.00"


def read(*rows: tuple[str, str], extra: str = "") -> Filesystems | str:
    """Return the filesystems of (mount, stat) rows, or why there are none."""
    lines = [UPTIME, extra]
    lines += [f"mount:{mount}" for mount, _ in rows]
    lines += [f"stat:{row}" for _, row in rows if row]
    readings = parse("\n".join(lines))
    return readings.get(Filesystems) or readings.missing["filesystems"]


def mounts(found: Filesystems | str) -> list[str]:
    assert isinstance(found, Filesystems)
    return [filesystem.mount_point for filesystem in found.mounted]


GOOD = ("ext4 /dev/good /good", "1 100 50 40 9 9 ef53")


def test_percent_is_what_df_shows() -> None:
    found = read(GOOD)

    assert isinstance(found, Filesystems)
    assert found.mounted == (Filesystem("/good", "/dev/good", "ext4", 100, 50, 40),)
    assert found.mounted[0].percent == pytest.approx(55.5556, abs=1e-4)


@pytest.mark.parametrize(
    "row",
    [
        ("nfs server:/x /x", "1 100 50 40 9 9 6969"),  # never asked for
        ("ext4 /dev/x /x", "1 100 50 40 9 9 1021994"),  # a tmpfs over it
        ("ext4 /dev/x x", "1 100 50 40 9 9 ef53"),  # no path
        ("ext4 /dev/x /x", "1 0 0 0 0 0 ef53"),  # no blocks
        ("ext4 /dev/x /x", "1 100 101 40 9 9 ef53"),  # more free than there is
        ("ext4 /dev/x /x", "1 100 50 18446744073709551615 9 9 ef53"),
        ("ext4 /dev/x /x", "1 -100 50 40 9 9 ef53"),
        ("ext4 /dev/x /x", "4096 9223372036854775807 50 40 9 9 ef53"),
    ],
)
def test_a_row_that_cannot_be_true_leaves_the_others(row: tuple[str, str]) -> None:
    assert mounts(read(row, GOOD)) == ["/good"]
    assert read(row) == "no filesystem could be measured"


def test_rows_that_do_not_pair_count_for_nothing() -> None:
    assert read(GOOD, ("ext4 /dev/x /x", "")) == "a filesystem did not answer"


@pytest.mark.parametrize(
    "row",
    [
        ("ext4 /dev/x /x y", "1 100 50 40 9 9 ef53"),
        ("ext4 /dev/x /x", "1 100 50 40 ef53"),
        ("ext4 /dev/x /x", "1 100 50 40 9 9 what"),
    ],
)
def test_rows_of_another_shape_count_for_nothing(row: tuple[str, str]) -> None:
    assert read(GOOD, row) == "the server's output could not be read"


def test_a_magic_number_may_come_with_its_sign_extended() -> None:
    assert mounts(read(("f2fs /dev/x /x", "1 100 50 40 9 9 fffffffff2f52010"))) == [
        "/x"
    ]


def test_a_device_counts_once_at_its_shortest_mount_point() -> None:
    row = "1 100 50 40 9 9 ef53"

    assert mounts(read(("ext4 /dev/a /long/er", row), ("ext4 /dev/a /b", row))) == [
        "/b"
    ]


def test_mount_points_that_look_the_same_count_once_the_fullest() -> None:
    found = read(
        ("ext4 /dev/a /x\\001", "1 100 50 40 9 9 ef53"),
        ("ext4 /dev/b /x\\002", "1 100 10 10 9 9 ef53"),
    )

    assert isinstance(found, Filesystems)
    assert [(f.mount_point, f.device) for f in found.mounted] == [
        ("/x\ufffd", "/dev/b")
    ]


def test_the_hundred_fullest_are_kept_and_the_rest_counted() -> None:
    rows = [(f"ext4 /dev/{n} /m{n}", f"1 1000 {n} {n} 9 9 ef53") for n in range(150)]

    found = read(*rows, extra="more:7")

    assert mounts(found) == [f"/m{n}" for n in range(100)]
    assert isinstance(found, Filesystems)
    assert found.omitted == 57


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("/a\\040b", "/a b"),
        ("/a\\134012", "/a\\012"),
        ("/a\\000b", "/a\ufffdb"),
        ("/a\x00b", "/a\ufffdb"),
        ("/a\udcffb", "/a\ufffdb"),
        ("/a\\033[2J\x1b", "/a\ufffd[2J\ufffd"),
        ("/a\u202eb\u2028", "/a\ufffdb\ufffd"),
        ("/é\\303", "/éÃ"),
        ("/" + "x" * 5000, "/" + "x" * 1023),
    ],
)
def test_a_mount_point_is_shown_decoded_and_harmless(written: str, shown: str) -> None:
    assert mounts(read((f"ext4 /dev/x {written}", GOOD[1]))) == [shown]
