"""What to do about an error: lines for people below a diagnostic. Empty when we know no better.

Only called when there is an error, so nothing here need be fast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reflow.lang.diagnostic import SourceError, caret_lines
from reflow.lang.source import Pos
from reflow.lang.tenv import TypeEnv
from reflow.lang.types import FuncType, ListType, MapType, StructType, SumType, TupleType, Type
from reflow.lang.unify import equal, is_subtype

BUILTIN_CALLS: Mapping[str, str] = {
    "delay": "delay(x)",
    "error": "error(code, message)",
    "flatten": "flatten(lists)",
    "fold": "fold(f, list, initial)",
    "len": "len(x)",
    "list": "list(x)",
    "map": "map(x)",
    "panic": "panic(message)",
    "range": "range(from, to)",
    "reduce": "reduce(f, list)",
    "trace": "trace(x)",
    "unzip": "unzip(list)",
    "zip": "zip(list, list)",
}

_SHOWN_NAMES = 8
_MOST_COMPARED = 100

# ------------------------------------------------------------------------------------------- names


def close_to(name: str, names: Collection[str]) -> str | None:
    """The name that was probably meant."""
    from difflib import get_close_matches  # 5 ms, and only errors need it

    folded = {each.lower(): each for each in names}
    if name.lower() in folded:
        return folded[name.lower()]
    candidates = list(names)
    if len(candidates) > _MOST_COMPARED:
        candidates = [each for each in candidates if each[:1] == name[:1]][:_MOST_COMPARED]
    found = get_close_matches(name, candidates, n=1, cutoff=0.6)
    return found[0] if found else None


def one_of(name: str, names: Collection[str], what: str) -> str:
    """For a name that is none of some: the one that was meant, or all when they are few."""
    meant = close_to(name, names)
    if meant is not None:
        return f"did you mean {meant}?"
    if not names:
        return f"there is no {what}"
    return f"there is {', '.join(names)}" if len(names) <= _SHOWN_NAMES else ""


def unknown_name(name: str, env: TypeEnv, broken: Collection[str], below: Mapping[str, Pos]) -> str:
    """For an identifier that is not bound.

    ``broken`` are names whose declarations have errors, ``below`` those that the module declares later.
    """
    if name in broken:
        return f"the declaration of {name} has an error itself"
    if name in below:
        line, _ = below[name].source.line_column(below[name].start)
        return f"{name} is declared on line {line}: names are known below their declaration only"
    if name in BUILTIN_CALLS:
        return f"{name} is a builtin, it can only be called: {BUILTIN_CALLS[name]}"
    if name in env.aliases:
        return f"{name} is a type, not a value"
    meant = close_to(name, [*env.values, *BUILTIN_CALLS])
    return f"did you mean {meant}?" if meant else ""


def unknown_alias(name: str, env: TypeEnv) -> str:
    """For the name of a type that is not bound."""
    if name in env.values:
        return f"{name} is a value, not a type"
    meant = close_to(name, [*env.aliases, "int", "float", "string", "bool", "file", "dir"])
    return f"did you mean {meant}?" if meant else ""


# ------------------------------------------------------------------------------------------- types

_CONVERSIONS: Mapping[tuple[str, str], str] = {
    ("string", "file"): "file(…) makes a file of a path or URL",
    ("string", "dir"): "dir(…) makes a directory of a path or URL",
    ("int", "string"): 'make("$/strings").FromInt(…) makes a string of an int',
    ("float", "string"): 'make("$/strings").FromFloat(…, digits) makes a string of a float',
    ("int", "float"): "float(…) makes a float of an int",
    ("float", "int"): "int(…) makes an int of a float",
    ("string", "float"): 'make("$/strings").ToFloat(…) makes a float of a string',
    ("string", "int"): 'int(make("$/strings").ToFloat(…)) makes an int of a string',
    ("dir", "file"): 'make("$/dirs").Pick(…, pattern) takes a file out of a directory',
    ("file", "dir"): 'make("$/dirs").Make(["name": …]) makes a directory of files',
    ("file", "string"): "a file has no text here; a script reads it where it says {{…}}",
    ("map", "list"): "list(…) makes a list of (key, value) of a map",
    ("dir", "list"): "list(…) makes a list of (path, file) of a directory",
    ("dir", "map"): "map(…) makes a map of a directory",
    ("list", "map"): "map(…) makes a map of a list of (key, value)",
}


def mismatch(got: Type, want: Type) -> str:
    """For a type that stands where another is wanted."""
    if isinstance(got, ListType) and is_subtype(got.element, want):
        return "this is a list: take one element, or go through all with [… | x <- list]"
    if isinstance(want, ListType) and is_subtype(got, want.element):
        return "a list is wanted: write […] around a single element"
    if isinstance(want, FuncType) and not isinstance(got, FuncType) and is_subtype(got, want.result):
        return "a function is wanted"
    if got.kind == want.kind:
        return _inside(got, want)
    if isinstance(got, FuncType) and is_subtype(got.result, want):
        return "this is a function that has not been called"
    return _CONVERSIONS.get((got.kind, want.kind), "")


def _inside(got: Type, want: Type) -> str:
    """Where two types of one kind differ."""
    match got, want:
        case StructType(), StructType():
            return _fields(got, want)
        case TupleType(), TupleType():
            return (
                f"{len(want.fields)} elements are wanted, got {len(got.fields)}"
                if len(got.fields) != len(want.fields)
                else _elements(got, want)
            )
        case ListType(), ListType():
            return mismatch(got.element, want.element) if got.element.kind != want.element.kind else ""
        case MapType(), MapType():
            return "" if equal(got.key, want.key) else f"the keys are {got.key}, want {want.key}"
        case SumType(), SumType():
            extra = [str(each) for each in got.variants if want.variant(each.tag) is None]
            return f"{', '.join(extra)} is not among the variants that are wanted" if extra else ""
        case _:
            return ""


def _fields(got: StructType, want: StructType) -> str:
    missing = [each.name for each in want.fields if each.name not in got.by_name]
    if missing:
        return f"missing field{'s' if len(missing) > 1 else ''}: {', '.join(missing)}"
    for each in want.fields:
        have = got.by_name[each.name]
        if not is_subtype(have, each.type):
            return f"field {each.name} is {have}, want {each.type}"
    return ""


def _elements(got: TupleType, want: TupleType) -> str:
    for index, (have, need) in enumerate(zip(got.fields, want.fields, strict=True), 1):
        if not is_subtype(have.type, need.type):
            return f"element {index} is {have.type}, want {need.type}"
    return ""


def operands(op: str, left: Type, right: Type) -> str:
    """For a binary operator between two types that are not the same."""
    conversion = _CONVERSIONS.get((right.kind, left.kind)) or _CONVERSIONS.get((left.kind, right.kind))
    if left.kind != right.kind:
        return conversion or ""
    if op in ("==", "!="):
        return "only values of exactly the same type can be compared"
    return ""


def comprehension_source(got: Type) -> str:
    """For what a comprehension cannot go through."""
    if got.kind == "string":
        return 'make("$/strings").Split(…, separator) makes a list of a string'
    return "range(from, to) is a list of numbers" if got.kind == "int" else ""


def interpolated(got: Type) -> str:
    """For what cannot stand in a script."""
    if isinstance(got, ListType) and got.element.kind == "string":
        return 'make("$/strings").Join(…, " ") makes one string of them'
    if got.kind == "bool":
        return 'write if … { "true" } else { "false" }'
    if got.kind in ("struct", "tuple", "module", "map"):
        return f"a {got.kind} has several values: name the one that is wanted"
    return "a list of files or directories, file, dir, string, int and float can stand in a script"


def arity(params: Sequence[str], given: int) -> str:
    """For a call with too few or too many arguments: which are missing."""
    missing = [each for each in params[given:] if each]
    return f"missing: {', '.join(missing)}" if missing else ""


def branches(then: Type, orelse: Type) -> str:
    """For the branches of a condition that have no type in common."""
    return f"one branch is {then}, the other {orelse}"


def elements(types: Sequence[Type]) -> str:
    """For a list whose elements have no type in common: the first that differs."""
    for index, each in enumerate(types[1:], 1):
        if each.kind != types[0].kind:
            return f"element {index} is {each}, element 0 is {types[0]}"
    return ""


def indexed(got: Type) -> str:
    """For what has no elements to index."""
    if isinstance(got, TupleType):
        return "the elements of a tuple are taken by a pattern: val (a, b) = …"
    if got.kind == "dir":
        return "map(…) makes a map of a directory, which can be indexed by path"
    return "fields are taken by name: e.name" if isinstance(got, StructType) else ""


def argument(got: Type, want: Type) -> str:
    """For the argument of a module, which must have its parameter's type, or be less specific."""
    if isinstance(got, StructType) and isinstance(want, StructType):
        extra = [each.name for each in got.fields if each.name not in want.by_name]
        if extra:
            return f"the parameter has no field {', '.join(extra)}"
        wrong = [each for each in got.fields if not is_subtype(want.by_name[each.name], each.type)]
        return f"field {wrong[0].name} is {wrong[0].type}, want {want.by_name[wrong[0].name]}"
    if isinstance(got, ListType | MapType) and "bottom" in str(got):
        return f"state the type of what is empty: val empty {want} = {'[]' if got.kind == 'list' else '[:]'}"
    return mismatch(got, want)


def inside_module(error: SourceError) -> str:
    """For a module that has errors: the line of the first, as it stands there, with its own hint."""
    first = error.diagnostics[0]
    lines = [] if first.pos is None else caret_lines(first.pos)
    if first.pos is None or not lines:
        return ""
    more = [f"  {first.hint}"] if first.hint else []
    return "\n".join([f"in {first.pos.source.name}", *lines, *more])
