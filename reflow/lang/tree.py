"""What each rule of the grammar means: one method per name in ``grammar.lark``.

Parameters are the values of the rule's symbols: for keywords and punctuation the offset behind the token,
for the rest what the lexer or another method made. Positions follow the original (``at``), spans are the
true ones. Source: syntax/reflow.y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow.lang import types
from reflow.lang.source import Pos, Source
from reflow.lang.syntax import (
    Apply,
    Ascribe,
    Assign,
    Binop,
    Block,
    Builtin,
    Case,
    Clause,
    Compr,
    Cond,
    Decl,
    Declare,
    Deref,
    EnumClause,
    ErrorDecl,
    ExecExpr,
    Expr,
    FilterClause,
    Func,
    Ident,
    IdentPattern,
    IgnorePattern,
    Index,
    ListExpr,
    ListPattern,
    Literal,
    Make,
    MapExpr,
    Module,
    Pattern,
    RequiresExpr,
    Struct,
    StructPattern,
    Switch,
    Template,
    Tuple,
    TuplePattern,
    TypeDecl,
    Unop,
    VariantExpr,
    VariantPattern,
)
from reflow.lang.types import Field, Type, VariantType

Fields = list[tuple[str, Type]]

_PRECEDENCE = {
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


class _Chain(list[Any]):
    """Operands and operators in turn, not yet arranged."""

    __slots__ = ()


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
        return types.struct_of(_fields(fields))

    def type_module(self, _word: int, _open: int, fields: Fields, _close: int) -> Type:
        """``module {a, b T}``."""
        return types.module_of(_fields(fields))

    def type_tuple(self, _open: int, fields: list[Field], _close: int) -> Type:
        """``(T, U)``; ``(T)`` is T, ``(x T)`` is T with a label."""
        if not fields:
            return types.UNIT
        if len(fields) > 1:
            return types.tuple_of(fields)
        only = fields[0]
        return only.type if only.type.label == only.name else only.type.replaced(label=only.name)

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

    def field(self, names: list[Ident], type: Type) -> Fields:  # noqa: A002  (what it is)
        """``a, b T``."""
        return [(each.name, type) for each in names]

    def typearg(self, type: Type) -> tuple[Type, None]:  # noqa: A002
        """``T``, or a name whose type follows later."""
        return type, None

    def typearg_named(self, name: Type, type: Type) -> tuple[Type, Type]:  # noqa: A002
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


class _Patterns(_Types):
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


class _Operations(_Patterns):
    """Operators, calls and what else has a left operand."""

    def chain_binop(self, chain: Expr | _Chain, op: str, operand: Expr) -> _Chain:
        """One more operator and operand."""
        if type(chain) is _Chain:
            chain += (op, operand)
            return chain
        return _Chain((chain, op, operand))

    def chain_minus(self, chain: Expr | _Chain, _minus: int, operand: Expr) -> _Chain:
        """The same for an operator that may also be a sign."""
        return self.chain_binop(chain, "-", operand)

    def expr(self, chain: Expr | _Chain) -> Expr:
        """Operands and operators, arranged by precedence; all associate to the left."""
        if type(chain) is not _Chain:
            return chain  # type: ignore[return-value]
        if len(chain) == 3:
            left, op, right = chain
            return Binop(self._grown(left, right.pos.end), op, left, right)
        self._note_spine(len(chain) // 2)
        operands: list[Expr] = [chain[0]]
        operators: list[str] = []
        for index in range(1, len(chain), 2):
            op = chain[index]
            while operators and _PRECEDENCE[operators[-1]] >= _PRECEDENCE[op]:
                self._combine(operands, operators)
            operators.append(op)
            operands.append(chain[index + 1])
        while operators:
            self._combine(operands, operators)
        return operands[0]

    def _combine(self, operands: list[Expr], operators: list[str]) -> None:
        right = operands.pop()
        left = operands[-1]
        operands[-1] = Binop(self._grown(left, right.pos.end), operators.pop(), left, right)

    def not_(self, at: int, operand: Expr) -> Expr:
        """``!e``."""
        return Unop(self._pos(at, 1, operand.pos.end), "!", operand)

    def negative(self, at: int, operand: Expr) -> Expr:
        """``-e``."""
        return Unop(self._pos(at, 1, operand.pos.end), "-", operand)

    def index(self, expr: Expr, _open: int, index: Expr, end: int) -> Expr:
        """``e[i]``."""
        return Index(self._grown(expr, end), expr, index)

    def apply(self, callee: Expr, _open: int, args: list[Expr], _comma: int | None, end: int) -> Expr:
        """``f(a, b)``."""
        return Apply(self._grown(callee, end), callee, tuple(args))

    def deref(self, expr: Expr, _dot: int, name: Ident) -> Expr:
        """``e.x``."""
        return Deref(self._grown(expr, name.pos.end), expr, name.name)

    def paren(self, start: int, expr: Expr, end: int) -> Expr:
        """``(e)``: the same expression, underlined with its parentheses."""
        expr.pos = Pos(self.source, expr.pos.at, start - 1, end)
        return expr

    def to_int(self, word: Pos, _open: int, arg: Expr, end: int) -> Expr:
        """``int(e)``."""
        return Builtin(Pos(self.source, word.at, word.start, end), "int", (arg,))

    def to_float(self, word: Pos, _open: int, arg: Expr, end: int) -> Expr:
        """``float(e)``."""
        return Builtin(Pos(self.source, word.at, word.start, end), "float", (arg,))


class _Containers(_Operations):
    """Expressions in brackets."""

    def tuple_(
        self, at: int, first: Expr, _first_comma: int, rest: list[Expr], _comma: int | None, end: int
    ) -> Expr:
        """``(a, b)``."""
        return Tuple(self._pos(at, 1, end), (first, *rest))

    def struct(self, at: int, fields: list[tuple[str, Expr]], _comma: int | None, end: int) -> Expr:
        """``{a: x, b}``."""
        return Struct(self._pos(at, 1, end), tuple(fields))

    def fieldexpr_short(self, name: Ident) -> tuple[str, Expr]:
        """``a``, short for ``a: a``."""
        return name.name, name

    def fieldexpr(self, name: Ident, _colon: int, expr: Expr) -> tuple[str, Expr]:
        """``a: e``."""
        return name.name, expr

    def list_(self, at: int, items: list[Expr], _comma: int | None, end: int) -> Expr:
        """``[a, b]``."""
        return ListExpr(self._pos(at, 1, end), tuple(items))

    def spread(self, _dots: int, expr: Expr, _semi: int | None) -> list[Expr]:
        """``...e``."""
        return [expr]

    def spread_more(self, spreads: list[Expr], _dots: int, expr: Expr, _semi: int | None) -> list[Expr]:
        """One more ``...e``."""
        spreads.append(expr)
        return spreads

    def list_spread(
        self,
        at: int,
        items: list[Expr],
        _comma: int | None,
        spreads: list[Expr],
        _last: int | None,
        end: int,
    ) -> Expr:
        """``[a, ...b ...c]``, which is ``([a] + b) + c``."""
        self._note_spine(len(spreads))
        whole: Expr = ListExpr(self._pos(at, 1, end), tuple(items))
        for each in spreads:
            whole = Binop(self._pos(at, 1, end), "+", whole, each)
        return whole

    def entry(self, key: Expr, _colon: int, value: Expr) -> list[tuple[Expr, Expr]]:
        """``k: v``."""
        return [(key, value)]

    def entry_more(
        self, entries: list[tuple[Expr, Expr]], _comma: int, key: Expr, _colon: int, value: Expr
    ) -> list[tuple[Expr, Expr]]:
        """One more ``k: v``."""
        entries.append((key, value))
        return entries

    def map_empty(self, at: int, _colon: int, end: int) -> Expr:
        """``[:]``."""
        return MapExpr(self._pos(at, 1, end), ())

    def map_(self, at: int, entries: list[tuple[Expr, Expr]], _comma: int | None, end: int) -> Expr:
        """``[k: v]``."""
        return MapExpr(self._pos(at, 1, end), tuple(entries))

    def map_spread(
        self,
        at: int,
        entries: list[tuple[Expr, Expr]],
        _comma: int | None,
        spreads: list[Expr],
        _last: int | None,
        end: int,
    ) -> Expr:
        """``[k: v, ...m ...n]``, which is ``n + (m + [k: v])``."""
        self._note_spine(len(spreads))
        whole: Expr = MapExpr(self._pos(at, 1, end), tuple(entries))
        for each in spreads:
            whole = Binop(self._pos(at, 1, end), "+", each, whole)
        return whole

    def compr(self, at: int, result: Expr, _bar: int, clauses: list[Clause], end: int) -> Expr:
        """``[e | clauses]``."""
        return Compr(self._pos(at, 1, end), result, tuple(clauses))

    def clause_enum(self, pattern: Pattern, _arrow: int, expr: Expr) -> Clause:
        """``p <- e``."""
        return EnumClause(self._unset(pattern.pos.start, expr.pos.end), pattern, expr)

    def clause_filter(self, word: int, expr: Expr) -> Clause:
        """``if e``."""
        return FilterClause(self._unset(word - 2, expr.pos.end), expr)

    def tag(self, at: int, tag: Ident) -> Expr:
        """``#A``."""
        return VariantExpr(self._pos(at, 1, tag.pos.end), tag.name, None)

    def tag_element(self, at: int, tag: Ident, _open: int, element: Expr, end: int) -> Expr:
        """``#A(e)``."""
        return VariantExpr(self._pos(at, 1, end), tag.name, element)


