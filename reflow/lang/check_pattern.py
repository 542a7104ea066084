"""Patterns against types: what names a pattern binds, to what types, and why it does not fit.

Source: syntax/pat.go, BindTypes
"""

from __future__ import annotations

from collections.abc import Callable

from reflow.lang import hints
from reflow.lang.source import Pos
from reflow.lang.syntax import (
    IdentPattern,
    ListPattern,
    Pattern,
    StructPattern,
    TuplePattern,
    VariantPattern,
)
from reflow.lang.types import ErrorType, ListType, StructType, SumType, TupleType, Type

Bind = Callable[[str, Type, Pos], None]


def bind_pattern(pattern: Pattern, type: Type, bind: Bind) -> ErrorType | None:
    """Call ``bind`` for each name with its type; return what does not fit, or None.

    Names before the place that does not fit have been bound by then.
    """
    match pattern:
        case IdentPattern(name=name):
            bind(name, type, pattern.pos)
            return None
        case TuplePattern():
            return _bind_tuple(pattern, type, bind)
        case ListPattern():
            return _bind_list(pattern, type, bind)
        case StructPattern():
            return _bind_struct(pattern, type, bind)
        case VariantPattern():
            return _bind_variant(pattern, type, bind)
        case _:
            return None


def _bind_tuple(pattern: TuplePattern, type: Type, bind: Bind) -> ErrorType | None:
    if not isinstance(type, TupleType):
        return ErrorType(f"expected tuple, got {type}")
    want, got = len(type.fields), len(pattern.items)
    if want != got:
        hint = "write _ for elements that are not needed" if got < want else ""
        return ErrorType(f"expected tuple of size {want}, got {got} ({type})", hint=hint)
    for item, field in zip(pattern.items, type.fields, strict=True):
        wrong = bind_pattern(item, field.type, bind)
        if wrong is not None:
            return wrong
    return None


def _bind_list(pattern: ListPattern, type: Type, bind: Bind) -> ErrorType | None:
    if not isinstance(type, ListType):
        return ErrorType(f"expected list, got {type}")
    for item in pattern.items:
        wrong = bind_pattern(item, type.element, bind)
        if wrong is not None:
            return wrong
    return None if pattern.tail is None else bind_pattern(pattern.tail, type, bind)


def _bind_struct(pattern: StructPattern, type: Type, bind: Bind) -> ErrorType | None:
    # A module is no struct here: so it is in the original.
    if not isinstance(type, StructType) or type.kind != "struct":
        return ErrorType(f"expected struct, got {type}")
    for name, item in dict(pattern.fields).items():
        field = type.by_name.get(name)
        if field is None:
            hint = hints.one_of(name, type.by_name, "field")
            return ErrorType(f"struct {type} does not have field {name}", hint=hint)
        wrong = bind_pattern(item, field, bind)
        if wrong is not None:
            return wrong
    return None


def _bind_variant(pattern: VariantPattern, type: Type, bind: Bind) -> ErrorType | None:
    tag = pattern.tag
    if not isinstance(type, SumType):
        return ErrorType(f"expected sum type, got {type}")
    variant = type.variant(tag)
    if variant is None:
        hint = hints.one_of(f"#{tag}", [f"#{each.tag}" for each in type.variants], "variant")
        return ErrorType(f"#{tag} is not a variant of {type}", hint=hint)
    if variant.element is None:
        return None if pattern.element is None else ErrorType(f"#{tag} does not have an element")
    if pattern.element is None:
        hint = f"write #{tag}(_)"
        return ErrorType(f"#{tag} element is not matched; try `#{tag} _`", hint=hint)
    return bind_pattern(pattern.element, variant.element, bind)
