"""Names of values: the bytes that stand for a value inside other digests, and its own digest.

A wire format. A value that has a digest itself (delayed, file, fileset, function) is written as that
digest alone; anything else as the byte of its type's kind and its contents.
Source: values/values.go, WriteDigest.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from reflow.core.digest import WIRE_HEADER, Digest
from reflow.core.fileset import path_bytes
from reflow.flow.digest import digest as flow_digest
from reflow.flow.node import Flow
from reflow.lang import number
from reflow.lang.extent import check_extent
from reflow.lang.types import ListType, MapType, StructType, SumType, TupleType, Type
from reflow.lang.value import Dir, MapValue, Struct, Unit, Value, Variant

Write = Callable[[bytes], None]

_STRUCTURAL = frozenset({int, bool, bytes, list, tuple, Struct, MapValue, Variant, Dir, Unit})


def value_digest(value: Value, type: Type) -> Digest:
    """Digest of a value at a type."""
    return Digest(sha256(value_material(value, type)).digest())


def value_material(value: Value, type: Type) -> bytes:
    """The bytes that stand for a value at a type. Raises EvalError for a value that is too large."""
    check_extent(value, type)
    parts: list[bytes] = []
    write_value(parts.append, value, type)
    return b"".join(parts)


def is_structural(value: Value) -> bool:
    """Whether a value's digest comes from its contents and type. (Floats count as having their own.)"""
    return type(value) in _STRUCTURAL


def own_digest(value: Value) -> Digest | None:
    """The digest of a value that has one whatever its type: delayed, file, fileset, function."""
    if type(value) in _STRUCTURAL:
        return None
    if isinstance(value, Flow):
        return flow_digest(value)
    digest: Digest | None = getattr(value, "digest", None)
    return digest


def write_value(write: Write, value: Value, type_: Type) -> None:
    """Write the material of a value."""
    own = own_digest(value)
    if own is not None:
        write(WIRE_HEADER)
        write(own)
        return
    write(_KIND_BYTES[type_.kind_id])
    _WRITERS[type_.kind](write, value, type_)


def length_bytes(count: int) -> bytes:
    """A count as digests hold it: 64 bits, little end first, two's complement."""
    return count.to_bytes(8, "little", signed=True)


_KIND_BYTES = [bytes((kind,)) for kind in range(32)]


def _write_int(write: Write, value: int, _type: Type) -> None:
    if value < 0:
        write(b"\x00")
        value = -value
    write(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _write_float(write: Write, value: number.Float, _type: Type) -> None:
    write(number.exponent_text(value).encode())


def _write_string(write: Write, value: bytes, _type: Type) -> None:
    write(value)


def _write_bool(write: Write, value: bool, _type: Type) -> None:
    write(b"\x01" if value else b"\x00")


def _write_dir(write: Write, value: Dir, _type: Type) -> None:
    for path, file in value.items():
        write(path_bytes(path))
        write(file.digest.wire)


def _write_list(write: Write, value: list[Value], type_: ListType) -> None:
    write(length_bytes(len(value)))
    element = type_.element
    for each in value:
        write_value(write, each, element)


def _write_map(write: Write, value: MapValue, type_: MapType) -> None:
    write(length_bytes(len(value)))
    for key, each in value.items():
        write_value(write, key, type_.key)
        write_value(write, each, type_.value)


def _write_tuple(write: Write, value: tuple[Value, ...], type_: TupleType) -> None:
    write(length_bytes(len(type_.fields)))
    for field, each in zip(type_.fields, value, strict=False):
        write_value(write, each, field.type)


def _write_struct(write: Write, value: Struct, type_: StructType) -> None:
    """Fields of the type, in byte order of their names; the last type of a name that is there twice."""
    write(length_bytes(len(type_.fields)))
    types = {field.name: field.type for field in type_.fields}
    for name in sorted([field.name for field in type_.fields], key=str.encode):
        write_value(write, value[name], types[name])


def _write_sum(write: Write, value: Variant, type_: SumType) -> None:
    write(value.tag.encode())
    variant = type_.variant(value.tag)
    assert variant is not None, f"unexpected variant tag {value.tag}"
    if variant.element is not None:
        write_value(write, value.element, variant.element)


def _write_nothing(_write: Write, _value: Value, _type: Type) -> None:
    """A unit, or a value seen at type top: the kind says all."""


_WRITERS: dict[str, Callable[[Write, Any, Any], None]] = {
    "int": _write_int,
    "float": _write_float,
    "string": _write_string,
    "bool": _write_bool,
    "dir": _write_dir,
    "unit": _write_nothing,
    "top": _write_nothing,
    "list": _write_list,
    "map": _write_map,
    "tuple": _write_tuple,
    "struct": _write_struct,
    "module": _write_struct,
    "sum": _write_sum,
}
