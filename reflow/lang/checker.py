"""The state of a type check, and how errors are gathered from a checked tree.

Rules (`check_expr` and its neighbours) give each expression a type; an error is a type as well. Afterwards
the tree is walked for errors: those inside an expression suppress its own, which mostly follows from them.

Source: syntax/expr.go, (*Expr).err
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from reflow.lang import hints, syntax
from reflow.lang.case_space import Effort
from reflow.lang.check_pattern import bind_pattern
from reflow.lang.diagnostic import Diagnostic
from reflow.lang.limit import MAX_QUOTED, cropped
from reflow.lang.module import Opener
from reflow.lang.source import INPUT_NAME, Pos
from reflow.lang.syntax import Assign, Decl, Expr, Pattern
from reflow.lang.tenv import Symbol, TypeEnv, Use, unused
from reflow.lang.types import ErrorType, Type

Rule = Callable[["Checker", "syntax.Expr"], Type]

_MOST_HINTED = 40
"""For how many names a similar one is looked for: that takes milliseconds in a large program."""


class Checker:
    """One pass over a module or an expression. ``rules`` has one for each class of expression.

    ``effort`` bounds the time that all its switches take. ``failed`` turns true when an expression gets an
    error type or a pattern does not fit, so that a tree without errors need not be walked for them.
    """

    def __init__(
        self,
        env: TypeEnv,
        rules: Mapping[type[Expr], Rule],
        opener: Opener | None,
        directory: str,
        decls: Sequence[Decl] = (),
    ) -> None:
        self.env = env
        self.opener = opener
        self.directory = directory
        self.failed = False
        self.effort = Effort()
        self._rules = rules
        self._decls = decls
        self._decl_errors: dict[Decl, ErrorType] = {}
        self._broken: set[str] = set()
        self._misfits: list[Diagnostic] = []
        self._hinted: set[str] = set()
        self._warned_of_carriage_returns = False

    def expr(self, expr: Expr) -> Type:
        """Give an expression, and all in it, a type."""
        found = self._rules[type(expr)](self, expr)
        expr.type = found
        if found.kind_id == 0:
            self.failed = True
        return found

    # ------------------------------------------------------------------------------- declarations

    def decl(self, decl: Decl) -> Type:
        """Check a declaration inside of an expression; its type."""
        if isinstance(decl, Assign):
            found = self.expr(decl.expr)
            if found.kind_id == 0:
                self.break_names(decl)
            return found
        text = "types can only be declared at the top level of a module"
        return self.fail_decl(decl, ErrorType(text, hint="move it above the declaration that it stands in"))

    def decl_with_errors(self, decl: Decl) -> tuple[Type, list[Diagnostic]]:
        """Check a declaration; its type, and the errors in its expression."""
        outer, self.failed = self.failed, False
        found = self.decl(decl)
        errors: list[Diagnostic] = []
        if self.failed:
            errors = self.errors_in(decl.expr) if isinstance(decl, Assign) else self._decl_error(decl, [])
        self.failed |= outer
        return found, errors

    def fail_decl(self, decl: Decl, error: ErrorType) -> ErrorType:
        """Note that a declaration itself is wrong."""
        self._decl_errors[decl] = error
        self.failed = True
        self.break_names(decl)
        return error

    def break_names(self, decl: Decl) -> None:
        """Remember that names are missing because their declaration is wrong."""
        if isinstance(decl, Assign):
            self._broken.update(syntax.pattern_idents(decl.pattern))

    def bind(self, pattern: Pattern, type: Type, use: Use) -> ErrorType | None:
        """Bind a pattern's names in the innermost scope; return what does not fit, or None."""
        env = self.env
        if isinstance(pattern, syntax.IdentPattern):
            env.bind(pattern.name, type, pattern.pos, use)
            return None
        return bind_pattern(pattern, type, lambda name, each, pos: env.bind(name, each, pos, use))

    def bind_local(self, decl: Assign, type: Type) -> None:
        """Bind a block's declaration; a pattern that does not fit is an error of the declaration."""
        wrong = self.bind(decl.pattern, type, Use.ALWAYS)
        if wrong is not None:
            self.fail_decl(decl, wrong)
            self._misfits.append(Diagnostic(decl.pos, wrong.message, wrong.hint))

    # ------------------------------------------------------------------------------------- scopes

    def close_scope(self) -> None:
        """End the innermost scope and warn of what it does not use."""
        self.warn_unused(self.env.pop())

    def warn_unused(self, symbols: Iterable[Symbol]) -> None:
        """Warn of unused names, in order of place."""
        if self.opener is None:
            return
        for symbol in unused(symbols):
            self.opener.warn(symbol.pos, f"{symbol.name} declared and not used")

    def warn_of_carriage_returns(self, pos: Pos) -> None:
        """Warn, once, that a script holds the line ends of another system; they are part of its digest.

        The original does not; so the line has not the form of its warnings.
        """
        if self.opener is None or self._warned_of_carriage_returns:
            return
        self._warned_of_carriage_returns = True
        place = f"{pos.source.name or INPUT_NAME}, line {pos.line_column()[0]}"
        self.opener.warn(place, "lines of scripts end in CRLF: the carriage returns are part of the commands")

    @cached_property
    def _outline(self) -> dict[str, Pos]:
        """The names that the module declares, for hints."""
        places: dict[str, Pos] = {}
        for decl in self._decls:
            if isinstance(decl, Assign):
                places.update(dict.fromkeys(syntax.pattern_idents(decl.pattern), decl.pos))
        return places

    def unknown_name(self, name: str) -> str:
        """What to say about a name that is not bound; said once, and not for ever new names."""
        if name in self._hinted or len(self._hinted) == _MOST_HINTED:
            return ""
        self._hinted.add(name)
        return hints.unknown_name(name, self.env, self._broken, self._outline)

    # ------------------------------------------------------------------------------------- errors

    def errors_in(self, expr: Expr) -> list[Diagnostic]:
        """The errors of a checked expression.

        A pattern that does not fit can hide where errors are not looked for (the result of a comprehension,
        a script); the original accepts that and crashes when it runs, so it counts when nothing else does.
        """
        errors = self._errors(expr)
        if not errors:
            errors = self._misfits
        self._misfits = []
        return errors

    def _errors(self, expr: Expr) -> list[Diagnostic]:
        if isinstance(expr, syntax.Binop):
            return self._errors_in_chain(expr)
        found: list[Diagnostic] = []
        for decl in getattr(expr, "decls", ()):
            if isinstance(decl, Assign) and hasattr(decl.expr, "type"):
                found += self._decl_error(decl, self._errors(decl.expr))
            else:
                found += self._decl_error(decl, [])
        if found:
            return found
        for part in _PARTS[type(expr)](expr):
            found += self._errors(part)
        return found or self._own_error(expr)

    def _errors_in_chain(self, expr: Expr) -> list[Diagnostic]:
        """The same for operators; a long chain of them is deep on the left, so that side is not recursive."""
        chain = []
        while isinstance(expr, syntax.Binop):
            chain.append(expr)
            expr = expr.left
        found = self._errors(expr)
        for each in reversed(chain):
            found += self._errors(each.right)
            found = found or self._own_error(each)
        return found

    def _decl_error(self, decl: Decl, inner: list[Diagnostic]) -> list[Diagnostic]:
        error = self._decl_errors.get(decl)
        if error is None and isinstance(decl, Assign) and hasattr(decl.expr, "type"):
            error = decl.expr.type if isinstance(decl.expr.type, ErrorType) else None
        if error is None:
            return inner
        hint = "" if inner else error.hint
        return [Diagnostic(decl.pos, error.message, hint), *inner]

    def _own_error(self, expr: Expr) -> list[Diagnostic]:
        # An expression that was not reached has no type, but what it states may be wrong all the same.
        stated = expr.stated if isinstance(expr, syntax.Ascribe) else None
        stated = expr.result if isinstance(expr, syntax.ExecExpr) else stated
        error = getattr(expr, "type", stated)
        if not isinstance(error, ErrorType):
            return []
        if error.cause is not None:
            return list(error.cause)
        return [Diagnostic(expr.pos, error.message, error.hint)]


