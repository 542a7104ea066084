"""Values as text: what ``run`` prints, what ``trace`` shows, what messages quote.

Source: values/values.go, Sprint; strings as strconv.Quote of Go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow.core.fileset import File, Fileset, path_bytes
from reflow.lang import number
from reflow.lang.digest_value import own_digest
from reflow.lang.extent import check_extent
from reflow.lang.types import ListType, MapType, ModuleType, StructType, SumType, TupleType, Type
from reflow.lang.value import Dir, MapValue, Struct, Value, Variant


def show(value: Value, type: Type) -> str:
    """A value at a type. Maps are in the order of their keys' digests; bytes that are no UTF-8 escaped.

    Raises EvalError for a value that is too large.
    """
    check_extent(value, type)
    return _show(value, type, {})


Known = dict[tuple[int, int], str]
"""Texts of containers by identity of value and type, so that shared ones are not put together anew."""


def _show(value: Value, type: Type, known: Known) -> str:
    if isinstance(value, File | Fileset):
        return value.short()
    own = own_digest(value)
    if own is not None:
        return f"delayed({own})"
    show_container = _CONTAINERS.get(type.kind)
    if show_container is None:
        return _SHOWERS[type.kind](value, type)
    text = known.get((id(value), id(type)))
    if text is None:
        text = show_container(value, type, known)
        if len(text) > _LEAST_REMEMBERED:
            known[id(value), id(type)] = text
    return text


_LEAST_REMEMBERED = 1000
"""Longer texts of containers are remembered."""

_NAMED = {
    0x07: "\\a",
    0x08: "\\b",
    0x0C: "\\f",
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
    0x0B: "\\v",
    0x22: '\\"',
    0x5C: "\\\\",
}


def quote(text: bytes) -> str:
    """A string in double quotes: control and unprintable characters escaped, invalid bytes as ``\\xff``."""
    decoded = text.decode("utf-8", "surrogateescape")
    if decoded.isprintable() and '"' not in decoded and "\\" not in decoded:
        return f'"{decoded}"'
    return '"' + "".join([_quote_char(char) for char in decoded]) + '"'


def quote_text(text: str) -> str:
    """`quote` for a text whose invalid bytes are kept by surrogateescape."""
    return quote(path_bytes(text))


def _quote_char(char: str) -> str:
    code = ord(char)
    named = _NAMED.get(code)
    if named is not None:
        return named
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _show_bool(value: bool, _type: Type) -> str:
    return "true" if value else "false"


def _show_dir(value: Dir, _type: Type) -> str:
    return "dir(" + ", ".join([f"{quote_text(path)}: {file.short()}" for path, file in value.items()]) + ")"


def _show_list(value: list[Value], type_: ListType, known: Known) -> str:
    return "[" + ", ".join([_show(each, type_.element, known) for each in value]) + "]"


def _show_map(value: MapValue, type_: MapType, known: Known) -> str:
    entries = [
        f"{_show(key, type_.key, known)}: {_show(each, type_.value, known)}" for key, each in value.items()
    ]
    return "[" + ", ".join(entries) + "]"


def _show_tuple(value: tuple[Value, ...], type_: TupleType, known: Known) -> str:
    shown = [_show(each, field.type, known) for field, each in zip(type_.fields, value, strict=False)]
    return "(" + ", ".join(shown) + ")"


def _show_struct(value: Struct, type_: StructType, known: Known) -> str:
    shown = [f"{field.name}: {_show(value[field.name], field.type, known)}" for field in type_.fields]
    return "{" + ", ".join(shown) + "}"


def _show_module(value: Struct, type_: ModuleType, known: Known) -> str:
    shown = [f"val {field.name} = {_show(value[field.name], field.type, known)}" for field in type_.fields]
    return "module{" + "; ".join(shown) + "}"


def _show_sum(value: Variant, type_: SumType, known: Known) -> str:
    variant = type_.variant(value.tag)
    if variant is None or variant.element is None:
        return f"#{value.tag}"
    return f"#{value.tag}({_show(value.element, variant.element, known)})"


def _show_top(value: Value, _type: Type) -> str:
    """A value of which only the Python type is known."""
    if isinstance(value, bool):
        return _show_bool(value, _type)
    if isinstance(value, int):
        return number.int_text(value)
    return quote(value) if isinstance(value, bytes) else repr(value)


_SHOWERS: dict[str, Callable[[Any, Any], str]] = {
    "int": lambda value, _: number.int_text(value),
    "float": lambda value, _: number.general_text(value),
    "string": lambda value, _: quote(value),
    "bool": _show_bool,
    "dir": _show_dir,
    "unit": lambda _value, _type: "()",
    "top": _show_top,
}

_CONTAINERS: dict[str, Callable[[Any, Any, Known], str]] = {
    "list": _show_list,
    "map": _show_map,
    "tuple": _show_tuple,
    "struct": _show_struct,
    "module": _show_module,
    "sum": _show_sum,
}
