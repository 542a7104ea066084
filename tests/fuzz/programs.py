"""Programs made at random that are (nearly always) well typed, to look for inputs that something trips over.

`ProgramWriter` asks a `Choices` for every decision, so that the same writer serves hypothesis, which makes
small what fails, and plain seeds. A type is a tuple: its kind, then what it is made of.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

from tests.fuzz.forms import (
    DIR,
    FILE,
    GENERAL,
    INT,
    SCALARS,
    SPECIAL,
    STRING,
    Kind,
    Scope,
    type_text,
)

_LITERALS = {
    "int": ["0", "1", "2", "7", "255", "010", "100000000000000000000"],
    "float": ["0.0", "1.5", "0.1", "3.25", "1e10", ".5", "2.", "1e-7"],
    "string": ['""', '"a"', '"b/c.d"', '"x\\n\\t\\\\"', '"\\x41\\u00e9"', '"\u00e9"', "`raw \\n`", '"100%"'],
    "bool": ["true", "false"],
}
_IMPORTS = [f'val {name} = make("$/{name}")' for name in ("strings", "path", "regexp", "dirs", "files")]


class Choices(Protocol):
    """Where decisions come from."""

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        ...


class SeededChoices:
    """Decisions that follow from a number."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        return self._random.randint(low, high)


