"""Aliases: references to named types are replaced by what they name.

A name is an alias that the module declares (above its use), or a path that begins with a value of module
type. Aliases are expanded where they are declared, so one step is enough.

Source: syntax/expand.go
"""

from __future__ import annotations

from itertools import pairwise

from reflow.lang import hints
from reflow.lang.tenv import TypeEnv
from reflow.lang.types import ErrorType, ModuleType, RefType, Type, checked


def expand(type: Type, env: TypeEnv) -> Type:
    """The type without references, or an error type; the same object when there are none."""
    if isinstance(type, RefType):
        return _named(type.path, env) if len(type.path) == 1 else _exported(type, env)
    if type.kind_id == 0:
        return type
    expanded = type.rebuilt(lambda part: expand(part, env))
    return type if expanded is type else checked(expanded)


def _named(path: tuple[str, ...], env: TypeEnv) -> Type:
    found = env.aliases.get(path[0])
    if found is None:
        hint = hints.unknown_alias(path[0], env)
        return ErrorType(f"type alias {path[0]} not found", hint=hint)
    return found


def _exported(type: RefType, env: TypeEnv) -> Type:
    """The alias at the end of a path; the path begins with a value, which need not count as used."""
    trouble = f"type alias {type.body()} not found"
    symbol = env.values.get(type.path[0])
    found = None if symbol is None else symbol.type
    names: list[str] = []
    for before, name in pairwise(type.path):
        if found is None:
            return ErrorType(f"{trouble}: no such module {before}")
        if not isinstance(found, ModuleType):
            return ErrorType(f"{trouble}: {before} is not a module")
        module, found = found, found.alias(name)
        names = [each.name for each in module.aliases]
    if found is None:
        return ErrorType(trouble, hint=hints.one_of(type.path[-1], names, "exported type"))
    return found
