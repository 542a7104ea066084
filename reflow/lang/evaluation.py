"""The core of the interpreter: evaluating one expression, and waiting for delayed ones.

`reflow.lang.interp` fills the table of evaluators, one per class of expression; import that module, not this
one, to evaluate anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, Protocol

from reflow.core.digest import Digest
from reflow.flow.data import LocalFile
from reflow.flow.node import Flow, label
from reflow.lang.continuation import delayed, when_known
from reflow.lang.diagnostic import EvalError
from reflow.lang.digest_expr import expr_digest, operation_material
from reflow.lang.env import Env
from reflow.lang.source import Pos
from reflow.lang.syntax import Assign, Expr, Func, IdentPattern
from reflow.lang.types import Type
from reflow.lang.value import CallSite, Value


class Session(Protocol):
    """What evaluation needs of the session that a program runs in."""

    def see_image(self, image: str) -> None:
        """An exec with this image was built."""
        ...

    def trace(self, line: str) -> None:
        """Show a line to the user."""
        ...

    def local_file(self, path: str) -> LocalFile:
        """A file of this machine that the program reads."""
        ...


Evaluator = Callable[[Any, Env, Any, str], Value]
"""(session, env, expression, ident) -> value."""

EVALUATORS: dict[type[Expr], Evaluator] = {}


def evaluate(session: Session, env: Env, expr: Expr, ident: str) -> Value:
    """Return the value of an expression, delayed where it must be.

    ``ident`` is the name of the value being computed: delayed results are labelled with it. Raises EvalError.
    """
    value = EVALUATORS[type(expr)](session, env, expr, ident)
    if isinstance(value, Flow) and ident and not value.ident:
        label(value, ident)
    return value


class Site:
    """An expression under evaluation: where a continuation goes on."""

    __slots__ = ("env", "expr", "ident", "session")

    def __init__(self, session: Session, env: Env, expr: Any, ident: str) -> None:
        self.session = session
        self.env = env
        self.expr = expr
        self.ident = ident

    def op(self) -> bytes:
        """What identifies the expression's operation."""
        return operation_material(self.expr, self.env)

    def evaluate(self, expr: Expr) -> Value:
        """Evaluate a part of the expression."""
        return evaluate(self.session, self.env, expr, self.ident)

    def wait(
        self,
        values: list[Value],
        types: Sequence[Type],
        run: Callable[[Site, list[Value]], Value],
        op: Callable[[], bytes] | None = None,
    ) -> Value:
        """`when_known`: ``run`` is given this site too; ``op`` is the expression's own unless given."""
        step = partial(run, self)
        return when_known(values, types, step, op or self.op, self.expr.type, result_ident=self.ident)

    def delay(
        self, values: list[Value], types: Sequence[Type], run: Callable[[Site, list[Value]], Value]
    ) -> Flow:
        """`wait`, but never at once."""
        step = partial(run, self)
        return delayed(values, types, step, self.op, self.expr.type, result_ident=self.ident)


def raise_at(pos: Pos, error: ArithmeticError) -> NoReturn:
    """Turn an error of arithmetic into one with a place."""
    raise EvalError(str(error), pos) from error


def decl_ident(decl: Assign, outer: str) -> str:
    """The name of the value of a declaration inside ``outer``."""
    pattern = decl.pattern
    if not isinstance(pattern, IdentPattern):
        return outer
    return f"{outer}.{pattern.name}" if outer else pattern.name


class Closure:
    """A function of the program: its expression, and the environment it was made in.

    ``ident`` is the name of the value that was being computed there; delayed results of calls are labelled
    with it, whoever calls.
    """

    __slots__ = ("_digest", "_env", "_expr", "_ident", "_session")

    def __init__(self, session: Session, env: Env, expr: Func, ident: str) -> None:
        self._session = session
        self._env = env
        self._expr = expr
        self._ident = ident
        self._digest: Digest | None = None

    @property
    def digest(self) -> Digest:
        """Digest of the expression in its environment."""
        if self._digest is None:
            self._digest = expr_digest(self._expr, self._env)
        return self._digest

    def apply(self, args: Sequence[Value], _site: CallSite | None = None) -> Value:
        """Evaluate the body with the arguments."""
        expr = self._expr
        env = self._env.push()
        for (name, _), value in zip(expr.params, args, strict=True):
            env.bind(name, value)
        return evaluate(self._session, env, expr.body, self._ident)

    def __repr__(self) -> str:
        return f"<function at {self._expr.pos}>"
