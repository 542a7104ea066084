"""Rules of the grammar for expressions. See `reflow.lang.tree`."""

from __future__ import annotations

from typing import Any

from reflow.lang.source import Pos
from reflow.lang.syntax import (
    PRECEDENCE,
    Apply,
    Ascribe,
    Binop,
    Block,
    Builtin,
    Case,
    Clause,
    Compr,
    Cond,
    Decl,
    Deref,
    EnumClause,
    ExecExpr,
    Expr,
    FilterClause,
    Func,
    Ident,
    Index,
    ListExpr,
    Literal,
    Make,
    MapExpr,
    Pattern,
    Struct,
    Switch,
    Template,
    Tuple,
    Unop,
    VariantExpr,
)
from reflow.lang.tree_type import Fields, PatternBuilder
from reflow.lang.types import Type


class _Chain(list[Any]):
    """Operands and operators in turn, not yet arranged."""

    __slots__ = ()


class _Operations(PatternBuilder):
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
        operands: list[Expr] = [chain[0]]
        operators: list[str] = []
        for index in range(1, len(chain), 2):
            op = chain[index]
            while operators and PRECEDENCE[operators[-1]] >= PRECEDENCE[op]:
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


class ExprBuilder(_Containers):
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
