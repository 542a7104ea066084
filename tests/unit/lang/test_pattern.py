"""Patterns: matchers, paths and their digests, taking delayed values apart."""

from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.flow.node import K, Val
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_value import length_bytes
from reflow.lang.parse import parse_pattern
from reflow.lang.pattern import VALUE_PATH_TAG, matchers, parts, path_material
from reflow.lang.source import Source
from reflow.lang.syntax import Pattern
from reflow.lang.types import INT, Field, ListType, StructType, SumType, TupleType, VariantType
from reflow.lang.value import Struct, Variant
from tests.expressions import work_off

INTS = ListType(INT)
PAIR = TupleType([Field("", INT), Field("", INTS)])
HEADER = b"grail.com/reflow/syntax.Path"
VALUE = length_bytes(1)


def _pattern(text: str) -> Pattern:
    return parse_pattern(Source("", text))


def test_matchers_are_the_leaves_in_order() -> None:
    pattern = _pattern("(a, [_, b, ...c], {x: d, y: #T}, #U(e))")
    assert [each.name for each in matchers(pattern)] == ["a", "", "b", "c", "d", "", "e"]


@pytest.mark.parametrize(
    ("text", "material"),
    [
        ("x", VALUE),
        ("_", VALUE),
        ("(x, _)", length_bytes(2) + length_bytes(0) + length_bytes(2) + VALUE),
        ("[x]", length_bytes(3) + length_bytes(0) + length_bytes(1) + b"\x00" + VALUE),
        ("[x, ...]", length_bytes(3) + length_bytes(0) + length_bytes(1) + b"\x01" + VALUE),
        ("{f: x}", length_bytes(5) + b"f" + VALUE),
        ("#T(x)", length_bytes(6) + b"T" + VALUE),
        ("#T", length_bytes(6) + b"T"),
    ],
)
def test_paths_are_written_step_by_step(text: str, material: bytes) -> None:
    assert path_material(matchers(_pattern(text))[0].path) == HEADER + material


def test_the_tail_has_a_step_of_its_own() -> None:
    path = matchers(_pattern("[_, ...x]"))[1].path
    assert path_material(path) == HEADER + length_bytes(4) + length_bytes(1) + VALUE


def test_values_are_taken_apart() -> None:
    assert parts(_pattern("(a, [b, ...c])"), (1, [2, 3, 4]), PAIR) == [("a", 1), ("b", 2), ("c", [3, 4])]
    fields = StructType([Field("x", INT)])
    assert parts(_pattern("{x: a}"), Struct(x=1, y=2), fields) == [("a", 1)]
    tags = SumType([VariantType("A", INT), VariantType("B")])
    assert parts(_pattern("#A(a)"), Variant("A", 1, has_element=True), tags) == [("a", 1)]
    assert parts(_pattern("#B"), Variant("B"), tags) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "cannot match list pattern of size 1 with a list of size 2"),
        ("[a, b, c]", "cannot match list pattern of size 3 with a list of size 2"),
        ("[a, b, c, ...d]", "cannot match list pattern of size 3 with a list of size 2"),
        ("[_]", "cannot match list pattern of size 1 with a list of size 2"),
    ],
)
def test_lists_must_have_the_right_length(text: str, message: str) -> None:
    with pytest.raises(EvalError) as caught:
        parts(_pattern(text), [1, 2], INTS)
    assert str(caught.value).endswith(message)


def test_variants_must_have_the_right_tag() -> None:
    tags = SumType([VariantType("A"), VariantType("B")])
    with pytest.raises(EvalError, match="cannot match tag #A with a variant with tag #B"):
        parts(_pattern("#A"), Variant("B"), tags)


def _later(value: object) -> Val:
    return Val(value, Digest.of(repr(value).encode()))


def test_a_delayed_value_is_taken_apart_when_it_is_there() -> None:
    found = dict(parts(_pattern("(a, [b])"), _later((1, [2])), PAIR))
    assert all(isinstance(each, K) for each in found.values())
    assert {name: work_off(each) for name, each in found.items()} == {"a": 1, "b": 2}


def test_a_delayed_part_goes_on_with_the_rest_of_the_path() -> None:
    ((_, part),) = parts(_pattern("(_, [b])"), (1, _later([2])), PAIR)
    rest = matchers(_pattern("[b]"))[0].path
    assert part.tag == Digest.of(path_material(rest))
    nested = dict(parts(_pattern("(_, [b])"), _later((1, _later([2]))), PAIR))["b"]
    assert work_off(nested) == 2


def test_binding_a_name_to_a_delayed_value_adds_a_node() -> None:
    flow = _later(1)
    ((name, part),) = parts(_pattern("x"), flow, INT)
    assert (name, part.deps, part.tag) == ("x", (flow,), VALUE_PATH_TAG)


def test_a_delayed_value_that_does_not_match_fails_in_its_node() -> None:
    ((_, part),) = parts(_pattern("[a]"), _later([1, 2]), INTS)
    with pytest.raises(EvalError, match="cannot match list pattern of size 1 with a list of size 2"):
        work_off(part)
