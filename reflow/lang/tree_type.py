"""Rules of the grammar that only gather, and those for types and patterns. See `reflow.lang.tree`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow.lang import types
from reflow.lang.source import Pos, Source
from reflow.lang.syntax import (
    Expr,
    Ident,
    IdentPattern,
    IgnorePattern,
    ListPattern,
    Pattern,
    StructPattern,
    TuplePattern,
    VariantPattern,
)
from reflow.lang.types import Field, Type, VariantType

Fields = list[tuple[str, Type]]


class _Lists:
    """Rules that only gather values. Lists grow in place: each belongs to one sequence."""

    def nothing(self) -> None:
        """An absent part."""

    def empty(self) -> list[Any]:
        """A sequence without elements."""
        return []

    def one(self, item: Any) -> list[Any]:
        """A sequence that begins."""
        return [item]

    def one_more(self, items: list[Any], _comma: int, item: Any) -> list[Any]:
        """A sequence that goes on after a comma."""
        items.append(item)
        return items

    def first_of(self, item: Any, _semi: int) -> list[Any]:
        """A sequence that begins with something ended by a semicolon."""
        return [item]

    def appended(self, items: list[Any], item: Any, _semi: int) -> list[Any]:
        """A sequence that goes on, each item ended by a semicolon."""
        items.append(item)
        return items

    def appended_plain(self, items: list[Any], item: Any) -> list[Any]:
        """A sequence that goes on with nothing between."""
        items.append(item)
        return items

    def extended(self, items: list[Any], more: list[Any], _semi: int) -> list[Any]:
        """A sequence that goes on with several items."""
        items.extend(more)
        return items

    def joined(self, items: list[Any], _comma: int, more: list[Any]) -> list[Any]:
        """Two sequences with a comma between."""
        items.extend(more)
        return items

    def second(self, _first: int, item: Any) -> Any:
        """What follows a keyword."""
        return item

    def third(self, _keyword: int, _open: int, item: Any, _close: int) -> Any:
        """What stands in parentheses behind a keyword."""
        return item


class _Base(_Lists):
    """What all rules share: the source, its comments, and what was complained about."""

    def __init__(self, source: Source, comments: dict[int, str], complain: Callable[[str], None]) -> None:
        self.source = source
        self.comments = comments
        self.complain = complain
        self.longest_spine = 0
        """The most nodes that may hang on each other by their left sides."""
        self._spines: dict[int, int] = {}

    def _pos(self, at: int, length: int, end: int) -> Pos:
        """The place of something named by a token of ``length`` characters before ``at``."""
        return Pos(self.source, at, at - length, end)

    def _unset(self, start: int, end: int) -> Pos:
        """A place that the original does not report."""
        return Pos(self.source, -1, start, end)

    def _note_spine(self, length: int) -> None:
        if length > self.longest_spine:
            self.longest_spine = length

    def _grown(self, left: Expr, end: int) -> Pos:
        """The place of an operation whose left operand is given: that of the operand, stretched."""
        pos = left.pos
        spine = self._spines[pos.start] = self._spines.get(pos.start, 0) + 1
        if spine > self.longest_spine:
            self.longest_spine = spine
        return Pos(self.source, pos.at, pos.start, end)


class _Types(_Base):
    """Types: made with the constructors that check them."""

    def type_int(self, _word: Pos) -> Type:
        """``int``."""
        return types.INT

    def type_float(self, _word: Pos) -> Type:
        """``float``."""
        return types.FLOAT

    def type_string(self, _word: int) -> Type:
        """``string``."""
        return types.STRING

    def type_bool(self, _word: int) -> Type:
        """``bool``."""
        return types.BOOL

    def type_file(self, _word: int) -> Type:
        """``file``."""
        return types.FILE

    def type_dir(self, _word: int) -> Type:
        """``dir``."""
        return types.DIR

    def type_ref(self, path: list[str]) -> Type:
        """The name of an alias."""
        return types.ref(path)

    def type_list(self, _open: int, element: Type, _close: int) -> Type:
        """``[T]``."""
        return types.list_of(element)

    def type_map(self, _open: int, key: Type, _colon: int, value: Type, _close: int) -> Type:
        """``[K: V]``."""
        return types.map_of(key, value)

    def type_struct(self, _open: int, fields: Fields, _close: int) -> Type:
        """``{a, b T}``."""
        return types.struct_of(type_fields(fields))

    def type_module(self, _word: int, _open: int, fields: Fields, _close: int) -> Type:
        """``module {a, b T}``."""
        return types.module_of(type_fields(fields))

    def type_tuple(self, _open: int, fields: list[Field], _close: int) -> Type:
        """``(T, U)``; ``(T)`` is T, ``(x T)`` is T with a label."""
        if not fields:
            return types.UNIT
        if len(fields) > 1:
            return types.tuple_of(fields)
        only = fields[0]
        if only.type.label == only.name or isinstance(only.type, types.ErrorType):
            return only.type
        return only.type.replaced(label=only.name)

    def type_func(self, _word: int, _open: int, fields: list[Field], _close: int, result: Type) -> Type:
        """``func(T, U) R``."""
        return types.func_of(fields, result)

    def type_sum(self, variants: list[VariantType]) -> Type:
        """``#A | #B(T)``."""
        return types.sum_of(variants)

    def path(self, name: Ident) -> list[str]:
        """``x``."""
        return [name.name]

    def path_more(self, path: list[str], _dot: int, name: Ident) -> list[str]:
        """``x.y``."""
        path.append(name.name)
        return path

    def variant(self, _hash: int, tag: Ident) -> VariantType:
        """``#A``."""
        return VariantType(tag.name)

    def variant_element(self, _hash: int, tag: Ident, _open: int, element: Type, _close: int) -> VariantType:
        """``#A(T)``."""
        return VariantType(tag.name, element)

    def field(self, names: list[Ident], type: Type) -> Fields:
        """``a, b T``."""
        return [(each.name, type) for each in names]

    def typearg(self, type: Type) -> tuple[Type, None]:
        """``T``, or a name whose type follows later."""
        return type, None

    def typearg_named(self, name: Type, type: Type) -> tuple[Type, Type]:
        """``x T``."""
        return name, type

    def typeargs(self, args: list[tuple[Type, Type | None]]) -> list[Field]:
        """Types, or names with types. A mixture is complained about and comes to nothing."""
        fields: list[Field] = []
        group: list[Type] = []
        for name, type_ in args:
            group.append(name)
            if type_ is None:
                continue
            for each in group:
                if not isinstance(each, types.RefType):
                    self.complain(f"expected identifier, found {each}")
                    return []
                if len(each.path) != 1:
                    self.complain("non-simple argument name")
                    return []
                fields.append(Field(each.path[0], type_))
            group = []
        if group and fields:
            self.complain("cannot mix named and unnamed arguments")
            return []
        return fields or [Field("", each) for each in group]


