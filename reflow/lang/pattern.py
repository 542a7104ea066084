"""Patterns at work: taking values apart and binding names.

A pattern is a list of matchers, one per leaf; each is a path of steps from the whole value to the leaf. A
path, and so a part of it, has a digest: it names the taking apart of a value that is not there yet.
Source: syntax/pat.go, syntax/coerce.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from reflow.core.digest import Digest
from reflow.flow.node import Flow, K
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_value import length_bytes
from reflow.lang.env import Env
from reflow.lang.force import to_flow
from reflow.lang.source import Pos
from reflow.lang.syntax import (
    IdentPattern,
    ListPattern,
    Pattern,
    StructPattern,
    TuplePattern,
    VariantPattern,
)
from reflow.lang.types import Type
from reflow.lang.value import Value

_PATH_HEADER = b"grail.com/reflow/syntax.Path"
_PATTERN_HEADER = b"grail.com/reflow/syntax.Pat"

Taken = tuple[Value, Type]


class Step(NamedTuple):
    """One step of a path: how to get from a value of a type to a part of it and the part's type.

    ``take`` is given the step, the value and the type; it returns None when the value does not match.
    ``size`` is the number of a list pattern's elements.
    """

    take: Callable[[Step, Any, Any], Taken | None]
    material: bytes
    key: Any = None
    size: int = 0
    allows_more: bool = False


Path = tuple[Step, ...]


class Matcher(NamedTuple):
    """A leaf of a pattern: the name it binds, empty for none, and where it is."""

    name: str
    path: Path


def _take_value(_step: Step, value: Value, type_: Type) -> Taken:
    return value, type_


def _take_tuple(step: Step, value: Any, type_: Any) -> Taken:
    return value[step.key], type_.fields[step.key].type


def _take_element(step: Step, value: Any, type_: Any) -> Taken | None:
    if len(value) < step.size or (not step.allows_more and step.size < len(value)):
        return None
    return value[step.key], type_.element


def _take_tail(step: Step, value: Any, type_: Any) -> Taken | None:
    return None if len(value) < step.size else (value[step.size :], type_)


def _take_field(step: Step, value: Any, type_: Any) -> Taken:
    return value[step.key], type_.field(step.key)


def _take_variant(step: Step, value: Any, type_: Any) -> Taken | None:
    if value.tag != step.key:
        return None
    if not value.has_element:
        return value, type_
    return value.element, type_.variant(value.tag).element


VALUE_STEP = Step(_take_value, length_bytes(1))
VALUE_PATH: Path = (VALUE_STEP,)


def path_material(path: Path) -> bytes:
    """The bytes that stand for a path, or the rest of one."""
    return _PATH_HEADER + b"".join([step.material for step in path])


VALUE_PATH_TAG = Digest.of(path_material(VALUE_PATH))


@lru_cache(maxsize=4096)
def matchers(pattern: Pattern) -> tuple[Matcher, ...]:
    """The leaves of a pattern, in order."""
    return tuple(_walk(pattern, ()))


@lru_cache(maxsize=1024)
def pattern_material(pattern: Pattern) -> bytes:
    """The bytes that stand for a pattern."""
    return _PATTERN_HEADER + b"".join([path_material(each.path) for each in matchers(pattern)])


def _walk(pattern: Pattern, path: Path) -> Iterator[Matcher]:
    match pattern:
        case IdentPattern(name=name):
            yield Matcher(name, (*path, VALUE_STEP))
        case TuplePattern(items=items):
            for index, item in enumerate(items):
                material = length_bytes(2) + length_bytes(index) + length_bytes(len(items))
                yield from _walk(item, (*path, Step(_take_tuple, material, index)))
        case ListPattern():
            yield from _walk_list(pattern, path)
        case StructPattern(fields=fields):
            for name, item in fields:
                yield from _walk(item, (*path, Step(_take_field, length_bytes(5) + name.encode(), name)))
        case VariantPattern(tag=tag, element=element):
            inner = (*path, Step(_take_variant, length_bytes(6) + tag.encode(), tag))
            if element is None:
                yield Matcher("", inner)
            else:
                yield from _walk(element, inner)
        case _:
            yield Matcher("", (*path, VALUE_STEP))


def _walk_list(pattern: ListPattern, path: Path) -> Iterator[Matcher]:
    size = len(pattern.items)
    more = pattern.tail is not None
    for index, item in enumerate(pattern.items):
        material = length_bytes(3) + length_bytes(index) + length_bytes(size) + (b"\x01" if more else b"\x00")
        yield from _walk(item, (*path, Step(_take_element, material, index, size, more)))
    if pattern.tail is not None:
        step = Step(_take_tail, length_bytes(4) + length_bytes(size), None, size, more)
        yield from _walk(pattern.tail, (*path, step))


def _mismatch(step: Step, value: Any) -> str:
    """Why a step does not take a value apart."""
    if step.take is _take_variant:
        return f"cannot match tag #{step.key} with a variant with tag #{value.tag}"
    word = "list pattern" if step.take is _take_element else "pattern"
    return f"cannot match {word} of size {step.size} with a list of size {len(value)}"


def bind_pattern(env: Env, pattern: Pattern, value: Value, type: Type) -> None:
    """Bind a pattern's names in a frame to the parts of a value. Raises EvalError when it does not match."""
    if pattern.__class__ is IdentPattern and not isinstance(value, Flow):
        env.bind(pattern.name, value)
        return
    for name, part in parts(pattern, value, type):
        env.bind(name, part)


def parts(pattern: Pattern, value: Value, type: Type) -> list[tuple[str, Value]]:
    """Names that a pattern binds, with the parts of a value, which are delayed when the value is.

    Raises EvalError, also when a part does not match that binds no name.
    """
    if pattern.__class__ is IdentPattern:
        if isinstance(value, Flow):
            value = _delayed_part(value, type, pattern.pos, VALUE_PATH)
        return [(pattern.name, value)]
    found = []
    for name, path in matchers(pattern):
        part = _part(value, type, pattern.pos, path)
        if name:
            found.append((name, part))
    return found


def _part(value: Value, type_: Type, pos: Pos, path: Path) -> Value:
    for index, step in enumerate(path):
        if isinstance(value, Flow):
            return _delayed_part(value, type_, pos, path[index:])
        taken = step.take(step, value, type_)
        if taken is None:
            raise EvalError(_mismatch(step, value), pos)
        value, type_ = taken
    return value


def _delayed_part(value: Flow, type_: Type, pos: Pos, path: Path) -> K:
    step = _PartStep(type_, pos, path)
    return K(step, (value,), VALUE_PATH_TAG if path is VALUE_PATH else step.tag)


class _PartStep:
    """Takes a value apart that was delayed."""

    __slots__ = ("_path", "_pos", "_type")

    def __init__(self, type_: Type, pos: Pos, path: Path) -> None:
        self._type = type_
        self._pos = pos
        self._path = path

    def __call__(self, awaited: list[Value]) -> Flow:
        value, type_ = awaited[0], self._type
        last = len(self._path) - 1
        for index, step in enumerate(self._path):
            taken = step.take(step, value, type_)
            if taken is None:
                raise EvalError(_mismatch(step, value), self._pos)
            value, type_ = taken
            if index < last and isinstance(value, Flow):
                return _delayed_part(value, type_, self._pos, self._path[index + 1 :])
        return to_flow(value, type_)

    def tag(self) -> Digest:
        return Digest.of(path_material(self._path))
