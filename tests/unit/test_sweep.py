"""Deletions that no watch told of."""

from __future__ import annotations

from hostwatch.model.server import ServerId
from hostwatch.monitor.sweep import Sweep

A, B, C = ServerId("a"), ServerId("b"), ServerId("c")


def test_absence_from_two_lists_running_means_deleted():
    sweep = Sweep()
    assert sweep.gone({A, B}, {A, B}) == set()
    assert sweep.gone({A, B}, {A}) == set()
    assert sweep.gone({A, B}, {A}) == {B}
    assert sweep.gone({A}, {A}) == set()


def test_a_server_that_is_back_starts_anew():
    sweep = Sweep()
    assert sweep.gone({A}, set()) == set()
    assert sweep.gone({A}, {A}) == set()
    assert sweep.gone({A}, set()) == set()


def test_a_server_newer_than_the_list_is_not_deleted():
    sweep = Sweep()
    assert sweep.gone({A}, {A}) == set()
    assert sweep.gone({A, C}, {A}) == set()
    assert sweep.gone({A, C}, {A, C}) == set()


def test_a_deleted_server_is_told_once():
    sweep = Sweep()
    sweep.gone({A}, set())
    assert sweep.gone({A}, set()) == {A}
    assert sweep.gone(set(), set()) == set()
