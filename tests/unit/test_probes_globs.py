"""Globs on mount points."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwatch.probes.globs import compile_globs


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/data", "/data", True),
        ("/data", "/data2", False),
        ("/", "/", True),
        ("", "/", False),
        ("/mnt/*", "/mnt/a", True),
        ("/mnt/*", "/mnt/", True),
        ("/mnt/*", "/mnt/a/b", False),
        ("/mnt/*/b", "/mnt/a/b", True),
        ("/mnt/a*c", "/mnt/abbc", True),
        ("/mnt/?", "/mnt/a", True),
        ("/mnt/?", "/mnt/", False),
        ("/mnt?a", "/mnt/a", False),
        ("/var/lib/docker/**", "/var/lib/docker/overlay2/x/merged", True),
        ("/var/lib/docker/**", "/var/lib/docker", False),
        ("/var/lib/docker**", "/var/lib/docker", True),
        ("/a/**/b", "/a/b", True),
        ("/a/**/b", "/a/x/y/b", True),
        ("/a/**/b", "/a/xb", False),
        ("/a/**/**/*", "/a/b", True),
        ("**", "/any/thing", True),
        ("**/b", "/a/b", True),
        ("/a***b", "/a/x/b", True),
        ("/[a]", "/a", False),
        ("/[a]", "/[a]", True),
        ("/a.c", "/abc", False),
        ("/é*", "/éa", True),
    ],
)
def test_a_glob_matches_the_whole_mount_point(
    pattern: str, path: str, *, matches: bool
) -> None:
    assert compile_globs((pattern,)).match(path) is matches


def test_any_pattern_of_several_is_enough() -> None:
    globs = compile_globs(("/a/*", "/b", "/c/**"))

    assert [globs.match(path) for path in ("/a/x", "/b", "/c/d/e", "/d", "/a/x/y")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_no_pattern_matches_nothing() -> None:
    assert not compile_globs(()).match("/")


def test_hostile_patterns_and_paths_take_one_step_per_character() -> None:
    # Backtracking would need more than 2^100 steps here: this ends, or the test hangs.
    patterns = tuple(
        "/" + f"{c}*" * 127 + "b" for c in "abcdefghijklmnopqrstuvwxyzABCDEF"
    )
    path = "/" + "a" * 1023

    assert not compile_globs(patterns).match(path)
    assert not compile_globs(("/" + "**/*a" * 50 + "**b",)).match("/a" * 500)


def test_only_the_start_of_a_very_long_mount_point_counts() -> None:
    path = "/a/" + "x" * 300

    assert compile_globs(("/a/*",)).match(path)
    assert compile_globs(("/a/" + "?" * 253,)).match(path)
    assert not compile_globs(("/a/**/y",)).match(path + "/y")


HOSTILE = tuple(f"/**/{'*?' * 124}{c}" for c in "abcdefghijklmnopqrstuvwxyzABCDEF")


def test_the_mounts_of_a_sample_cost_little_and_nothing_the_next_time() -> None:
    globs = compile_globs(HOSTILE)
    paths = [f"/{n:03}{'-' * 1020}" for n in range(100)]

    def cost() -> float:
        before = time.thread_time()
        assert not any(globs.match(path) for path in paths)
        return time.thread_time() - before

    # The time of the processor alone, several times what it takes.
    assert cost() < 0.25
    assert cost() < 0.005


def test_answers_are_kept_per_set_of_globs() -> None:
    for _ in range(2):
        assert compile_globs(("/a",)).match("/a")
        assert not compile_globs(("/b",)).match("/a")
        assert compile_globs(("/b", "/a")).match("/a")


def expected(pattern: str) -> re.Pattern[str]:
    """Write a short glob as a regular expression, which may backtrack."""
    text = re.escape(re.sub(r"(?<=/)(\*\*/)+", "\0", pattern))
    text = text.replace("\0", "(?:.*/)?")
    text = re.sub(r"(\\\*){2,}", ".*", text)
    return re.compile(text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]"), re.DOTALL)


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_globs_agree_with_regular_expressions(pattern: str, path: str) -> None:
    assert compile_globs((pattern,)).match(path) == bool(
        expected(pattern).fullmatch(path)
    )
