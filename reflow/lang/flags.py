"""Parameters of a module as flags of a command line.

Every parameter of type string, int, float, bool, file or dir is a flag; one that must be given is mandatory.
Values that are known at once are shown as defaults. A default that is delayed, or hangs on another
parameter, is not shown, and evaluated when the module is made.
Source: syntax/module.go, flagVal, Flags and FlagEnv.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from reflow.core.flagset import Flag, FlagError, FlagSet, HelpRequestedError, parse_bool
from reflow.flow.node import Flow, label
from reflow.lang import number
from reflow.lang.builtins.base import DIR, FILE
from reflow.lang.diagnostic import EvalError
from reflow.lang.print_value import quote_text
from reflow.lang.source import NO_POS
from reflow.lang.types import Type
from reflow.lang.value import CallSite, Value

_UNDERSCORE = re.compile("(?<=[0-9a-fA-FxXoObB])_(?=[0-9a-fA-F])")

KINDS = ("string", "int", "float", "bool", "file", "dir")


class UsageError(Exception):
    """A command line that a program cannot be run with.

    ``message`` says why, ``usage`` how it may be (a text of several lines, may be empty). ``is_help``: the
    usage was asked for.
    """

    def __init__(self, message: str, usage: str = "", *, is_help: bool = False) -> None:
        self.message = message
        self.usage = usage
        self.is_help = is_help
        super().__init__(message)


class DependsOnParamError(EvalError):
    """What a parameter is bound to while defaults are evaluated: they depend on one that is not known yet."""

    def __init__(self) -> None:
        super().__init__("depends on a parameter")


class ParamFlag(Flag):
    """The flag of a parameter. ``value`` counts once ``has_value`` is true."""

    hides_zero = False

    __slots__ = ("_read", "has_value", "is_mandatory", "kind", "value")

    def __init__(self, name: str, type: Type, usage: str, session: Any, *, is_mandatory: bool) -> None:
        super().__init__(
            name,
            self._take,
            usage=usage,
            is_bool=type.kind == "bool",
            type_word="" if type.kind == "bool" else type.kind,
        )
        self.kind = type.kind
        self.is_mandatory = is_mandatory
        self.has_value = False
        self.value: Value = None
        self._read = _reader(name, type, session)

    def preset(self, value: Value, text: str) -> None:
        """Give it a value that it has unless the command line says otherwise."""
        self.value = value
        self.has_value = True
        self.text = self.default = text

    def _take(self, text: str) -> None:
        self.value = self._read(text)
        self.has_value = True

    def assign(self, text: str) -> None:
        """Take a value; its text is then the value's own."""
        super().assign(text)
        if self.kind not in ("file", "dir"):
            self.text = value_text(self.kind, self.value)


def unsupported_text(name: str, type: Type) -> str:
    """What is said of a parameter whose type no flag can have."""
    return f"-{name}: flags of type {type} not supported (valid types are: {', '.join(KINDS)})"


def value_text(kind: str, value: Value) -> str:
    """A value as a flag shows it."""
    if kind == "string":
        text: str = value.decode("utf-8", "surrogateescape")
        return text
    if kind == "int":
        return number.int_text(value)
    if kind == "float":
        return number.general_text(value)
    return "true" if value else "false"


def _reader(name: str, type: Type, session: Any) -> Callable[[str], Value]:
    """What reads values of a type; it raises ValueError with the reason."""
    match type.kind:
        case "string":
            return lambda text: text.encode("utf-8", "surrogateescape")
        case "int":
            return _read_int
        case "float":
            return _read_float
        case "bool":
            return _read_bool
        case "file" | "dir":
            return lambda text: _open(name, type.kind, text, session)
        case _:
            return lambda _text: _refuse(name, type)


def _refuse(name: str, type: Type) -> Value:
    raise ValueError(unsupported_text(name, type).partition(": ")[2])


def _read_int(text: str) -> int:
    try:
        return number.parse_int(text)
    except ValueError:
        raise ValueError(f"cannot parse {quote_text(text)} as integer") from None


def _read_float(text: str) -> Value:
    """The float that the ten digits shown of it make, as in the original."""
    try:
        return number.parse_float(number.general_text(number.parse_float(_UNDERSCORE.sub("", text))))
    except ValueError:
        raise ValueError(f"cannot parse {quote_text(text)} as float") from None


def _read_bool(text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        raise ValueError(f"strconv.ParseBool: parsing {quote_text(text)}: invalid syntax") from None


def _open(name: str, kind: str, text: str, session: Any) -> Flow:
    """The file or directory at a URL; a local one must exist."""
    site = CallSite(session, NO_POS, name)
    function = FILE if kind == "file" else DIR
    try:
        opened = function.apply([text.encode("utf-8", "surrogateescape")], site)
    except EvalError as err:
        raise ValueError(str(err).removeprefix(f"{NO_POS} {name}: ")) from err
    assert isinstance(opened, Flow)
    label(opened, name)
    return opened


class ModuleFlags:
    """The flags of one module, filled by `parse`."""

    def __init__(self, flags: Sequence[ParamFlag]) -> None:
        self._set = FlagSet()
        self._flags = {flag.name: flag for flag in flags}
        for flag in flags:
            self._set.add(flag)

    def parse(self, words: Sequence[str]) -> list[str]:
        """Read flags off the front of some words; return the others. Raises FlagError."""
        return self._set.parse(words)

    def missing(self) -> str:
        """What is said when mandatory flags were not given; nothing when all were."""
        names = sorted(name for name, flag in self._flags.items() if flag.is_mandatory and not flag.has_value)
        lines = [f"missing mandatory flag -{name}" for name in names]
        return "flag errors:\n\t" + "\n\t".join(lines) if len(lines) > 1 else "".join(lines)

    def values(self) -> dict[str, Value]:
        """Values by name, known defaults included."""
        return {name: flag.value for name, flag in self._flags.items() if flag.has_value}

    def texts(self) -> dict[str, str]:
        """Name -> text of the value, sorted by name; an empty text when there is none yet."""
        return {name: self._flags[name].text for name in sorted(self._flags)}

    def names(self) -> frozenset[str]:
        """The parameters that are flags."""
        return frozenset(self._flags)

    def usage(self) -> str:
        """The list of flags."""
        return self._set.defaults_text()


def parse_flags(flags: ModuleFlags, path: str, words: Sequence[str]) -> None:
    """Read the flags of the program at ``path``. Raises UsageError for anything wrong or missing."""
    usage = f"usage of {path}:\n{flags.usage()}"
    try:
        surplus = flags.parse(words)
    except HelpRequestedError as err:
        raise UsageError(str(err), usage, is_help=True) from err
    except FlagError as err:
        raise UsageError(_with_advice(str(err), path), usage) from err
    if surplus:
        raise UsageError(f"unrecognized parameters: {' '.join(surplus)}", usage)
    missing = flags.missing()
    if missing:
        raise UsageError(missing, usage)


def _with_advice(message: str, path: str) -> str:
    if not message.startswith("flag provided but not defined"):
        return message
    return (
        f"{message}\n  (after {path} come the program's own parameters; flags of the command stand before it)"
    )
