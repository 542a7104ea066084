"""Forms of expressions: how one of a given type is put together from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Kind = tuple[Any, ...]
Scope = list[tuple[str, Kind]]

INT, FLOAT, STRING, BOOL, FILE, DIR = ((kind,) for kind in ("int", "float", "string", "bool", "file", "dir"))
SCALARS: list[Kind] = [INT, FLOAT, STRING, BOOL]
STRINGS: Kind = ("list", STRING)

_PATTERNS = ['"a+"', '"(.)(.*)"', '"[a-c]|x"', '"^b"', '"\\\\d*"']


class Writer(Protocol):
    """What writes programs, as far as forms need it."""

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        ...

    def pick(self, options: Sequence[Any]) -> Any:
        """One of some options."""
        ...

    def chance(self, percent: int) -> bool:
        """Whether something rare happens."""
        ...

    def name(self) -> str:
        """A name that was not used before."""
        ...

    def type(self, depth: int = 2) -> Kind:
        """A type that is at most so deep."""
        ...

    def expr(self, wanted: Kind, scope: Scope, depth: int) -> str:
        """An expression of a type."""
        ...

    def pattern(self, bound: Kind, depth: int = 2) -> tuple[str, Scope]:
        """A pattern that values of a type match, and what it binds."""
        ...


def type_text(kind: Kind) -> str:
    """A type as it is written."""
    match kind:
        case ("list", element):
            return f"[{type_text(element)}]"
        case ("tuple", elements):
            return "(" + ", ".join([type_text(each) for each in elements]) + ")"
        case ("struct", fields):
            return "{" + ", ".join([f"{name} {type_text(each)}" for name, each in fields]) + "}"
        case ("map", key, value):
            return f"[{type_text(key)}:{type_text(value)}]"
        case ("sum", variants):
            words = [f"#{tag}" if each is None else f"#{tag}({type_text(each)})" for tag, each in variants]
            return " | ".join(words)
        case ("func", argument, result):
            return f"func({type_text(argument)}) {type_text(result)}"
        case _:
            return str(kind[0])


# --------------------------------------------------------------------- expressions of whatever type

Form = Callable[[Writer, Kind, Scope, int], str]


def _cond(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    chain = f"if {write.expr(BOOL, scope, depth)} {{ {write.expr(wanted, scope, depth)} }} else "
    if write.chance(20):
        chain += f"if {write.expr(BOOL, scope, 0)} {{ {write.expr(wanted, scope, depth)} }} else "
    return chain + "{ " + write.expr(wanted, scope, depth) + " }"


def _block(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    scope = list(scope)
    decls = []
    for _ in range(write.number(1, 3)):
        kind = write.type(2)
        value = write.expr(kind, scope, depth)
        pattern, names = write.pattern(kind)
        decls.append(f"val {pattern} = {value}")
        scope += names
    return "{ " + write.pick(["; ", "\n\t"]).join([*decls, write.expr(wanted, scope, depth)]) + " }"


def _called(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    functions = [(name, each) for name, each in scope if each[0] == "func" and each[2] == wanted]
    if functions and write.chance(70):
        name, kind = write.pick(functions)
        return f"{name}({write.expr(kind[1], scope, depth)})"
    argument, name = write.type(1), write.name()
    body = write.expr(wanted, [*scope, (name, argument)], depth)
    return f"(func({name} {type_text(argument)}) => {body})({write.expr(argument, scope, depth)})"


def _element(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    index = write.expr(INT, scope, 0) if write.chance(20) else write.pick(["0", "1"])
    return f"[{write.expr(wanted, scope, depth)}, {write.expr(wanted, scope, depth)}][{index}]"


def _field(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    other = write.expr(write.type(0), scope, depth)
    return f"{{a: {write.expr(wanted, scope, depth)}, z: {other}}}.a"


def _entry(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    return f'["k": {write.expr(wanted, scope, depth)}]["k"]'


def _switch(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    kind = write.type(2)
    cases = []

    def add(pattern: str, names: Scope) -> None:
        cases.append(f"case {pattern}: {write.expr(wanted, [*scope, *names], depth)}")

    if kind[0] == "sum":
        for tag, element in kind[1]:
            text, names = ("", []) if element is None else write.pattern(element, 1)
            add(f"#{tag}({text})" if element is not None else f"#{tag}", names)
    elif kind[0] == "list":
        text, names = write.pattern(kind[1], 1)
        tail = write.name()
        add(f"[{text}]", names)
        add(f"[{text}, _, ...{tail}]", [*names, (tail, kind)])
    else:
        add(*write.pattern(kind))
    if kind[0] == "list" or write.chance(15):
        add("_", [])
    return f"switch {write.expr(kind, scope, depth)} {{ {write.pick([' ', '; ', chr(10)]).join(cases)} }}"


def _sequence(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    return f"({write.expr(write.type(1), scope, depth)} ~> {write.expr(wanted, scope, depth)})"


def _fold(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    element, first, second = write.type(1), write.name(), write.name()
    body = write.expr(wanted, [*scope, (first, wanted), (second, element)], depth)
    function = f"func({first} {type_text(wanted)}, {second} {type_text(element)}) => {body}"
    elements = write.expr(("list", element), scope, depth)
    return f"fold({function}, {elements}, {write.expr(wanted, scope, depth)})"


def _destructured(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    name, other = write.name(), write.type(1)
    pair = f"({write.expr(wanted, scope, depth)}, {write.expr(other, scope, depth)})"
    if write.chance(30):
        pair = f"unzip([{pair}])"
        return f"{{ val ([{name}, ..._], _) = {pair}; {name} }}"
    return f"{{ val ({name}, _) = {pair}; {name} }}"


def _stated(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    name = write.name()
    return f"{{ val {name} {type_text(wanted)} = {write.expr(wanted, scope, depth)}; {name} }}"


def _traced(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    return f"trace({write.expr(wanted, scope, depth)})"


GENERAL: list[Form] = [
    _cond,
    _block,
    _called,
    _element,
    _field,
    _entry,
    _switch,
    _sequence,
    _fold,
    _destructured,
    _stated,
    _traced,
]

# ------------------------------------------------------------------------ expressions of some types


def _form(template: str, *kinds: Kind) -> Form:
    """A form that fills expressions of some types, and ``%``-less marks ``@``, into a text."""

    def make(write: Writer, _wanted: Kind, scope: Scope, depth: int) -> str:
        text = template
        for kind in kinds:
            text = text.replace("@", write.expr(kind, scope, depth), 1)
        return text.replace("PATTERN", write.pick(_PATTERNS))

    return make


def _operator(symbols: Sequence[str], kind: Kind | None = None) -> Form:
    def make(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
        sides = kind or wanted
        left, right = write.expr(sides, scope, depth), write.expr(sides, scope, depth)
        return f"({left} {write.pick(symbols)} {right})"

    return make


def _compared(write: Writer, _wanted: Kind, scope: Scope, depth: int) -> str:
    kind = write.type(2)
    return f"({write.expr(kind, scope, depth)} {write.pick(['==', '!='])} {write.expr(kind, scope, depth)})"


def _ordered(write: Writer, _wanted: Kind, scope: Scope, depth: int) -> str:
    kind = write.pick([INT, STRING, FLOAT])
    operator = write.pick(["<", ">", "<=", ">="])
    return f"({write.expr(kind, scope, depth)} {operator} {write.expr(kind, scope, depth)})"


def _length(write: Writer, _wanted: Kind, scope: Scope, depth: int) -> str:
    kind = write.pick([STRING, FILE, DIR, ("list", write.type(1)), ("map", STRING, INT)])
    return f"len({write.expr(kind, scope, depth)})"


def _reduced(write: Writer, _wanted: Kind, scope: Scope, depth: int) -> str:
    pair = f"{write.expr(INT, scope, depth)}, {write.expr(INT, scope, depth)}"
    return f"reduce(func(i, j int) => i {write.pick('+-*')} j, [{pair}])"


def _spread(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    return f"[{write.expr(wanted[1], scope, depth)}, ...{write.expr(wanted, scope, depth)}]"


def _flattened(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    return f"flatten([{write.expr(wanted, scope, depth)}, {write.expr(wanted, scope, depth)}])"


def _comprehension(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    clauses = []
    scope = list(scope)
    for _ in range(write.number(1, 2)):
        element = write.type(1)
        source = write.pick(
            [("list", element), ("list", element), ("map", STRING, element), ("map", INT, element), DIR]
        )
        drawn = element
        if source[0] == "map":
            drawn = "tuple", (source[1], element)
        elif source == DIR:
            drawn = "tuple", (STRING, FILE)
        text = write.expr(source, scope, depth)
        pattern, names = write.pattern(drawn, 1)
        clauses.append(f"{pattern} <- {text}")
        scope += names
        if write.chance(30):
            clauses.append(f"if {write.expr(BOOL, scope, depth)}")
    return f"[{write.expr(wanted[1], scope, depth)} | {', '.join(clauses)}]"


def _zipped(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    match wanted[1]:
        case ("tuple", (left, right)):
            sides = [write.expr(("list", each), scope, depth) for each in (left, right)]
            return f"zip({', '.join(sides)})"
        case _:
            return ""


def _listed(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    match wanted[1]:
        case ("tuple", (("string",), ("file",))):
            return f"list({write.expr(DIR, scope, depth)})"
        case ("tuple", ((("string",) | ("int",)) as key, value)):
            return f"list({write.expr(('map', key, value), scope, depth)})"
        case ("string",):
            return str(write.pick(_STRING_LISTS)(write, wanted, scope, depth))
        case ("file",):
            return f"dirs.Files({write.expr(DIR, scope, depth)})"
        case ("int",):
            return "range(0, 3)"
        case _:
            return ""


_STRING_LISTS: list[Form] = [
    _form("strings.Split(@, @)", STRING, STRING),
    _form("strings.Chunk(@, 5)", STRING),
    _form("strings.Sort(@)", STRINGS),
    _form("regexp.Groups(@, PATTERN)", STRING),
]


def _mapped(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    _, key, value = wanted
    if wanted == ("map", STRING, FILE) and write.chance(50):
        return f"map({write.expr(DIR, scope, depth)})"
    if wanted == ("map", STRING, DIR) and write.chance(50):
        return f'dirs.Groups({write.expr(DIR, scope, depth)}, "(.).*")'
    return f"map({write.expr(('list', ('tuple', (key, value))), scope, depth)})"


def _map_spread(write: Writer, wanted: Kind, scope: Scope, depth: int) -> str:
    entry = f"{write.expr(wanted[1], scope, 0)}: {write.expr(wanted[2], scope, depth)}"
    return f"[{entry}, ...{write.expr(wanted, scope, depth)}]"


SPECIAL: dict[str, list[Form]] = {
    "int": [
        _operator(["+", "-", "*"]),
        _form("-@", INT),
        _length,
        _length,
        _form("(@ / 7)", INT),
        _form("(@ % -3)", INT),
        _form("(@ << 3)", INT),
        _form("(@ >> 2)", INT),
        _reduced,
        _form("int(@)", FLOAT),
    ],
    "float": [
        _operator(["+", "-", "*"]),
        _form("float(@)", INT),
        _form("(@ / 2.5)", FLOAT),
        _form("(-@)", FLOAT),
        _form("strings.ToFloat(strings.FromFloat(@, 3))", FLOAT),
    ],
    "string": [
        _operator(["+"]),
        _form("strings.Join(@, @)", STRINGS, STRING),
        _form("strings.FromInt(@)", INT),
        _form("strings.FromFloat(@, 4)", FLOAT),
        _form("path.Base(@)", STRING),
        _form("path.Dir(@)", STRING),
        _form("path.Ext(@)", STRING),
        _form("path.Join([@, @])", STRING, STRING),
        _form('regexp.Replace(@, PATTERN, "<$1>")', STRING),
        _form('{ val (_, p) = dirs.Pick(@, "*"); p }', DIR),
    ],
    "bool": [
        _operator(["&&", "||"]),
        _form("!@", BOOL),
        _compared,
        _compared,
        _ordered,
        _form("strings.HasPrefix(@, @)", STRING, STRING),
        _form("strings.HasSuffix(@, @)", STRING, STRING),
        _form("regexp.Match(@, PATTERN)", STRING),
    ],
    "file": [
        _form("files.Create(@)", STRING),
        _form('{ val (f, _) = dirs.Pick(@, "*.txt"); f }', DIR),
        _form('map(@)["a"]', DIR),
    ],
    "dir": [
        _operator(["+"]),
        _form("dirs.Make(@)", ("map", STRING, FILE)),
        _form("dirs.FromList([(@, @)])", STRING, FILE),
        _form("dirs.Sum([@, @])", DIR, DIR),
    ],
    "list": [
        _operator(["+"]),
        _spread,
        _flattened,
        _comprehension,
        _comprehension,
        _zipped,
        _listed,
        _listed,
    ],
    "map": [_operator(["+"]), _mapped, _map_spread],
}
