"""Globs on mount points."""

from __future__ import annotations

import re

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