def error_text(errors: Iterable[Diagnostic]) -> str:
    """Errors as the text of one message, which does not grow without end when it is quoted in others."""
    return cropped("\n".join([each.headline for each in errors]), MAX_QUOTED)


def _call_parts(call: syntax.Apply) -> Sequence[Expr]:
    return call.args if call.builtin is not None else (call.callee, *call.args)


_PARTS: Mapping[type[Expr], Callable[..., Sequence[Expr]]] = {
    syntax.Ident: lambda _: (),
    syntax.Literal: lambda _: (),
    syntax.Unop: lambda each: (each.operand,),
    syntax.Apply: _call_parts,
    syntax.Builtin: lambda each: each.args,
    syntax.Ascribe: lambda each: (each.expr,),
    syntax.Block: lambda each: (each.result,),
    syntax.Func: lambda each: (each.body,),
    syntax.Tuple: lambda each: each.items,
    syntax.Struct: lambda each: [value for _, value in each.fields],
    syntax.ListExpr: lambda each: each.items,
    syntax.MapExpr: lambda each: [part for entry in each.entries for part in entry],
    syntax.VariantExpr: lambda each: () if each.element is None else (each.element,),
    syntax.ExecExpr: lambda _: (),
    syntax.Cond: lambda each: (each.test, each.then, each.orelse),
    syntax.Switch: lambda each: (each.scrutinee, *(case.expr for case in each.cases)),
    syntax.Deref: lambda each: (each.expr,),
    syntax.Index: lambda each: (each.expr, each.index),
    syntax.Compr: lambda each: [clause.expr for clause in each.clauses],
    syntax.Make: lambda each: (each.path,),
    syntax.RequiresExpr: lambda each: (each.expr,),
}
"""What of an expression is looked through for errors: not the result of a comprehension, nor a script."""