class PatternBuilder(_Types):
    """Patterns."""

    def pattern_ident(self, name: Ident) -> Pattern:
        """``x``."""
        return IdentPattern(name.pos, name.name)

    def pattern_ignore(self, at: int) -> Pattern:
        """``_``."""
        return IgnorePattern(self._pos(at, 1, at))

    def pattern_tuple(self, at: int, items: list[Pattern], end: int) -> Pattern:
        """``(p, q)``."""
        return TuplePattern(self._pos(at, 1, end), tuple(items))

    def pattern_list(self, at: int, items: tuple[list[Pattern], Pattern | None], end: int) -> Pattern:
        """``[p, q]`` and ``[p, q, ...tail]``."""
        return ListPattern(self._pos(at, 1, end), tuple(items[0]), items[1])

    def listpatterns(self, items: list[Pattern]) -> tuple[list[Pattern], None]:
        """``p, q``."""
        return items, None

    def listpatterns_tail(
        self, items: list[Pattern], _comma: int, tail: Pattern
    ) -> tuple[list[Pattern], Pattern]:
        """``p, q, ...tail``."""
        return items, tail

    def tail_ignored(self, at: int) -> Pattern:
        """A bare ``...``."""
        return IgnorePattern(self._pos(at, 3, at))

    def pattern_struct(self, at: int, fields: list[tuple[str, Pattern]], end: int) -> Pattern:
        """``{a, b: p}``."""
        return StructPattern(self._pos(at, 1, end), tuple(fields))

    def fieldpattern_short(self, name: Ident) -> tuple[str, Pattern]:
        """``a``, short for ``a: a``."""
        return name.name, IdentPattern(self._unset(name.pos.start, name.pos.end), name.name)

    def fieldpattern(self, name: Ident, _colon: int, pattern: Pattern) -> tuple[str, Pattern]:
        """``a: p``."""
        return name.name, pattern

    def pattern_variant(self, at: int, tag: Ident) -> Pattern:
        """``#A``."""
        return VariantPattern(self._pos(at, 1, tag.pos.end), tag.name, None)

    def pattern_variant_element(self, at: int, tag: Ident, _open: int, element: Pattern, end: int) -> Pattern:
        """``#A(p)``."""
        return VariantPattern(self._pos(at, 1, end), tag.name, element)


def type_fields(fields: Fields) -> list[Field]:
    """Parameters as the fields of a type."""
    return [Field(name, each) for name, each in fields]
