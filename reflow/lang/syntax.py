"""The syntax tree.

Nodes are compared by identity. The parser makes them, the checker sets ``type`` on expressions
(and ``builtin`` on calls of builtins) once, and nothing else ever changes them: a slot on the node
costs a third of a side table and is stored with the module's checked form (decision 0003).
Sugar is gone: see `reference` §2.4 for what the parser rewrites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reflow.lang.source import Pos, Source

if TYPE_CHECKING:
    from reflow.lang.types import Type


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """Anything with a place."""

    pos: Pos


PRECEDENCE = {
    "~>": 1,
    "||": 2,
    "&&": 3,
    "<": 4,
    ">": 4,
    "<=": 4,
    ">=": 4,
    "!=": 4,
    "==": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%": 6,
    "&": 6,
    "<<": 6,
    ">>": 6,
}
"""Binary operators; all associate to the left."""


# ---------------------------------------------------------------------------------------- patterns


@dataclass(slots=True, eq=False, repr=False)
class Pattern(Node):
    """What the left side of a binding looks like."""


@dataclass(slots=True, eq=False, repr=False)
class IdentPattern(Pattern):
    """Binds a name."""

    name: str


@dataclass(slots=True, eq=False, repr=False)
class IgnorePattern(Pattern):
    """``_``."""


@dataclass(slots=True, eq=False, repr=False)
class TuplePattern(Pattern):
    """``(p, q)``."""

    items: tuple[Pattern, ...]


@dataclass(slots=True, eq=False, repr=False)
class ListPattern(Pattern):
    """``[p, q, ...tail]``; a bare ``...`` has an `IgnorePattern` as its tail."""

    items: tuple[Pattern, ...]
    tail: Pattern | None


@dataclass(slots=True, eq=False, repr=False)
class StructPattern(Pattern):
    """``{name: p}``, in source order."""

    fields: tuple[tuple[str, Pattern], ...]


@dataclass(slots=True, eq=False, repr=False)
class VariantPattern(Pattern):
    """``#Tag`` or ``#Tag(p)``."""

    tag: str
    element: Pattern | None


# ------------------------------------------------------------------------------------- declarations


@dataclass(slots=True, eq=False, repr=False)
class Decl(Node):
    """A declaration; ``comment`` is its documentation (see `reference` §1.8), often ending in a newline."""

    comment: str


@dataclass(slots=True, eq=False, repr=False)
class Assign(Decl):
    """``val pattern = expr`` and everything that is sugar for it; a parameter with a default too."""

    pattern: Pattern
    expr: Expr


@dataclass(slots=True, eq=False, repr=False)
class Declare(Decl):
    """``param name type``: a parameter without a default."""

    name: str
    type: Type


@dataclass(slots=True, eq=False, repr=False)
class TypeDecl(Decl):
    """``type name T``; ``type`` as it was written, once it is checked without aliases."""

    name: str
    type: Type


@dataclass(slots=True, eq=False, repr=False)
class ErrorDecl(Decl):
    """A declaration that cannot be, such as ``param a, b = 1``; reported by the checker."""


# --------------------------------------------------------------------------------------- expressions


@dataclass(slots=True, eq=False, repr=False)
class Expr(Node):
    """An expression. ``type`` is set by the checker."""

    type: Type = field(init=False, repr=False)


@dataclass(slots=True, eq=False, repr=False)
class Ident(Expr):
    """A name, ``file`` and ``dir`` included."""

    name: str


@dataclass(slots=True, eq=False, repr=False)
class Literal(Expr):
    """A constant: ``kind`` is int, float, string or bool.

    ``value`` is an `int`, a `bool`, the raw `bytes` of a string, or for a float the number as the
    language holds it (`reflow.lang.number`).
    """

    kind: str
    value: Any


@dataclass(slots=True, eq=False, repr=False)
class Binop(Expr):
    """``left op right``; op is one of ``~> || && < > <= >= != == + - * / % & << >>``."""

    op: str
    left: Expr
    right: Expr


@dataclass(slots=True, eq=False, repr=False)
class Unop(Expr):
    """``!e`` or ``-e``."""

    op: str
    operand: Expr


@dataclass(slots=True, eq=False, repr=False)
class Apply(Expr):
    """``callee(args)``. The checker sets ``builtin`` to its name when this is the call of a builtin."""

    callee: Expr
    args: tuple[Expr, ...]
    builtin: str | None = field(default=None, init=False)


@dataclass(slots=True, eq=False, repr=False)
class Builtin(Expr):
    """``int(e)`` or ``float(e)``, which are syntax; other builtins are an `Apply` with ``builtin`` set."""

    op: str
    args: tuple[Expr, ...]


@dataclass(slots=True, eq=False, repr=False)
class Ascribe(Expr):
    """An expression whose type is stated."""

    stated: Type
    expr: Expr


