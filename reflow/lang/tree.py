"""What each rule of the grammar means: one method per name in ``grammar.lark``.

Parameters are the values of the rule's symbols: for keywords and punctuation the offset behind the token,
for the rest what the lexer or another method made. Positions follow the original (``at``), spans are the
true ones. Source: syntax/reflow.y.
"""

from __future__ import annotations

from reflow.lang import types
from reflow.lang.source import Pos
from reflow.lang.syntax import (
    Ascribe,
    Assign,
    Decl,
    Declare,
    ErrorDecl,
    Expr,
    Func,
    Ident,
    IdentPattern,
    Module,
    Pattern,
    RequiresExpr,
    TypeDecl,
)
from reflow.lang.tree_expr import ExprBuilder
from reflow.lang.tree_type import Fields, type_fields
from reflow.lang.types import Type


class TreeBuilder(ExprBuilder):
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
        stated = types.func_of(type_fields(fields), result)
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

    def type_decl(self, at: int, name: Ident, type: Type) -> Decl:
        """``type T U``."""
        pos = Pos(self.source, at, name.pos.start, name.pos.end)
        return TypeDecl(pos, self.comments.get(at, ""), name.name, type)

    def param_single(self, keyword: int, decls: list[Decl]) -> list[Decl]:
        """``param …``: the comment before the keyword is for all names without one of their own."""
        comment = self.comments.get(keyword, "")
        for each in decls:
            each.comment = each.comment or comment
        return decls

    def param_required(self, names: list[Ident], type: Type) -> list[Decl]:
        """``a, b T``. All are reported at the first name."""
        at = names[0].pos.at
        return [
            Declare(Pos(self.source, at, each.pos.start, each.pos.end), self._comment(each), each.name, type)
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
