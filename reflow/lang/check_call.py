"""Rules for calls: of functions, and of the builtins, whose types no function type could state.

Source: syntax/expr.go, (*Expr).init, ExprApply and ExprBuiltin
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reflow.lang import hints
from reflow.lang.checker import Checker
from reflow.lang.constness import const, swizzled
from reflow.lang.syntax import Apply, Builtin, Expr, Ident
from reflow.lang.types import (
    BOTTOM,
    CONST,
    FILE,
    FLOAT,
    INT,
    NOT_CONST,
    STRING,
    ErrorType,
    Field,
    FuncType,
    ListType,
    MapType,
    TupleType,
    Type,
    fields_text,
    func_of,
    list_of,
    map_of,
    tuple_of,
)
from reflow.lang.unify import is_subtype

Args = Sequence[Type]


def check_apply(check: Checker, expr: Expr) -> Type:
    """Check a call. A name that is not bound may be that of a builtin."""
    assert isinstance(expr, Apply)
    callee = expr.callee
    builtin = None
    if type(callee) is Ident and callee.name in _BUILTINS and callee.name not in check.env.values:
        builtin = expr.builtin = callee.name
    else:
        check.expr(callee)
    args = []
    for arg in expr.args:
        args.append(check.expr(arg))
    return _call(callee, args) if builtin is None else _BUILTINS[builtin](args)


def _call(callee: Expr, args: Args) -> Type:
    function = callee.type
    name = callee.name if isinstance(callee, Ident) else ""
    if not isinstance(function, FuncType):
        return ErrorType(f"cannot call non-function {name} (type {function})")
    params = function.fields
    if len(args) != len(params):
        return _wrong_number(name or "function", args, params)
    for arg, param in zip(args, params, strict=True):
        if not is_subtype(arg, param.type):
            text = f"cannot use type {arg} as type {param.type} in argument to {name or 'function'}"
            return ErrorType(f"{text} (type {function})", hint=hints.mismatch(arg, param.type))
    return swizzled(function.result, NOT_CONST, function, *args)


def _wrong_number(name: str, args: Args, params: Sequence[Field]) -> ErrorType:
    few_or_many = "few" if len(args) < len(params) else "many"
    have = fields_text([Field("", each) for each in args])
    text = f"too {few_or_many} arguments in call to {name}\n\thave ({have})\n\twant ({fields_text(params)})"
    return ErrorType(text, hint=hints.arity([each.name for each in params], len(args)))


# ---------------------------------------------------------------------------------------- builtins


def check_conversion(check: Checker, expr: Expr) -> Type:
    """Check ``int(e)`` and ``float(e)``."""
    assert isinstance(expr, Builtin)
    args = []
    for arg in expr.args:
        args.append(check.expr(arg))
    got, wanted, result = (args[0], "float", INT) if expr.op == "int" else (args[0], "int", FLOAT)
    if got.kind == wanted:
        return swizzled(result, CONST, got)
    hint = f"{got} is what it is already" if got.kind == expr.op else hints.mismatch(got, result)
    return ErrorType(f"cannot convert type {got} to {expr.op}", hint=hint)


_NUMBER_WORDS = {2: "two", 3: "three"}


def _needs(name: str, wanted: int, args: Args, *, exactly: bool) -> ErrorType | None:
    if len(args) == wanted or (not exactly and len(args) > wanted):
        return None
    text = f"{name} expects {_NUMBER_WORDS[wanted]} arguments, got {len(args)}"
    return ErrorType(text, hint=f"write {hints.BUILTIN_CALLS[name]}")


_SIZED = frozenset({"file", "dir", "list", "map", "string"})


def _len(args: Args) -> Type:
    if args[0].kind in _SIZED:
        return swizzled(INT, CONST, args[0])
    return ErrorType(f"cannot apply len operator to value of type {args[0]}")


def _zip(args: Args) -> Type:
    wrong = _needs("zip", 2, args, exactly=False)
    if wrong is not None:
        return wrong
    left, right = args[0], args[1]
    if not isinstance(left, ListType):
        return ErrorType(f"zip expects a list, not {left}")
    if not isinstance(right, ListType):
        return ErrorType(f"zip expects a list, not {right}")
    return list_of(_pair(left.element, right.element))


def _pair(left: Type, right: Type) -> Type:
    return tuple_of([Field("", left), Field("", right)])


def _unzip(args: Args) -> Type:
    got = args[0]
    if not isinstance(got, ListType):
        return ErrorType(f"unzip expects a list, not {got}")
    element = got.element
    if not isinstance(element, TupleType):
        return ErrorType(f"unzip expects a list of tuple elements, not a list of {element} elements")
    if len(element.fields) != 2:
        return ErrorType(f"unzip expects a list of 2-tuple elements, not a list of {element} elements")
    left, right = element.fields
    return _pair(list_of(left.type), list_of(right.type))


def _flatten(args: Args) -> Type:
    got = args[0]
    if isinstance(got, ListType) and isinstance(got.element, ListType):
        return swizzled(got.element, CONST, got)
    return ErrorType(f"flatten expects a list of lists, got {got}")


def _map(args: Args) -> Type:
    got = args[0]
    if got.kind == "dir":
        return swizzled(map_of(STRING, FILE), CONST, got)
    if not isinstance(got, ListType):
        return ErrorType(f"cannot convert type {got} to map")
    element = got.element
    if not isinstance(element, TupleType):
        return ErrorType(f"map expects a list of tuples, not {element}")
    if len(element.fields) != 2:
        return ErrorType(f"map expects a list of 2-tuples, not {element}")
    key, value = element.fields
    if key.type.kind not in ("string", "int"):
        return ErrorType(f"type {key.type} is not a valid map index")
    return swizzled(map_of(key.type, value.type), CONST, got)


def _list(args: Args) -> Type:
    got = args[0]
    if isinstance(got, MapType):
        pair = _pair(got.key, got.value)
    elif got.kind == "dir":
        pair = _pair(STRING, FILE)
    else:
        return ErrorType(f"cannot convert type {got} to list")
    return swizzled(const(list_of(pair)), CONST, got)


def _panic(args: Args) -> Type:
    if args[0].kind == "string":
        return BOTTOM
    return ErrorType(f"panic expects a string, not {args[0]}", hint=hints.mismatch(args[0], STRING))


def _error(args: Args) -> Type:
    wrong = _needs("error", 2, args, exactly=False)
    if wrong is not None:
        return wrong
    if args[0].kind == "int" and args[1].kind == "string":
        return BOTTOM
    # The blank at the end is the original's.
    return ErrorType(f"error expects an int and string, not {args[0]} and {args[1]} ")


def _delay(args: Args) -> Type:
    return args[0].replaced(level=NOT_CONST, is_flow=True)


def _trace(args: Args) -> Type:
    return args[0]


def _range(args: Args) -> Type:
    wrong = _needs("range", 2, args, exactly=False)
    if wrong is not None:
        return wrong
    for each in args[:2]:
        if each.kind != "int":
            return ErrorType(f"range expects an integer, not {each}", hint=hints.mismatch(each, INT))
    return swizzled(list_of(INT), CONST, *args[:2])


def _binary(result: Type, left: Type, right: Type) -> Type:
    return func_of([Field("", left), Field("", right)], result)


def _reduce(args: Args) -> Type:
    wrong = _needs("reduce", 2, args, exactly=True)
    if wrong is not None:
        return wrong
    function, source = args
    if not isinstance(function, FuncType):
        return ErrorType(f"reduce expects a function as its first argument, got {function}")
    if not isinstance(source, ListType):
        return ErrorType(f"reduce expects a list as its second argument, got {source}")
    element, result = source.element, function.result
    wanted = _binary(element, element, element)
    if is_subtype(element, result):
        wanted = _binary(result, result, result)
        if is_subtype(function, wanted):
            return swizzled(result, CONST, function, source)
    return ErrorType(f"reduce expects first argument of type {wanted}, got {function}")


def _fold(args: Args) -> Type:
    wrong = _needs("fold", 3, args, exactly=True)
    if wrong is not None:
        return wrong
    function, source, initial = args
    if not isinstance(function, FuncType) or len(function.fields) != 2:
        text = "fold expects a function with two arguments as its first argument, got"
        return ErrorType(f"{text} {function}")
    if not isinstance(source, ListType):
        return ErrorType(f"fold expects a list as its second argument, got {source}")
    element, accumulated = source.element, function.fields[0].type
    wanted = _binary(initial, initial, element)
    if is_subtype(initial, accumulated):
        wanted = _binary(accumulated, accumulated, element)
        if is_subtype(function, wanted):
            return swizzled(function.result, CONST, function, source, initial)
    hint = "its arguments are the result so far, then an element"
    return ErrorType(f"fold expects first argument of type {wanted}, got {function}", hint=hint)


_BUILTINS: dict[str, Callable[[Args], Type]] = {
    "delay": _delay,
    "error": _error,
    "flatten": _flatten,
    "fold": _fold,
    "len": _len,
    "list": _list,
    "map": _map,
    "panic": _panic,
    "range": _range,
    "reduce": _reduce,
    "trace": _trace,
    "unzip": _unzip,
    "zip": _zip,
}