class _Control(_Containers):
    """Expressions that begin with a keyword, and blocks."""

    def ident_file(self, at: int) -> Expr:
        """``file`` as a name."""
        return Ident(self._pos(at, 4, at), "file")

    def ident_dir(self, at: int) -> Expr:
        """``dir`` as a name."""
        return Ident(self._pos(at, 3, at), "dir")

    def func(self, at: int, _open: int, fields: Fields, _close: int, _arrow: int, body: Expr) -> Expr:
        """``func(x T) => e``."""
        return Func(self._pos(at, 4, body.pos.end), tuple(fields), body)

    def func_typed(
        self, at: int, _open: int, fields: Fields, _close: int, result: Type, _arrow: int, body: Expr
    ) -> Expr:
        """``func(x T) R => e``: the function itself, not its result, is said to be an R."""
        func = Func(Pos(self.source, body.pos.at, at - 4, body.pos.end), tuple(fields), body)
        return Ascribe(self._pos(at, 4, body.pos.end), result, func)

    def exec_(
        self, at: int, _open: int, decls: list[Decl], _close: int, result: Type, template: Template
    ) -> Expr:
        """``exec(decls) T {" "}``."""
        return ExecExpr(self._pos(at, 4, _close), tuple(decls), result, template)

    def make(self, at: int, _open: int, path: Literal, end: int) -> Expr:
        """``make(path)``."""
        return Make(self._pos(at, 4, end), path, ())

    def make_args(
        self,
        at: int,
        _open: int,
        path: Literal,
        _first_comma: int,
        decls: list[Decl],
        _comma: int | None,
        end: int,
    ) -> Expr:
        """``make(path, decls)``."""
        return Make(self._pos(at, 4, end), path, tuple(decls))

    def cond(self, at: int, test: Expr, then: Expr, orelse: Expr) -> Expr:
        """``if c {…} else {…}``."""
        return Cond(self._pos(at, 2, orelse.pos.end), test, then, orelse)

    def orelse(self, at: int, branch: Expr) -> Expr:
        """``else {…}``: a block around the block."""
        return Block(self._pos(at, 4, branch.pos.end), (), branch)

    def orelse_if(self, at: int, _if: int, test: Expr, then: Expr, orelse: Expr) -> Expr:
        """``else if c {…} else {…}``."""
        return Cond(self._pos(at, 4, orelse.pos.end), test, then, orelse)

    def block(self, at: int, decls: list[Decl], result: Expr, _semi: int | None, end: int) -> Expr:
        """``{ decls; e }``."""
        return Block(self._pos(at, 1, end), tuple(decls), result)

    def switch(self, at: int, scrutinee: Expr, _open: int, cases: list[Case], end: int) -> Expr:
        """``switch e { cases }``."""
        return Switch(self._pos(at, 6, end), scrutinee, tuple(cases))

    def case(self, at: int, pattern: Pattern, _colon: int, expr: Expr, _semi: int | None) -> Case:
        """``case p: e``."""
        return Case(self._pos(at, 4, expr.pos.end), pattern, expr)

    def case_block(self, decls: list[Decl], result: Expr) -> Expr:
        """Declarations and a result behind ``case p:``."""
        return Block(self._unset(decls[0].pos.start, result.pos.end), tuple(decls), result)


