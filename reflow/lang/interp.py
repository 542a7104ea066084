"""The interpreter: from a checked tree to a value or a lazy flow graph.

Everything that can be computed is computed now; what hangs on a flow becomes a node that goes on when the
flow's value is there. Delayed values sit anywhere inside values: only what an operation must know is awaited.
Source: syntax/eval.go, syntax/module.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from reflow.lang import syntax as s
from reflow.lang.env import Env, base_env
from reflow.lang.evaluation import EVALUATORS, Closure, Session, decl_ident, evaluate
from reflow.lang.interp_builtin import evaluate_builtin
from reflow.lang.interp_compr import evaluate_compr
from reflow.lang.interp_exec import evaluate_exec, evaluate_requires
from reflow.lang.interp_expr import (
    evaluate_apply,
    evaluate_ascribe,
    evaluate_binop,
    evaluate_block,
    evaluate_cond,
    evaluate_deref,
    evaluate_func,
    evaluate_ident,
    evaluate_index,
    evaluate_list,
    evaluate_literal,
    evaluate_make,
    evaluate_map,
    evaluate_struct,
    evaluate_tuple,
    evaluate_unop,
    evaluate_variant,
)
from reflow.lang.interp_switch import evaluate_switch
from reflow.lang.pattern import bind_pattern, parts
from reflow.lang.types import is_exported
from reflow.lang.value import Struct, Value

__all__ = ["Closure", "Session", "evaluate", "instantiate"]

EVALUATORS.update(
    {
        s.Ident: evaluate_ident,
        s.Literal: evaluate_literal,
        s.Binop: evaluate_binop,
        s.Unop: evaluate_unop,
        s.Apply: evaluate_apply,
        s.Builtin: evaluate_builtin,
        s.Ascribe: evaluate_ascribe,
        s.Block: evaluate_block,
        s.Func: evaluate_func,
        s.Tuple: evaluate_tuple,
        s.Struct: evaluate_struct,
        s.ListExpr: evaluate_list,
        s.MapExpr: evaluate_map,
        s.VariantExpr: evaluate_variant,
        s.ExecExpr: evaluate_exec,
        s.Cond: evaluate_cond,
        s.Switch: evaluate_switch,
        s.Deref: evaluate_deref,
        s.Index: evaluate_index,
        s.Compr: evaluate_compr,
        s.Make: evaluate_make,
        s.RequiresExpr: evaluate_requires,
    }
)


def instantiate(
    module: s.Module,
    session: Session,
    args: Mapping[str, Value],
    flag_values: Mapping[str, Value] | None,
    prefix: str,
    keep_first: Set[str] = frozenset(),
) -> Struct:
    """Evaluate a module's declarations and return its exported values.

    A name that is declared twice has its last value, or its first if it is one of ``keep_first``.
    ``args`` are given parameters, ``flag_values`` those injected into the module, used where none is given.
    Values are named ``PREFIX.NAME``, or ``NAME`` when the prefix is empty. Raises EvalError.
    """
    env = base_env(flag_values).push()
    for name, value in args.items():
        env.bind(name, value)
    supplied = args.keys() | (flag_values or {}).keys()
    env = _bind_defaults(module, session, env.push(), supplied)
    exported = Struct()
    for decl in module.decls:
        if not isinstance(decl, s.Assign):
            continue
        value = evaluate(session, env, decl.expr, _toplevel_ident(decl, prefix))
        env = env.extend()
        bind_pattern(env, decl.pattern, value, decl.expr.type)
        for name in s.pattern_idents(decl.pattern):
            if is_exported(name) and not (name in keep_first and name in exported):
                exported[name] = env.value(name)
    return exported


def _toplevel_ident(decl: s.Assign, prefix: str) -> str:
    """The name of a top-level value; a pattern that is no plain name gives none."""
    return decl_ident(decl, prefix) if isinstance(decl.pattern, s.IdentPattern) else ""


def _bind_defaults(module: s.Module, session: Session, env: Env, supplied: set[str]) -> Env:
    """Add a frame for each parameter with a default, which is evaluated when a name of it is not supplied."""
    for param in module.params:
        if not isinstance(param, s.Assign):
            continue
        env = env.extend()
        missing = [name for name in s.pattern_idents(param.pattern) if name not in supplied]
        if not missing:
            continue
        value = evaluate(session, env, param.expr, "")
        for name, part in parts(param.pattern, value, param.expr.type):
            if name in missing:
                env.bind(name, part)
    return env
