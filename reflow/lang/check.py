"""The type checker: every expression gets a type, or the program is refused with all that is wrong with it.

`check_module` and `check_expr_standalone` are the way in. They set ``type`` on every expression, ``builtin``
on calls of builtins and ``module`` on ``make``.
"""

from __future__ import annotations

from collections.abc import Mapping

from reflow.lang import syntax
from reflow.lang.check_call import check_apply, check_conversion
from reflow.lang.check_exec import check_exec, check_requires
from reflow.lang.check_expr import (
    check_ascribe,
    check_block,
    check_compr,
    check_cond,
    check_deref,
    check_func,
    check_ident,
    check_index,
    check_list,
    check_literal,
    check_map,
    check_struct,
    check_tuple,
    check_variant,
)
from reflow.lang.check_module import (
    argument_error,
    check_decl,
    check_make,
    check_params,
    depth_error,
    module_info,
)
from reflow.lang.check_ops import check_binop, check_unop
from reflow.lang.check_switch import check_switch
from reflow.lang.checker import Checker, Rule
from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.module import Opener
from reflow.lang.module_info import CheckedParam, ModuleInfo
from reflow.lang.pretty import pattern_text
from reflow.lang.syntax import Expr
from reflow.lang.tenv import base_type_env
from reflow.lang.types import Type

__all__ = [
    "CheckedParam",
    "ModuleInfo",
    "argument_error",
    "base_type_env",
    "check_expr_standalone",
    "check_module",
    "pattern_text",
]

RULES: Mapping[type[Expr], Rule] = {
    syntax.Ident: check_ident,
    syntax.Literal: check_literal,
    syntax.Binop: check_binop,
    syntax.Unop: check_unop,
    syntax.Apply: check_apply,
    syntax.Builtin: check_conversion,
    syntax.Ascribe: check_ascribe,
    syntax.Block: check_block,
    syntax.Func: check_func,
    syntax.Tuple: check_tuple,
    syntax.Struct: check_struct,
    syntax.ListExpr: check_list,
    syntax.MapExpr: check_map,
    syntax.VariantExpr: check_variant,
    syntax.ExecExpr: check_exec,
    syntax.Cond: check_cond,
    syntax.Switch: check_switch,
    syntax.Deref: check_deref,
    syntax.Index: check_index,
    syntax.Compr: check_compr,
    syntax.Make: check_make,
    syntax.RequiresExpr: check_requires,
}
"""The rule of each class of expression; a test sees to it that none is missing."""


def check_module(module: syntax.Module, opener: Opener, dir: str) -> ModuleInfo:
    """Check a parsed module; ``dir`` is where ``./`` in its ``make`` starts from.

    Raises SourceError with all errors. Warnings go to ``opener.warn``, inner scopes first.

    Source: syntax/module.go, (*ModuleImpl).Init
    """
    check = Checker(base_type_env(), RULES, opener, dir, module.decls)
    check.env.push()
    errors: list[Diagnostic] = []
    place = module.pos
    try:
        params = check_params(check, module.params, errors)
        for decl in module.decls:
            place = decl.pos
            check_decl(check, decl, errors)
    except RecursionError:
        raise SourceError([*errors, depth_error(place)]) from None
    check.warn_unused(check.env.symbols())
    if errors:
        raise SourceError(errors)
    return module_info(check, params, module.decls)


def check_expr_standalone(expr: Expr, opener: Opener | None = None) -> Type:
    """Check an expression that stands for itself, with nothing but the base environment; its type.

    Raises SourceError with all errors.
    """
    check = Checker(base_type_env(), RULES, opener, "")
    try:
        found = check.expr(expr)
        errors = check.errors_in(expr) if check.failed else []
    except RecursionError:
        raise SourceError([depth_error(expr.pos)]) from None
    if errors:
        raise SourceError(errors)
    return found
