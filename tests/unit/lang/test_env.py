"""Environments: look-up, levels, and digests of deep chains of bindings."""

from __future__ import annotations

import sys

import pytest

from reflow.core.digest import Digest
from reflow.lang.digest_value import value_digest
from reflow.lang.env import Env, base_env
from reflow.lang.types import INT


def _level(env: Env, name: str) -> int:
    return env.level_and_digest(name, INT)[0]


def test_inner_frames_hide_outer_ones() -> None:
    outer = base_env().push()
    outer.bind("x", 1)
    inner = outer.push()
    inner.bind("x", 2)
    assert (outer.value("x"), inner.value("x")) == (1, 2)
    assert inner.push().value("x") == 2


def test_levels_count_frames_also_empty_ones() -> None:
    env = base_env().push()
    env.bind("x", 1)
    assert [_level(env, "x"), _level(env, "KiB")] == [0, 1]
    assert _level(env.push().push(), "x") == 2
    assert _level(env.extend().extend(), "x") == 2


def test_an_extended_frame_does_not_change_what_is_below() -> None:
    env = base_env().push()
    env.bind("x", 1)
    above = env.extend()
    above.bind("x", 2)
    above.bind("y", 3)
    assert env.value("x") == 1
    assert env.push().value("x") == 1
    with pytest.raises(KeyError):
        env.value("y")
    assert (above.value("x"), above.value("y")) == (2, 3)


def test_rebinding_in_one_frame_wins() -> None:
    env = base_env().push()
    env.bind("x", 1)
    env.bind("x", 2)
    assert env.value("x") == 2


def test_injected_values_are_outside_the_base_frame() -> None:
    env = base_env({"x": 1, "KiB": 5}).push()
    assert (env.value("x"), env.value("KiB")) == (1, 1024)
    assert [_level(env, "KiB"), _level(env, "x")] == [1, 2]


def test_a_bound_digest_stands_for_itself() -> None:
    env = base_env().push()
    env.bind("x", Digest.of_text("x"))
    env.bind("y", 7)
    assert env.level_and_digest("x", INT) == (0, Digest.of_text("x"))
    assert env.level_and_digest("y", INT) == (0, value_digest(7, INT))


class _Chained:
    """Stands for a function whose digest needs that of the one before it."""

    def __init__(self, env: Env, before: str) -> None:
        self._env = env
        self._before = before

    @property
    def digest(self) -> Digest:
        if not self._before:
            return Digest.of(b"")
        return Digest.of(self._env.level_and_digest(self._before, INT)[1])


def test_a_long_chain_of_functions_needs_no_deep_recursion() -> None:
    env = base_env().push()
    for index in range(5 * sys.getrecursionlimit()):
        before = f"f{index - 1}" if index else ""
        above = env.extend()
        above.bind(f"f{index}", _Chained(env, before))
        env = above
    expected = Digest.of(b"")
    for _ in range(index):
        expected = Digest.of(expected)
    assert env.level_and_digest(f"f{index}", INT) == (0, expected)
