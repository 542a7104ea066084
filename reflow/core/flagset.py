"""Flags as Go's ``flag`` package reads and prints them.

``-name value``, ``-name=value``, ``--name``; booleans only as ``-name`` or ``-name=VALUE``. Parsing stops at
the first word that is no flag, or after ``--``. The last occurrence wins. Used at all three levels of the
command line and for the parameters of modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]*|[1-9][0-9_]*)\Z")
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class FlagError(Exception):
    """A command line that cannot be read; the text is Go's."""


class HelpRequestedError(FlagError):
    """``-help`` or ``-h`` where no such flag is defined."""

    def __init__(self) -> None:
        super().__init__("flag: help requested")


def parse_bool(text: str) -> bool:
    """Read a boolean. Raises ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("parse error")


def parse_int(text: str) -> int:
    """Read an integer as Go writes literals (``0x10``, ``1_000``). Raises ValueError."""
    if not _INTEGER.match(text):
        raise ValueError("parse error")
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def parse_duration(text: str) -> float:
    """Read a Go duration (``300ms``, ``1h30m``) as seconds. Raises ValueError."""
    body = text.lstrip("+-")
    if body == "0":
        return 0.0
    matches = list(_DURATION.finditer(body))
    if not matches or "".join(match[0] for match in matches) != body:
        raise ValueError("parse error")
    total = sum(float(match[1]) * _UNIT_S[match[2]] for match in matches)
    return -total if text.startswith("-") else total


class Flag:
    """One flag. ``set_text`` reads a value, or raises ValueError; ``text`` is the value as text.

    ``type_word`` is shown after the name (none for booleans); ``default`` is its text, quoted when shown if
    ``is_quoted``. ``is_set`` tells whether the command line mentioned it. A class that does not
    ``hides_zero`` shows defaults of zero and false too.
    """

    hides_zero: ClassVar[bool] = True

    __slots__ = (
        "default",
        "is_bool",
        "is_quoted",
        "is_set",
        "name",
        "set_text",
        "text",
        "type_word",
        "usage",
    )

    def __init__(
        self,
        name: str,
        set_text: Callable[[str], None],
        *,
        default: str = "",
        usage: str = "",
        is_bool: bool = False,
        type_word: str = "",
        is_quoted: bool = False,
    ) -> None:
        self.name = name
        self.set_text = set_text
        self.default = default
        self.text = default
        self.usage = usage
        self.is_bool = is_bool
        self.type_word = type_word
        self.is_quoted = is_quoted
        self.is_set = False

    def assign(self, text: str) -> None:
        """Take a value. Raises ValueError with the reason."""
        self.set_text(text)
        self.text = text
        self.is_set = True


class FlagSet:
    """The flags of one level, by name."""

    def __init__(self) -> None:
        self.flags: dict[str, Flag] = {}

    def add(self, flag: Flag) -> Flag:
        """Define a flag."""
        self.flags[flag.name] = flag
        return flag

    def parse(self, words: Sequence[str]) -> list[str]:
        """Read flags off the front; return the words that remain. Raises FlagError."""
        rest = list(words)
        while rest:
            word = rest[0]
            if len(word) < 2 or word[0] != "-":
                break
            body = word[2:] if word.startswith("--") else word[1:]
            rest.pop(0)
            if word == "--":
                break
            self._take(word, body, rest)
        return rest

    def _take(self, word: str, body: str, rest: list[str]) -> None:
        if not body or body[0] in "-=":
            raise FlagError(f"bad flag syntax: {word}")
        name, has_value, value = body.partition("=")
        flag = self.flags.get(name)
        if flag is None:
            if name in ("help", "h"):
                raise HelpRequestedError
            raise FlagError(f"flag provided but not defined: -{name}")
        if flag.is_bool:
            self._assign_bool(flag, value if has_value else "true")
            return
        if not has_value:
            if not rest:
                raise FlagError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        self._assign(flag, value)

    def _assign_bool(self, flag: Flag, value: str) -> None:
        try:
            flag.assign(value)
        except ValueError as err:
            raise FlagError(f'invalid boolean value "{value}" for -{flag.name}: {err}') from err

    def _assign(self, flag: Flag, value: str) -> None:
        try:
            flag.assign(value)
        except ValueError as err:
            raise FlagError(f'invalid value "{value}" for flag -{flag.name}: {err}') from err

    def defaults_text(self) -> str:
        """The list of flags as Go prints it, sorted by name; ends with a newline if there is any."""
        return "".join([_flag_text(self.flags[name]) for name in sorted(self.flags)])


def _flag_text(flag: Flag) -> str:
    word, usage = flag.type_word, flag.usage
    quoted = re.search(r"`([^`]*)`", usage)
    if quoted:
        word = quoted[1]
        usage = usage[: quoted.start()] + quoted[1] + usage[quoted.end() :]
    line = f"  -{flag.name}"
    if word:
        line += f" {word}"
    line += "\t" if len(line) <= 4 else "\n    \t"
    line += usage.replace("\n", "\n    \t")
    if flag.default and not (flag.hides_zero and flag.default in ("false", "0", "0s")):
        shown = f'"{flag.default}"' if flag.is_quoted else flag.default
        line += f" (default {shown})"
    return line + "\n"
