"""Commands and their flags: what each module of a command hands to `reflow.cli.app`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from reflow.core.flagset import Flag, FlagSet, parse_bool, parse_duration, parse_int

if TYPE_CHECKING:
    from reflow.cli.app import App

FlagType = Literal["string", "bool", "int", "duration"]
FlagSpec = tuple[str, FlagType, str, str]
"""Name, type, default as text, usage."""

HELP_FLAG: FlagSpec = ("help", "bool", "false", "show what the command does")


class UsageError(Exception):
    """A command line that does not fit the command; the text, if any, says why. Ends with status 2."""


class Fatal(Exception):  # noqa: N818  (the end of a command; the text is all there is to say)
    """Ends the command with a message on stderr and a status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class Arguments:
    """A command line that was read: values of flags by name, and the words that follow them.

    ``given`` has the names of the flags that were mentioned.
    """

    __slots__ = ("flags", "given", "words")

    def __init__(self, flags: dict[str, Any], words: list[str], given: frozenset[str] = frozenset()) -> None:
        self.flags = flags
        self.words = words
        self.given = given

    def __getitem__(self, name: str) -> Any:
        return self.flags[name]


class Command:
    """A command: how it is called, what it is for, and the function that does it.

    ``min_words`` and ``max_words`` bound the number of words after the flags (None: no bound). ``details``
    makes the text that ``-help`` shows. One that ``is_hidden`` is not listed, and reads its words itself.
    """

    __slots__ = ("details", "flags", "is_hidden", "max_words", "min_words", "name", "run", "synopsis")

    def __init__(
        self,
        name: str,
        synopsis: str,
        details: str | Callable[[], str],
        run: Callable[[App, Arguments], int],
        *,
        flags: Sequence[FlagSpec] = (),
        min_words: int = 0,
        max_words: int | None = 0,
        is_hidden: bool = False,
    ) -> None:
        self.name = name
        self.synopsis = synopsis
        self.details = details
        self.run = run
        self.flags = (*flags, HELP_FLAG)
        self.min_words = min_words
        self.max_words = max_words
        self.is_hidden = is_hidden

    def usage(self) -> str:
        """The short text shown for a command line that does not fit."""
        return f"usage: reflow {self.synopsis}\nFlags:\n{flag_set(self.flags)[0].defaults_text()}"

    def help(self) -> str:
        """The long text shown for ``-help``."""
        details = self.details if isinstance(self.details, str) else self.details()
        flags = flag_set(self.flags)[0].defaults_text()
        return f"usage: reflow {self.synopsis}\n\n{details.strip()}\n\nFlags:\n{flags}"

    def parse(self, words: Sequence[str]) -> Arguments:
        """Read the words after the command's name. Raises FlagError and UsageError."""
        flags, values = flag_set(self.flags)
        rest = flags.parse(words)
        if not values["help"]:
            self._count(rest)
        given = frozenset([name for name, flag in flags.flags.items() if flag.is_set])
        return Arguments(values, rest, given)

    def _count(self, words: Sequence[str]) -> None:
        if len(words) < self.min_words:
            raise UsageError(f"{self.name}: got {_arguments(len(words))}, want at least {self.min_words}")
        if self.max_words is not None and len(words) > self.max_words:
            extra = " ".join(words[self.max_words :])
            raise UsageError(f"{self.name}: unexpected argument: {extra}")


def _arguments(count: int) -> str:
    return "1 argument" if count == 1 else f"{count or 'no'} arguments"


_PARSERS: dict[FlagType, Callable[[str], Any]] = {
    "string": str,
    "bool": parse_bool,
    "int": parse_int,
    "duration": parse_duration,
}


def flag_set(specs: Sequence[FlagSpec]) -> tuple[FlagSet, dict[str, Any]]:
    """Flags for a table, and the values that parsing will fill (at first the defaults)."""
    flags, values = FlagSet(), {}
    for name, kind, default, usage in specs:
        parse = _PARSERS[kind]
        values[name] = parse(default)
        flags.add(_flag(name, kind, default, usage, values))
    return flags, values


def _flag(name: str, kind: FlagType, default: str, usage: str, values: dict[str, Any]) -> Flag:
    parse = _PARSERS[kind]

    def set_text(text: str) -> None:
        values[name] = parse(text)

    return Flag(
        name,
        set_text,
        default=default,
        usage=usage,
        is_bool=kind == "bool",
        type_word="" if kind == "bool" else kind,
        is_quoted=kind == "string",
    )