@dataclass(slots=True, eq=False, repr=False)
class Block(Expr):
    """``{ decls; result }``; may have no declarations (branches of ``if``)."""

    decls: tuple[Decl, ...]
    result: Expr


@dataclass(slots=True, eq=False, repr=False)
class Func(Expr):
    """``func(params) => body``; ``params`` are (name, type).

    Of a module that was stored, ``body`` is read when it is needed first, by ``read_body``.
    """

    params: tuple[tuple[str, Type], ...]
    body: Expr
    read_body: Callable[[], Expr] | None = field(default=None, init=False, repr=False)

    def __getattr__(self, name: str) -> Any:
        """Called for what is not set."""
        if name != "body" or self.read_body is None:
            raise AttributeError(name)
        self.body = self.read_body()
        return self.body


@dataclass(slots=True, eq=False, repr=False)
class Tuple(Expr):
    """``(a, b)``."""

    items: tuple[Expr, ...]


@dataclass(slots=True, eq=False, repr=False)
class Struct(Expr):
    """``{a: x, b}``, in source order."""

    fields: tuple[tuple[str, Expr], ...]


@dataclass(slots=True, eq=False, repr=False)
class ListExpr(Expr):
    """``[a, b]``; spreads became `Binop` ``+``."""

    items: tuple[Expr, ...]


@dataclass(slots=True, eq=False, repr=False)
class MapExpr(Expr):
    """``[k: v]``, in source order."""

    entries: tuple[tuple[Expr, Expr], ...]


@dataclass(slots=True, eq=False, repr=False)
class VariantExpr(Expr):
    """``#Tag`` or ``#Tag(e)``."""

    tag: str
    element: Expr | None


@dataclass(slots=True, eq=False, repr=False)
class Template:
    """The script of an exec: ``fragments`` has one more entry than ``args``; ``text`` is all of it, raw."""

    text: str
    fragments: tuple[str, ...]
    args: tuple[Expr, ...]


@dataclass(slots=True, eq=False, repr=False)
class ExecExpr(Expr):
    """``exec(decls) type template``."""

    decls: tuple[Decl, ...]
    result: Type
    template: Template


@dataclass(slots=True, eq=False, repr=False)
class Cond(Expr):
    """``if test { … } else { … }``."""

    test: Expr
    then: Expr
    orelse: Expr


@dataclass(slots=True, eq=False, repr=False)
class Case(Node):
    """``case pattern: expr``; ``pos`` is that of the keyword."""

    pattern: Pattern
    expr: Expr


@dataclass(slots=True, eq=False, repr=False)
class Switch(Expr):
    """``switch scrutinee { cases }``."""

    scrutinee: Expr
    cases: tuple[Case, ...]


@dataclass(slots=True, eq=False, repr=False)
class Deref(Expr):
    """``e.name``."""

    expr: Expr
    name: str


@dataclass(slots=True, eq=False, repr=False)
class Index(Expr):
    """``e[index]``."""

    expr: Expr
    index: Expr


@dataclass(slots=True, eq=False, repr=False)
class EnumClause(Node):
    """``pattern <- source``."""

    pattern: Pattern
    expr: Expr


@dataclass(slots=True, eq=False, repr=False)
class FilterClause(Node):
    """``if expr``."""

    expr: Expr


Clause = EnumClause | FilterClause


@dataclass(slots=True, eq=False, repr=False)
class Compr(Expr):
    """``[result | clauses]``."""

    result: Expr
    clauses: tuple[Clause, ...]


@dataclass(slots=True, eq=False, repr=False)
class Make(Expr):
    """``make(path, decls)``; ``path`` is syntactically a literal.

    The checker sets ``module`` to the opened module.
    """

    path: Literal
    decls: tuple[Decl, ...]
    module: Any = field(default=None, init=False, repr=False)


@dataclass(slots=True, eq=False, repr=False)
class RequiresExpr(Expr):
    """``@requires(decls)`` on a declaration's expression."""

    decls: tuple[Decl, ...]
    expr: Expr


@dataclass(slots=True, eq=False, repr=False)
class Module(Node):
    """A parsed module. ``params`` are `Declare`, `Assign` or `ErrorDecl`."""

    source: Source
    keyspace: Expr | None
    params: tuple[Decl, ...]
    decls: tuple[Decl, ...]


def pattern_idents(pattern: Pattern) -> Iterator[str]:
    """Names that a pattern binds, in source order."""
    match pattern:
        case IdentPattern(name=name):
            yield name
        case TuplePattern(items=items):
            for item in items:
                yield from pattern_idents(item)
        case ListPattern(items=items, tail=tail):
            for item in items:
                yield from pattern_idents(item)
            if tail is not None:
                yield from pattern_idents(tail)
        case StructPattern(fields=fields):
            for _, item in fields:
                yield from pattern_idents(item)
        case VariantPattern(element=element):
            if element is not None:
                yield from pattern_idents(element)
        case _:
            pass
