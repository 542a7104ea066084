"""Order and equality of values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File
from reflow.lang.digest_value import value_digest
from reflow.lang.number import parse_float
from reflow.lang.order import equal, less
from reflow.lang.types import STRING
from reflow.lang.value import UNIT, Dir, MapValue, Struct, Variant

REFS = [File(source="s3://a", etag="1"), File(source="s3://a", etag="2"), File(source="s3://b", etag="0")]
FILES = sorted([File(Digest.of_text(text), 1) for text in "xyz"], key=lambda file: file.digest)


def _map(**entries: Any) -> MapValue:
    keys = {name.encode(): value for name, value in entries.items()}
    return MapValue([(value_digest(key, STRING), key, value) for key, value in keys.items()])


@pytest.mark.parametrize(
    "ascending",
    [
        [-(1 << 70), -1, 0, 1 << 70],
        [parse_float("-inf"), parse_float("0"), parse_float("0.5")],
        [b"", b"A", b"a", b"ab", b"\xff"],
        [False, True],
        [*REFS, *FILES],
        [[], [5], [1, 2], [2, 1]],
        [(1, 2), (1, 3), (2, 0)],
        [Struct(a=1, b=2), Struct(a=1, b=3), Struct(b=0, a=2)],
        [Dir(), Dir({"a": REFS[0]}), Dir({"b": REFS[0]}), Dir({"a": REFS[0], "b": REFS[0]})],
        [_map(), _map(a=1), _map(a=2), _map(b=0), _map(a=1, b=1)],
    ],
)
def test_values_are_in_order(ascending: list[Any]) -> None:
    for left, right in pairwise(ascending):
        assert less(left, right)
        assert not equal(left, right)
    for value in ascending:
        assert not less(value, value)


def test_a_later_position_decides_lists_even_after_a_greater_one() -> None:
    assert less([2, 1], [1, 2])
    assert less([1, 2], [2, 1])


def test_unit_comes_before_nothing() -> None:
    assert not less(UNIT, UNIT)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, (b"a",)], [1, (b"a",)], True),
        ([1], [1, 1], False),
        (Struct(a=1), Struct(a=1, b=2), False),
        (Variant("A"), Variant("A"), True),
        (Variant("A", 1, has_element=True), Variant("A", 2, has_element=True), False),
        (_map(a=[1]), _map(a=[1]), True),
        (Dir({"a": FILES[0]}), Dir({"a": FILES[0]}), True),
        (Dir({"a": FILES[0]}), Dir({"a": FILES[1]}), False),
        (REFS[0], File(source="s3://a", etag="1"), True),
        (File(source="s3://a"), File(source="s3://a"), False),
    ],
)
def test_equality_is_structural(left: Any, right: Any, expected: bool) -> None:
    assert equal(left, right) is expected
