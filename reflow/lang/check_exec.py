"""Rules for ``exec`` and ``@requires``.

Source: syntax/expr.go, (*Expr).init, ExprExec and initResources
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reflow.lang import hints
from reflow.lang.checker import Checker, error_text
from reflow.lang.expand import expand
from reflow.lang.syntax import Assign, Decl, ExecExpr, Expr, Ident, IdentPattern, RequiresExpr
from reflow.lang.types import ErrorType, Field, ListType, TupleType, Type, flow_of

_RESOURCES: Mapping[str, tuple[frozenset[str], str]] = {
    "cpu": (frozenset({"int", "float"}), "integer or floating point"),
    "mem": (frozenset({"int"}), "an integer"),
    "disk": (frozenset({"int"}), "an integer"),
    "cpufeatures": (frozenset({"strings"}), "a list of strings"),
}
_EXEC_PARAMS = {
    "image": (frozenset({"string"}), "a string"),
    **_RESOURCES,
    "nondeterministic": (frozenset({"bool"}), "a bool"),
}
_REQUIRES_PARAMS = {**_RESOURCES, "wide": (frozenset({"bool"}), "a boolean")}


def _named_type(check: Checker, decl: Decl, no_patterns: str) -> tuple[str, Type] | ErrorType:
    """A parameter's name and type; the error when it has none, ``no_patterns`` for a pattern."""
    if isinstance(decl, Assign) and not isinstance(decl.pattern, IdentPattern):
        return ErrorType(no_patterns)
    type, errors = check.decl_with_errors(decl)
    if errors:
        return ErrorType(f"type error in parameter: {error_text(errors)}")
    assert isinstance(decl, Assign)
    assert isinstance(decl.pattern, IdentPattern)
    return decl.pattern.name, type


def _wrong_param(
    name: str, type: Type, known: Mapping[str, tuple[frozenset[str], str]], unrecognized: str
) -> ErrorType | None:
    if name not in known:
        return ErrorType(f"{unrecognized} {name}", hint=hints.one_of(name, known, "parameter"))
    kinds, wanted = known[name]
    kind = "strings" if isinstance(type, ListType) and type.element.kind == "string" else type.kind
    return None if kind in kinds else ErrorType(f"{name} must be {wanted}", hint=f"got {type}")


# --------------------------------------------------------------------------------------------- exec


def check_exec(check: Checker, expr: Expr) -> Type:
    """Check parameters, outputs, then what the script interpolates."""
    assert isinstance(expr, ExecExpr)
    result = expand(expr.result, check.env)
    if result.kind_id == 0:
        return result
    if "\r\n" in expr.template.text:
        check.warn_of_carriage_returns(expr.pos)
    wrong = _check_params(check, expr.decls)
    if wrong is not None:
        return wrong
    outputs = result.fields if isinstance(result, TupleType) else (Field(result.label, result),)
    wrong = _check_outputs(outputs) or _check_script(check, expr, {each.name: each.type for each in outputs})
    return flow_of(result) if wrong is None else wrong


def _check_params(check: Checker, decls: Sequence[Decl]) -> ErrorType | None:
    given = set()
    for decl in decls:
        named = _named_type(check, decl, "execs do not support pattern matching declarations")
        if isinstance(named, ErrorType):
            return named
        name, type = named
        if name == "image" and type.is_flow:
            hint = "the image must be known before anything runs: it cannot depend on files or execs"
            return ErrorType(f"exec parameter {name} is not immediate", hint=hint)
        given.add(name)
        wrong = _wrong_param(name, type, _EXEC_PARAMS, "unrecognized exec parameter")
        if wrong is not None:
            return wrong
    if "image" in given:
        return None
    return ErrorType("exec image parameter is required", hint='add image := "NAME" to exec(…)')


def _check_outputs(outputs: Sequence[Field]) -> ErrorType | None:
    for index, output in enumerate(outputs):
        if not output.name:
            kind = output.type.kind if output.type.kind in ("file", "dir") else "file"
            hint = f"write (out {kind}), and {{{{out}}}} where the script names it"
            return ErrorType(f"output {index} (type {output.type}) must be labelled", hint=hint)
        if output.type.kind not in ("file", "dir"):
            hint = "let the script write a file, and read that"
            return ErrorType(f"execs can only return files and dirs, not {output.type}", hint=hint)
    return None


_INTERPOLATED = frozenset({"file", "dir", "string", "int", "float"})


def _check_script(check: Checker, expr: ExecExpr, outputs: Mapping[str, Type]) -> ErrorType | None:
    for arg in expr.template.args:
        if isinstance(arg, Ident) and arg.name in outputs:
            arg.type = outputs[arg.name]
            continue
        type = check.expr(arg)
        if isinstance(type, ErrorType):
            return ErrorType(f"interpolation expression error: {type.message}", hint=type.hint)
        element = type.element if isinstance(type, ListType) else None
        if type.kind not in _INTERPOLATED and (element is None or element.kind not in ("file", "dir")):
            return ErrorType(f"values of type {type} cannot be interpolated", hint=hints.interpolated(type))
    return None


# ----------------------------------------------------------------------------------------- requires


def check_requires(check: Checker, expr: Expr) -> Type:
    """Check an annotated expression, then the parameters of its annotation."""
    assert isinstance(expr, RequiresExpr)
    found = check.expr(expr.expr)
    for decl in expr.decls:
        wrong = _check_requirement(check, decl)
        if wrong is not None:
            return wrong
    return found


def _check_requirement(check: Checker, decl: Decl) -> ErrorType | None:
    named = _named_type(check, decl, "pattern matching declarations are not supported")
    if isinstance(named, ErrorType):
        return named
    name, type = named
    if type.is_flow:
        return ErrorType(f"parameter {name} is not immediate")
    return _wrong_param(name, type, _REQUIRES_PARAMS, "unrecognized parameter")
