"""Forcing: making a value immediate to its last member, or the node that will be.

Source: syntax/force.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import repeat
from typing import Any

from reflow.core.digest import Digest
from reflow.flow.node import Flow, K, Val
from reflow.lang.digest_value import length_bytes, value_digest, write_value
from reflow.lang.extent import check_extent
from reflow.lang.types import ListType, MapType, StructType, SumType, TupleType, Type
from reflow.lang.value import MapValue, Struct, Value, Variant

FORCE_TAG = Digest.of_text("grail.com/reflow/syntax.Eval.Force")

STRICT_KINDS = frozenset({"int", "float", "string", "bool", "file", "dir", "fileset", "unit", "func", "top"})
"""Kinds whose values have no members that could be delayed."""


def force(value: Value, type: Type) -> Value:
    """Return the value with all of its members immediate, or a node that gives that.

    Structs and modules keep only the fields that the type has. Raises EvalError for a value that is too
    large.
    """
    if isinstance(value, Flow):
        return K(_ForceStep(type), (value,), FORCE_TAG)
    if type.kind not in _FORCERS:
        return value
    check_extent(value, type)
    return _force(value, type, _Known())


class _Known:
    """What delayed values and containers of containers became, so that shared ones are forced once.

    ``forced`` goes by identity of value and type, ``leaves`` tells by a type's whether it has no containers.
    """

    __slots__ = ("forced", "leaves")

    def __init__(self) -> None:
        self.forced: dict[tuple[int, int], Value] = {}
        self.leaves: dict[int, bool] = {}

    def is_leaf(self, type: Type) -> bool:
        """Whether the members of a container of a type are no containers."""
        leaf = self.leaves.get(id(type))
        if leaf is None:
            leaf = self.leaves[id(type)] = all(part.kind in STRICT_KINDS for part in type.parts())
        return leaf

    def delayed(self, value: Flow, type: Type) -> Flow:
        """The node that forces a delayed value."""
        key = id(value), id(type)
        node = self.forced.get(key)
        if node is None:
            node = self.forced[key] = K(_ForceStep(type), (value,), FORCE_TAG)
        assert isinstance(node, Flow)
        return node


def _force(value: Value, type: Type, known: _Known) -> Value:
    if isinstance(value, Flow):
        return known.delayed(value, type)
    forcer = _FORCERS.get(type.kind)
    if forcer is None:
        return value
    if known.is_leaf(type):
        return forcer(value, type, known)
    key = id(value), id(type)
    forced = known.forced.get(key)
    if forced is None:
        forced = known.forced[key] = forcer(value, type, known)
    return forced


def to_flow(value: Value, type: Type) -> Flow:
    """Return a delayed value as it is, any other in a `Val` node."""
    if isinstance(value, Flow):
        return value
    return Val(value, partial(value_digest, value, type))


class _ForceStep:
    """Forces what a delayed value turned out to be."""

    __slots__ = ("_type",)

    def __init__(self, type_: Type) -> None:
        self._type = type_

    def __call__(self, awaited: list[Value]) -> Flow:
        return to_flow(force(awaited[0], self._type), self._type)


Build = Callable[[list[Value]], Value]


class _GatherStep:
    """Puts a container together whose delayed members are there."""

    __slots__ = ("_build", "_members", "_type")

    def __init__(self, members: list[Value], build: Build, type_: Type) -> None:
        self._members = members
        self._build = build
        self._type = type_

    def __call__(self, awaited: list[Value]) -> Flow:
        following = iter(awaited)
        members = [next(following) if isinstance(each, Flow) else each for each in self._members]
        return to_flow(self._build(members), self._type)

    def tag(self) -> Digest:
        hasher = sha256()
        for member, type_ in zip(self._members, _member_types(self._type, self._members), strict=False):
            if not isinstance(member, Flow):
                write_value(hasher.update, member, type_)
        hasher.update(length_bytes(self._type.kind_id))
        return Digest(hasher.digest())


def _gather(members: list[Value], build: Build, type_: Type) -> Value:
    """The container at once, or the node that waits for its delayed members."""
    deps = [member for member in members if isinstance(member, Flow)]
    if not deps:
        return build(members)
    step = _GatherStep(members, build, type_)
    return K(step, deps, step.tag)


def _member_types(type_: Type, members: Sequence[Value]) -> Iterator[Type]:
    """Types of the members of a container, in the order in which they are forced."""
    match type_:
        case ListType(element=element):
            return repeat(element)
        case MapType(key=key, value=value):
            return iter([key, value] * (len(members) // 2))
        case TupleType(fields=fields):
            return iter([field.type for field in fields])
        case StructType():
            return iter(_struct_fields(type_).values())
        case SumType():
            # The tag decides which type: every variant but one has another, so the step's build knows it.
            return iter(())
        case _:
            raise AssertionError(f"{type_.kind} has no members")


def _struct_fields(type_: StructType) -> dict[str, Type]:
    """Each name once, in order, at its last type."""
    return {field.name: field.type for field in type_.fields}


def _force_list(value: list[Value], type_: ListType, known: _Known) -> Value:
    element = type_.element
    if element.kind not in STRICT_KINDS:
        value = [_force(each, element, known) for each in value]
    else:
        value = [known.delayed(each, element) if isinstance(each, Flow) else each for each in value]
    return _gather(value, _same, type_)


def _same(members: list[Value]) -> list[Value]:
    return members


def _force_tuple(value: tuple[Value, ...], type_: TupleType, known: _Known) -> Value:
    members = [_force(each, field.type, known) for each, field in zip(value, type_.fields, strict=False)]
    return _gather(members, tuple, type_)


def _force_struct(value: Struct, type_: StructType, known: _Known) -> Value:
    fields = _struct_fields(type_)
    members = [_force(value[name], each, known) for name, each in fields.items()]
    return _gather(members, partial(_build_struct, tuple(fields)), type_)


def _build_struct(names: Sequence[str], members: list[Value]) -> Struct:
    return Struct(zip(names, members, strict=True))


def _force_map(value: MapValue, type_: MapType, known: _Known) -> Value:
    members: list[Value] = []
    for key, each in value.items():
        members += (_force(key, type_.key, known), _force(each, type_.value, known))
    return _gather(members, partial(_build_map, tuple(value.digests())), type_)


def _build_map(digests: Sequence[Digest], members: list[Value]) -> MapValue:
    return MapValue(zip(digests, members[::2], members[1::2], strict=True))


def _force_sum(value: Variant, type_: SumType, known: _Known) -> Value:
    variant = type_.variant(value.tag)
    if variant is None or variant.element is None:
        return value
    return _gather([_force(value.element, variant.element, known)], partial(_build_variant, value.tag), type_)


def _build_variant(tag: str, members: list[Value]) -> Variant:
    return Variant(tag, members[0], has_element=True)


_FORCERS: dict[str, Callable[[Any, Any, _Known], Value]] = {
    "list": _force_list,
    "map": _force_map,
    "tuple": _force_tuple,
    "struct": _force_struct,
    "module": _force_struct,
    "sum": _force_sum,
}
