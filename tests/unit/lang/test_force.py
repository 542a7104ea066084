"""Forcing: what is already immediate, what waits, and for what."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.flow.digest import digest
from reflow.flow.node import Flow, K, Val
from reflow.lang.digest_value import length_bytes, value_digest, value_material
from reflow.lang.force import FORCE_TAG, force, to_flow
from reflow.lang.types import (
    INT,
    STRING,
    Field,
    ListType,
    MapType,
    StructType,
    SumType,
    TupleType,
    Type,
    VariantType,
)
from reflow.lang.value import MapValue, Struct, Variant
from tests.expressions import work_off

TWO = TupleType([Field("", INT), Field("", INT)])
PAIR = StructType([Field("b", INT), Field("a", INT)])
SUM = SumType([VariantType("A"), VariantType("B", INT)])


def _later(value: int) -> Val:
    return Val(value, value_digest(value, INT))


def _map(**entries: Any) -> MapValue:
    keys = {name.encode(): value for name, value in entries.items()}
    return MapValue([(value_digest(key, STRING), key, value) for key, value in keys.items()])


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (1, INT),
        ([1, 2], ListType(INT)),
        ((1, 2), TWO),
        ([[(1, 2)]], ListType(ListType(TWO))),
        (Variant("A"), SUM),
        (Variant("B", 1, has_element=True), SUM),
        (_map(x=1), MapType(STRING, INT)),
    ],
)
def test_what_holds_nothing_delayed_stays_immediate(value: Any, type_: Type) -> None:
    forced = force(value, type_)
    assert not isinstance(forced, Flow)
    assert value_digest(forced, type_) == value_digest(value, type_)


def test_a_delayed_value_is_forced_when_it_is_there() -> None:
    inner = Val([_later(1), 2], Digest.of(b"list"))
    node = force(inner, ListType(INT))
    assert isinstance(node, K)
    assert node.tag == FORCE_TAG
    assert work_off(node) == [1, 2]


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        ([1, _later(2)], ListType(INT), [1, 2]),
        ((_later(1), 2), TWO, (1, 2)),
        (Struct(a=_later(1), b=2), PAIR, {"a": 1, "b": 2}),
        ([[_later(1)], []], ListType(ListType(INT)), [[1], []]),
    ],
)
def test_containers_wait_for_their_delayed_members(value: Any, type_: Type, expected: Any) -> None:
    node = force(value, type_)
    assert isinstance(node, K)
    assert work_off(node) == expected


def test_variants_and_maps_wait_for_their_delayed_members() -> None:
    variant = work_off(force(Variant("B", _later(3), has_element=True), SUM))
    assert (variant.tag, variant.element) == ("B", 3)
    forced = work_off(force(_map(x=_later(1), y=2), MapType(STRING, INT)))
    assert dict(forced.items()) == {b"x": 1, b"y": 2}


def test_the_tag_holds_the_immediate_members_in_order_and_the_kind() -> None:
    node = force([1, _later(2), 3], ListType(INT))
    material = value_material(1, INT) + value_material(3, INT) + length_bytes(ListType.kind_id)
    assert node.tag == Digest.of(material)


def test_structs_are_visited_in_the_order_of_their_type() -> None:
    node = force(Struct(a=_later(1), b=_later(2)), PAIR)
    assert [work_off(dep) for dep in node.deps] == [2, 1]


def test_structs_lose_the_fields_that_their_type_lacks() -> None:
    assert force(Struct(a=1, b=2, c=3), PAIR) == {"a": 1, "b": 2}


def test_a_gathered_value_does_not_remember_an_earlier_call() -> None:
    node = force([1, _later(2)], ListType(INT))
    first, second = node.fn([10]), node.fn([20])
    assert (first.value, second.value) == ([1, 10], [1, 20])


def test_an_immediate_value_becomes_a_node_with_its_digest() -> None:
    node = to_flow(5, INT)
    assert digest(node) == Digest.of(b"OpVal" + value_digest(5, INT).wire)
    assert to_flow(node, INT) is node