class ProgramWriter:
    """Writes one program. ``delays`` and ``mistakes`` are percentages of expressions.

    ``files`` maps names to texts; the program is ``main.rf``.
    """

    def __init__(self, choices: Choices, *, delays: int = 12, mistakes: int = 0, depth: int = 3) -> None:
        self._choices = choices
        self._delays = delays
        self._mistakes = mistakes
        self._depth = depth
        self._names = 0
        self.files: dict[str, str] = {}

    # ------------------------------------------------------------------------------------- decisions

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        return self._choices.number(low, high)

    def pick(self, options: Sequence[Any]) -> Any:
        """One of some options."""
        return options[self.number(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """Whether something rare happens."""
        return self.number(1, 100) <= percent

    def name(self) -> str:
        """A name that was not used before."""
        self._names += 1
        return f"v{self._names}"

    # ----------------------------------------------------------------------------------------- types

    def type(self, depth: int = 2) -> Kind:
        """A type that is at most so deep."""
        kinds = ["int", "string", "bool", "float"]
        if depth > 0:
            kinds += ["list", "tuple", "struct", "map", "sum", "list", "file", "dir"]
        match self.pick(kinds):
            case "list":
                return "list", self.type(depth - 1)
            case "tuple":
                return "tuple", tuple(self.type(depth - 1) for _ in range(self.number(2, 3)))
            case "struct":
                names = "abcd"[: self.number(1, 3)]
                return "struct", tuple((name, self.type(depth - 1)) for name in names)
            case "map":
                return "map", self.pick([STRING, INT, STRING]), self.type(depth - 1)
            case "sum":
                tags = "ABC"[: self.number(1, 3)]
                return "sum", tuple((tag, None if self.chance(40) else self.type(depth - 1)) for tag in tags)
            case kind:
                return (kind,)

    # ----------------------------------------------------------------------------------- expressions

    def expr(self, wanted: Kind, scope: Scope, depth: int) -> str:
        """An expression of a type (now and then of another)."""
        if self._mistakes and self.chance(self._mistakes):
            wanted = self.type(1)
        text = self._expr(wanted, scope, depth)
        if self._delays and self.chance(self._delays):
            return f"delay({text})"
        return text

    def _expr(self, wanted: Kind, scope: Scope, depth: int) -> str:
        known = [name for name, each in scope if each == wanted]
        if known and self.chance(40):
            return str(self.pick(known))
        if depth <= 0:
            return self.literal(wanted, scope, 0)
        if self.chance(45):
            return str(self.pick(GENERAL)(self, wanted, scope, depth - 1))
        special = SPECIAL.get(wanted[0], [])
        if special and self.chance(70):
            made = self.pick(special)(self, wanted, scope, depth - 1)
            if made:
                return str(made)
        return self.literal(wanted, scope, depth)

    def literal(self, wanted: Kind, scope: Scope, depth: int) -> str:
        """The plainest expression of a type."""

        def inner(each: Kind) -> str:
            return self.expr(each, scope, depth - 1) if depth > 0 else self.literal(each, scope, 0)

        match wanted:
            case ("file",):
                return self.pick(['file("s3://b/k")', 'file("s3://b/other")'])
            case ("dir",):
                return self.pick(['dir("s3://b/d/")', 'dir("s3://b/e")'])
            case ("list", element):
                return self.commas([inner(element) for _ in range(self.number(1, 3))], "[", "]")
            case ("tuple", elements):
                return self.commas([inner(each) for each in elements], "(", ")")
            case ("struct", fields):
                return self.commas([f"{name}: {inner(each)}" for name, each in fields], "{", "}")
            case ("map", key, value):
                count = self.number(1, 2)
                entries = [f"{self.expr(key, scope, 0)}: {inner(value)}" for _ in range(count)]
                return self.commas(entries, "[", "]")
            case ("sum", variants):
                tag, element = self.pick(variants)
                text = f"#{tag}" if element is None else f"#{tag}({inner(element)})"
                if len(variants) == 1 or self.chance(20):
                    return text
                name = self.name()
                return f"{{ val {name} {type_text(wanted)} = {text}; {name} }}"
            case ("func", argument, result):
                name = self.name()
                return f"func({name} {type_text(argument)}) => {inner(result)}"
            case (kind,):
                return str(self.pick(_LITERALS[kind]))
        raise AssertionError(f"no literal of {wanted}")

    def commas(self, words: Sequence[str], opening: str, closing: str) -> str:
        """Words in brackets, on one line or on several."""
        if self.chance(90):
            return opening + ", ".join(words) + closing
        return opening + "\n\t" + ",\n\t".join(words) + ", // last\n" + closing

    # -------------------------------------------------------------------------------------- patterns

    def pattern(self, bound: Kind, depth: int = 2) -> tuple[str, Scope]:
        """A pattern that values of a type match, and what it binds."""
        if self.chance(15):
            return "_", []
        if depth > 0 and self.chance(60):
            match bound:
                case ("tuple", elements):
                    parts = [self.pattern(each, depth - 1) for each in elements]
                    return f"({', '.join([text for text, _ in parts])})", _joined(parts)
                case ("struct", fields):
                    some = fields[: self.number(1, len(fields))]
                    named = [(name, self.pattern(each, depth - 1)) for name, each in some]
                    words = [f"{name}: {text}" for name, (text, _) in named]
                    return "{" + ", ".join(words) + "}", _joined([part for _, part in named])
                case ("list", element):
                    text, names = self.pattern(element, depth - 1)
                    tail = self.name()
                    return f"[{text}, ...{tail}]", [*names, (tail, bound)]
                case ("sum", ((tag, element),)):
                    if element is None:
                        return f"#{tag}", []
                    text, names = self.pattern(element, depth - 1)
                    return f"#{tag}({text})", names
        name = self.name()
        return name, [(name, bound)]

    # -------------------------------------------------------------------------------------- programs

    def program(self) -> dict[str, str]:
        """The files of a program."""
        lines = ['keyspace "k"'] if self.chance(5) else []
        scope: Scope = []
        if self.chance(30):
            lines += self._parameters(scope)
        lines += _IMPORTS
        if self.chance(30):
            lines += self._library(scope)
        for _ in range(self.number(1, 6)):
            lines += self._declaration(scope)
        wanted = self.type(2)
        main = self.expr(wanted, scope, self._depth)
        files = [name for name, each in scope if each in (FILE, DIR)]
        if files and self.chance(50):
            main = f"({main}, {self.pick(files)})"
        lines.append(f"val Main = {main}")
        self.files["main.rf"] = self._laid_out(lines)
        return self.files

    def _laid_out(self, lines: Sequence[str]) -> str:
        parts = []
        for line in lines:
            if self.chance(10):
                parts.append(self.pick(["// A comment.\n", "/* one */ ", "\n", "/* two\n lines */\n"]))
            parts.append(line)
            parts.append(self.pick(["\n", "\n", "\n", "\n\n", ";", ";\n"]))
        return "".join(parts) + "\n"

    def _parameters(self, scope: Scope) -> list[str]:
        lines = []
        for _ in range(self.number(1, 3)):
            name, kind = self.name(), self.type(0)
            stated = f" {type_text(kind)}" if self.chance(50) else ""
            lines.append(f"param {name}{stated} = {self.literal(kind, [], 0)}")
            scope.append((name, kind))
        return lines

    def _library(self, scope: Scope) -> list[str]:
        """A module of its own, with parameters, and the declarations that make it and use what it exports."""
        given: Scope = [(self.name(), self.type(1)) for _ in range(self.number(1, 2))]
        texts = [f"param {name} {type_text(kind)}" for name, kind in given]
        optional, kind = self.name(), self.type(0)
        texts.append(f"param {optional} = {self.literal(kind, [], 0)}")
        inside: Scope = [*given, (optional, kind)]
        texts += _IMPORTS
        exported: Scope = []
        for _ in range(self.number(1, 3)):
            name, made = f"X{self.name()}", self.type(2)
            texts.append(f"val {name} = {self.expr(made, inside, 2)}")
            inside.append((name, made))
            exported.append((name, made))
        texts.append(f"type T {type_text(exported[0][1])}")
        self.files["lib.rf"] = "\n".join(texts) + "\n"
        args = [f"{name} := {self.expr(kind, scope, 1)}" for name, kind in given]
        lines = [f'lib := make("./lib.rf", {", ".join(args)})']
        for name, made in exported:
            local = self.name()
            lines.append(f"val {local} {'lib.T' if name == exported[0][0] else type_text(made)} = lib.{name}")
            scope.append((local, made))
        return lines

    def _declaration(self, scope: Scope) -> list[str]:
        kind = self.pick(["func", "exec", "exec", "val", "val", "val", "typed", "alias", "assign"])
        name, wanted = self.name(), self.type(2)
        if kind == "func":
            argument = self.type(1)
            body = self.expr(wanted, [*scope, ("p", argument)], self._depth)
            stated = f" {type_text(wanted)}" if self.chance(50) else ""
            scope.append((name, ("func", argument, wanted)))
            return [f"func {name}(p {type_text(argument)}){stated} = {body}"]
        if kind == "exec":
            return self._exec(scope)
        value = self.expr(wanted, scope, self._depth)
        if kind == "val":
            pattern, names = self.pattern(wanted)
            scope += names
            return [f"val {pattern} = {value}"]
        scope.append((name, wanted))
        if kind == "typed":
            return [f"val {name} {type_text(wanted)} = {value}"]
        if kind == "alias":
            return [f"type T{name} {type_text(wanted)}", f"val {name} T{name} = {value}"]
        return [f"{name} := {value}"]

    def _exec(self, scope: Scope) -> list[str]:
        """A declaration that runs a script, with one output or several."""
        count = self.number(1, 2)
        outputs: Scope = [(self.name(), self.pick([FILE, FILE, DIR])) for _ in range(count)]
        words = [self._interpolation(scope) for _ in range(self.number(0, 3))]
        words += ["{{" + name + "}}" for name, _ in outputs if self.chance(90)]
        script = self.pick([" run ", "\n\trun\n\t"]) + " 100% ".join(words) + self.pick([" ", "\n"])
        image = self.pick(['"img"', '"a" + "b"', '"i:" + strings.FromInt(1)'])
        params = [f"image := {image}", *self._resources(scope)]
        stated = ", ".join([f"{name} {kind[0]}" for name, kind in outputs])
        if len(outputs) == 1:
            pattern = name = self.name()
            scope.append((name, outputs[0][1]))
        else:
            local = [(self.name(), kind) for _, kind in outputs]
            pattern = f"({', '.join([name for name, _ in local])})"
            scope += local
        required = [f"@requires({', '.join(self._requirements())})"] if self.chance(15) else []
        return [*required, f'val {pattern} = exec({", ".join(params)}) ({stated}) {{"{script}"}}']

    def _interpolation(self, scope: Scope) -> str:
        kind = self.pick([*SCALARS[:3], FILE, DIR, ("list", FILE)])
        text = self.expr(kind, scope, 1)
        is_safe = not any(each in text for each in ("}}", '"}', "{{", "int(", "float(", "\n"))
        return "{{" + text + " }}" if is_safe else "{{1}}"

    def _resources(self, scope: Scope) -> list[str]:
        found = []
        if self.chance(40):
            found.append(f"cpu := {self.pick(['1', '0.5', self.expr(INT, scope, 1)])}")
        if self.chance(20):
            found.append(self.pick(["mem := 2*GiB", "disk := len([1])", 'cpufeatures := ["intel_avx"]']))
        if self.chance(8):
            found.append("nondeterministic := true")
        return found

    def _requirements(self) -> list[str]:
        return self.pick([["cpu := 2"], ["mem := GiB", "wide := true"], ["disk := 1"]])  # type: ignore[no-any-return]


def _joined(parts: Sequence[tuple[str, Scope]]) -> Scope:
    return [each for _, names in parts for each in names]
