"""Modules: the rule for ``make``, and the check of a module's parameters and declarations.

Source: syntax/module.go, Init and ParamErr; syntax/expr.go, (*Expr).init, ExprMake
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reflow.core.errors import ReflowError
from reflow.lang import hints
from reflow.lang.check_pattern import bind_pattern
from reflow.lang.checker import Checker
from reflow.lang.constness import const, fresh_predicate
from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.expand import expand
from reflow.lang.module import Module
from reflow.lang.module_info import CheckedParam, ModuleInfo
from reflow.lang.source import NO_POS, Pos
from reflow.lang.syntax import Assign, Decl, Declare, Expr, IdentPattern, Make, Pattern, TypeDecl
from reflow.lang.tenv import Use
from reflow.lang.types import CONST, ErrorType, Field, ModuleType, Type, is_exported, module_of
from reflow.lang.unify import is_subtype

# ------------------------------------------------------------------------------------------- make


def check_make(check: Checker, expr: Expr) -> Type:
    """Open a module, and check the arguments that it is made with."""
    assert isinstance(expr, Make)
    path_type = check.expr(expr.path)
    if path_type.kind != "string":
        return ErrorType(f"expected string, got {path_type}")
    name = expr.path.value.decode("utf-8", "surrogateescape")
    module = _opened(check, name)
    if isinstance(module, ErrorType):
        return module
    expr.module = module
    args: dict[str, Type] = {}
    for decl in expr.decls:
        if check.decl(decl).kind_id == 0:
            return ErrorType("type error")
        assert isinstance(decl, Assign)
        wrong = bind_pattern(decl.pattern, decl.expr.type, lambda key, type, _: args.update({key: type}))
        if wrong is not None:
            return wrong
    return argument_error(module, args) or module.type_with(args)


def _opened(check: Checker, name: str) -> Module | ErrorType:
    if check.opener is None:
        return ErrorType(f"failed to open module {name}: there are no modules here")
    try:
        return check.opener.open(name, check.directory)
    except (SourceError, ReflowError) as error:
        hint = hints.inside_module(error) if isinstance(error, SourceError) else ""
        return ErrorType(f"failed to open module {name}: {error}", hint=hint)


def argument_error(module: Module, args: Mapping[str, Type]) -> ErrorType | None:
    """What is wrong with the arguments that a module is made with, or None.

    A parameter's type must be a subtype of its argument's, so a struct may lack fields and may not have
    more: the original checks it in this direction, and programs rely on what it accepts.
    """
    params = {each.name: each for each in module.params()}
    for name, type in args.items():
        param = params.get(name)
        if param is None:
            return ErrorType(f"module has no parameter {name}", hint=hints.one_of(name, params, "parameter"))
        if not is_subtype(param.type, type):
            text = f"invalid type {type} for parameter {name} (type {param.type})"
            return ErrorType(text, hint=hints.argument(type, param.type))
    missing = [each for each in params.values() if each.is_required and each.name not in args]
    if not missing:
        return None
    plural = "s" if len(missing) > 1 else ""
    text = f"missing required module parameter{plural} {', '.join([each.name for each in missing])}"
    return ErrorType(text, hint=f"write {', '.join([f'{each.name} := … ({each.type})' for each in missing])}")


# ---------------------------------------------------------------------------------------- modules


def check_params(check: Checker, decls: Iterable[Decl], errors: list[Diagnostic]) -> list[CheckedParam]:
    """Check and bind parameters; those with errors are reported and not bound."""
    params = []
    for decl in decls:
        param = _check_param(check, decl, errors)
        if param is not None:
            check.env.bind(param.name, param.type, _binding_pos(decl), Use.NEVER)
            params.append(param)
    return params


def _check_param(check: Checker, decl: Decl, errors: list[Diagnostic]) -> CheckedParam | None:
    match decl:
        case Declare():
            # A type that does not exist is reported where the parameter is used: so it is in the original.
            return CheckedParam(decl.name, expand(decl.type, check.env), decl)
        case Assign(pattern=IdentPattern(name=name)):
            type, found = check.decl_with_errors(decl)
            if found:
                errors += found
                return None
            if type.level == CONST:
                type = const(type, fresh_predicate())
            return CheckedParam(name, type, decl)
        case _:
            hint = "a parameter with a default is declared by itself"
            errors.append(Diagnostic(decl.pos, "declaration error", hint))
            return None


def _binding_pos(decl: Decl) -> Pos:
    return decl.pattern.pos if isinstance(decl, Assign) else decl.pos


def check_decl(check: Checker, decl: Decl, errors: list[Diagnostic]) -> None:
    """Check and bind a declaration at the top level; one with errors is reported and not bound."""
    if isinstance(decl, TypeDecl):
        type = expand(decl.type, check.env)
        if isinstance(type, ErrorType):
            errors.append(Diagnostic(decl.pos, type.message, type.hint))
        else:
            check.env.aliases[decl.name] = decl.type = type
        return
    assert isinstance(decl, Assign)
    type, found = check.decl_with_errors(decl)
    if found:
        errors += found
        return
    wrong = check.bind(decl.pattern, type, Use.UNEXPORTED)
    if wrong is not None:
        check.break_names(decl)
        errors.append(Diagnostic(decl.pos, wrong.message, wrong.hint))


def module_info(check: Checker, params: Sequence[CheckedParam], decls: Iterable[Decl]) -> ModuleInfo:
    """What a module without errors exports."""
    fields: list[Field] = []
    aliases: list[Field] = []
    docs: dict[str, str] = {}
    for decl in decls:
        if isinstance(decl, TypeDecl):
            if is_exported(decl.name):
                docs[decl.name] = decl.comment
                aliases.append(Field(decl.name, decl.type))
            continue
        assert isinstance(decl, Assign)
        for name, type in _bound(decl.pattern, decl.expr.type).items():
            docs[name] = decl.comment
            if is_exported(name):
                fields.append(Field(name, type))
    raw_type = module_of(fields, aliases)
    assert isinstance(raw_type, ModuleType)
    return ModuleInfo(params, raw_type, docs)


def _bound(pattern: Pattern, type: Type) -> dict[str, Type]:
    """Name -> type of what a pattern binds, each name once."""
    if isinstance(pattern, IdentPattern):
        return {pattern.name: type}
    names: dict[str, Type] = {}
    wrong = bind_pattern(pattern, type, lambda name, each, _: names.update({name: each}))
    assert wrong is None
    return names


def depth_error(pos: Pos = NO_POS) -> Diagnostic:
    """The error for a program that is nested too deeply to be checked."""
    return Diagnostic(pos, "expression is nested too deeply", "give inner parts names of their own")