class TreeBuilder(_Control):
    """All rules: those for declarations and modules, and what they rest on.

    ``complain`` is told of errors that count only if a syntax error follows.
    """

    def val(self, keyword: int, decl: Assign) -> Assign:
        """``val …``, with the comment before it."""
        decl.comment = self.comments.get(keyword, "")
        return decl

    def val_plain(self, pattern: Pattern, _equals: int, expr: Expr) -> Assign:
        """``p = e``."""
        return Assign(expr.pos, "", pattern, expr)

    def val_typed(self, pattern: Pattern, stated: Type, _equals: int, expr: Expr) -> Assign:
        """``p T = e``."""
        return Assign(expr.pos, "", pattern, Ascribe(expr.pos, stated, expr))

    def assign(self, name: Ident, _assign: int, expr: Expr) -> Assign:
        """``x := e``."""
        return Assign(name.pos, self._comment(name), IdentPattern(name.pos, name.name), expr)

    def short_assign(self, name: Ident) -> Assign:
        """``x``, short for ``x := x``."""
        pos = name.pos
        expr = Ident(self._unset(pos.start, pos.end), name.name)
        return Assign(pos, self._comment(name), IdentPattern(pos, name.name), expr)

    def func_decl(
        self, at: int, name: Ident, _open: int, fields: Fields, _close: int, _equals: int, body: Expr
    ) -> Assign:
        """``func f(x T) = e``."""
        func = Func(self._unset(at - 4, body.pos.end), tuple(fields), body)
        return self._function(at, name, func)

    def func_decl_typed(
        self,
        at: int,
        name: Ident,
        _open: int,
        fields: Fields,
        _close: int,
        result: Type,
        _equals: int,
        body: Expr,
    ) -> Assign:
        """``func f(x T) R = e``."""
        func = Func(self._unset(at - 4, body.pos.end), tuple(fields), body)
        stated = types.func_of(_fields(fields), result)
        return self._function(at, name, Ascribe(self._pos(at, 4, body.pos.end), stated, func))

    def _function(self, at: int, name: Ident, expr: Expr) -> Assign:
        pos = Pos(self.source, at, name.pos.start, name.pos.end)
        return Assign(pos, self.comments.get(at, ""), IdentPattern(pos, name.name), expr)

    def requires(
        self,
        at: int,
        _word: int,
        _open: int,
        decls: list[Decl],
        _close: int,
        _semi: int | None,
        decl: Assign,
    ) -> Assign:
        """``@requires(decls)`` before a declaration; the comment before it counts, even if there is none."""
        decl.expr = RequiresExpr(decl.expr.pos, tuple(decls), decl.expr)
        decl.comment = self.comments.get(at, "")
        return decl

    def type_decl(self, at: int, name: Ident, type: Type) -> Decl:  # noqa: A002  (what it is)
        """``type T U``."""
        pos = Pos(self.source, at, name.pos.start, name.pos.end)
        return TypeDecl(pos, self.comments.get(at, ""), name.name, type)

    def param_single(self, keyword: int, decls: list[Decl]) -> list[Decl]:
        """``param …``: the comment before the keyword is for all names without one of their own."""
        comment = self.comments.get(keyword, "")
        for each in decls:
            each.comment = each.comment or comment
        return decls

    def param_required(self, names: list[Ident], type: Type) -> list[Decl]:  # noqa: A002
        """``a, b T``. All are reported at the first name."""
        at = names[0].pos.at
        return [
            Declare(
                Pos(self.source, at, each.pos.start, each.pos.end), self._comment(each), each.name, type
            )
            for each in names
        ]

    def param_default(self, names: list[Ident], _equals: int, expr: Expr) -> list[Decl]:
        """``a = e``."""
        if len(names) != 1:
            return [ErrorDecl(self._unset(names[0].pos.start, expr.pos.end), "")]
        name = names[0]
        return [Assign(name.pos, self._comment(name), IdentPattern(name.pos, name.name), expr)]

    def param_typed_default(self, names: list[Ident], stated: Type, _equals: int, expr: Expr) -> list[Decl]:
        """``a T = e``."""
        pos = names[0].pos
        ascribed = Ascribe(Pos(self.source, pos.at, expr.pos.start, expr.pos.end), stated, expr)
        return self.param_default(names, _equals, ascribed)

    def module(self, keyspace: Expr | None, params: list[Decl], decls: list[Decl]) -> Module:
        """A whole module."""
        return Module(self._unset(0, 0), self.source, keyspace, tuple(params), tuple(decls))

    def _comment(self, name: Ident) -> str:
        return self.comments.get(name.pos.end, "")


def _fields(fields: Fields) -> list[Field]:
    return [Field(name, each) for name, each in fields]
