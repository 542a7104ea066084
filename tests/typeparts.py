"""Parts of types, in short."""

from __future__ import annotations

from reflow.lang.types import Field, Type, VariantType, sum_of


def fields(**types: Type) -> list[Field]:
    return [Field(name, type) for name, type in types.items()]


def unnamed(*types: Type) -> list[Field]:
    return [Field("", type) for type in types]


def variants(**elements: Type | None) -> Type:
    return sum_of([VariantType(tag, element) for tag, element in elements.items()])
