"""Parse programs: LALR(1) tables, made by lark from ``grammar.lark``, driven by a loop of our own.

The tables are made when the package is built and lie beside the grammar in ``grammar.bin``; lark is
imported only when they are missing or belong to another grammar. The driver takes a state's most frequent
reduction as its default, as the original's generator does: messages then name the same expected tokens.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn, cast

from reflow.lang import depth, template
from reflow.lang.diagnostic import Diagnostic, SourceError
from reflow.lang.lexer import DECLS, EXPR, MODULE, PATTERN, TYPE, Lexer, Note, Token
from reflow.lang.source import Pos, Source
from reflow.lang.syntax import PRECEDENCE, Decl, Expr, Module, Pattern, Template
from reflow.lang.terminal import BINOP, CHARACTER, END, NAMES, ORDER, expectation, name_of
from reflow.lang.tree import TreeBuilder
from reflow.lang.types import Type

GRAMMAR = os.path.join(os.path.dirname(__file__), "grammar.lark")
TABLES = os.path.join(os.path.dirname(__file__), "grammar.bin")

_FORMAT = 1
"""Counts changes of how tables are made from the grammar."""

_LEVELS = frozenset({"expr", "chain", "operand", "primary"})
"""What the original has as one kind of expression; with one symbol, a rule only passes it on."""

Row = dict[str, int]
Action = Callable[..., Any]


class Tables(NamedTuple):
    """What the driver runs on.

    ``rows`` has a row per state: terminal or nonterminal -> state to go to (positive), rule to reduce by
    (negative) or 0 to accept; ``defaults`` is the rule for all other terminals, or None for an error.
    ``rules`` are (symbols, nonterminal, method of the tree builder or ""); rule n stands at index -n.
    """

    grammar: str
    lark: str
    starts: dict[str, int]
    rows: list[Row]
    defaults: list[int | None]
    rules: list[tuple[int, str, str]]


class _Program(NamedTuple):
    starts: dict[str, int]
    rows: list[Row]
    defaults: list[int | None]
    rules: list[tuple[int, str, Action | None]]


# ------------------------------------------------------------------------------------------ tables


def grammar_digest() -> str:
    """What tells whether tables belong to the grammar at hand."""
    return f"{hashlib.sha256(_read(GRAMMAR)).hexdigest()}/{_FORMAT}"


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def build_tables() -> Tables:
    """Make the tables with lark. Takes about 50 ms."""
    import lark  # 30 ms, and installed programs have the tables
    from lark.lexer import Lexer as LarkLexer

    class NoLexer(LarkLexer):
        def __init__(self, conf: Any) -> None:
            pass

        def lex(self, *_: Any) -> Iterator[Any]:
            raise NotImplementedError

    starts = [MODULE, DECLS, EXPR, TYPE, PATTERN]
    built = lark.Lark(_read(GRAMMAR).decode(), parser="lalr", lexer=NoLexer, start=starts)
    return _numbered(cast("Any", built.parser.parser)._parse_table, lark.__version__)


def _numbered(table: Any, version: str) -> Tables:
    """Lark's table with states and rules numbered in a fixed order, defaults chosen, steps shortened."""
    numbers: dict[Any, int] = {}
    rules: dict[Any, int] = {}
    queue = [table.start_states[name] for name in sorted(table.start_states)]
    numbers.update((state, number) for number, state in enumerate(queue, 1))
    rows: list[Row] = [{}]
    defaults: list[int | None] = [None]
    ends = set(table.end_states.values())
    for state in queue:
        shifts: Row = {}
        reductions: dict[int, list[str]] = {}
        for symbol, (action, target) in sorted(table.states[state].items()):
            if action.name == "Shift":
                if target not in numbers:
                    numbers[target] = len(numbers) + 1
                    queue.append(target)
                shifts[symbol] = numbers[target]
            else:
                reductions.setdefault(rules.setdefault(target, len(rules) + 1), []).append(symbol)
        row, default = _with_default(shifts, reductions)
        if state in ends:
            row[END] = 0
        rows.append(row)
        defaults.append(default)
    listed = [(len(each.expansion), str(each.origin.name), str(each.alias or "")) for each in rules]
    listed.reverse()
    _shorten(rows, defaults, listed)
    starts = {str(name): numbers[state] for name, state in table.start_states.items()}
    return Tables(grammar_digest(), version, starts, rows, defaults, listed)


def _with_default(shifts: Row, reductions: dict[int, list[str]]) -> tuple[Row, int | None]:
    """A row and its default: the reduction that most terminals ask for, the first of them in a tie."""

    def weight(rule: int) -> tuple[int, int]:
        symbols = reductions[rule]
        count = sum(len(PRECEDENCE) - 1 if each == BINOP else 1 for each in symbols)
        return count, -min(ORDER[each] for each in symbols)

    if not reductions:
        return shifts, None
    best = max(reductions, key=weight)
    rest = {symbol: -rule for rule, symbols in reductions.items() if rule != best for symbol in symbols}
    return shifts | rest, -best


def _shorten(rows: list[Row], defaults: list[int | None], rules: list[tuple[int, str, str]]) -> None:
    """Skip states that do nothing but pass a value on under another name."""
    for row in rows:
        for symbol, target in row.items():
            end = target
            while end > 0 and not rows[end] and (rule := defaults[end]) is not None:
                size, name, method = rules[rule]
                if method or size != 1:
                    break
                end = row[name]
            row[symbol] = end


def write_tables(path: str, tables: Tables) -> None:
    """Write tables so that nobody ever sees half of them."""
    part = f"{path}.{os.getpid()}"
    with open(part, "wb") as file:
        file.write(marshal.dumps(tuple(tables), 2))  # later versions depend on who shares what
    os.replace(part, path)


def load_tables() -> Tables:
    """The tables beside the grammar; when they are missing or stale, new ones, kept if that is possible."""
    with suppress(OSError, ValueError, EOFError, TypeError):
        tables = Tables(*marshal.loads(_read(TABLES)))
        if tables.grammar == grammar_digest():
            return tables
    tables = build_tables()
    with suppress(OSError):
        write_tables(TABLES, tables)
    return tables


_program: _Program | None = None


def _the_program() -> _Program:
    global _program  # made once, on first use
    if _program is None:
        tables = load_tables()
        rules = [
            (size, name, getattr(TreeBuilder, method) if method else None)
            for size, name, method in tables.rules
        ]
        _program = _Program(tables.starts, tables.rows, tables.defaults, rules)
    return _program


# ------------------------------------------------------------------------------------------ driver


class _Parse:
    """One pass over one source."""

    def __init__(self, source: Source, mode: str, note: Note | None) -> None:
        self.source = source
        self._mode = mode
        self._note = note
        self._errors: list[Diagnostic] = []
        self._lexer = Lexer(source, mode, self._errors, note, self._read_template)
        self._builder = TreeBuilder(source, self._lexer.comments, self._complain)
        self._token: Token = (END, None, 0, 0)
        self._inner_depth = 0
        self.depth = 0
        """More levels than the tree can have."""

    def run(self) -> Any:
        """Parse. Raises SourceError with everything that was wrong up to the first syntax error."""
        starts, rows, defaults, rules = _the_program()
        builder = self._builder
        state = starts[self._mode]
        states = [state]
        values: list[Any] = []
        deepest = 0
        for token in self._lexer.tokens():
            self._token = token
            terminal = token[0]
            if terminal == CHARACTER:
                state = self._overlook(states, values)
                continue
            last = 0
            action = rows[state].get(terminal, defaults[state])
            while action is not None and action < 0:
                last = action
                size, name, build = rules[action]
                if build is None:
                    states.pop()
                elif size:
                    args = values[-size:]
                    del values[-size:], states[-size:]
                    values.append(build(builder, *args))
                else:
                    values.append(build(builder))
                state = rows[states[-1]][name]
                states.append(state)
                action = rows[state].get(terminal, defaults[state])
            if not action:
                if action is None:
                    self._fail(state, last)
                break
            state = action
            states.append(state)
            values.append(token[1])
            if len(states) > deepest:
                deepest = len(states)
        self.depth = 2 * deepest * (1 + builder.longest_spine) + self._inner_depth
        return values[-1]

    def _overlook(self, states: list[int], values: list[Any]) -> int:
        """The state after a character literal. Raises SourceError where it is unexpected.

        The original takes it for the end of the input, but only for one step: where that step ends something,
        whatever comes next, the literal is forgotten. It takes steps that need no look at what comes next
        before it looks; and it has one kind of expression, with all operators, where our grammar has several.
        """
        _, rows, defaults, rules = _the_program()
        last = 0
        while True:
            row, action = rows[states[-1]], defaults[states[-1]]
            if action is None:
                self._fail(states[-1], last)
            size, name, build = rules[action]
            if name in _LEVELS:
                is_looking = size > 1 and name != "primary"
            else:
                is_looking = (last and rules[last][1] == "expr") or not row.keys().isdisjoint(NAMES)
            args = values[len(values) - size :]
            if build is not None:
                del values[len(values) - size :]
                values.append(build(self._builder, *args))
            del states[len(states) - size :]
            states.append(rows[states[-1]][name])
            if is_looking:
                return states[-1]
            last = action

    def _fail(self, state: int, last: int) -> NoReturn:
        """Raise what is known and that the last token was unexpected."""
        program = _the_program()
        terminal, value, start, end = self._token
        text = f"syntax error: unexpected {name_of(terminal, value)}"
        # After a finished expression an operator could follow too, and that is more than are ever listed.
        if not last or program.rules[last][1] != "expr":
            text += expectation(program.rows[state].keys() & NAMES.keys())
        hint = ""
        if terminal == CHARACTER:
            hint = "there are no character literals: write strings in double quotes"
        self._errors.append(Diagnostic(Pos(self.source, end, start, end), text, hint))
        raise SourceError(self._errors)

    def _complain(self, text: str) -> None:
        """Record an error of the tree builder: the original tells of it only if a syntax error follows."""
        _, _, start, end = self._token
        self._errors.append(Diagnostic(Pos(self.source, end, start, end), text))

    def _read_template(self, start: int, end: int) -> Template | None:
        return template.read_template(self.source, start, end, self._parse_interpolation, self._errors)

    def _parse_interpolation(self, inner: Source) -> Expr:
        parse = _Parse(inner, EXPR, self._note)
        expr = parse.run()
        self._inner_depth = max(self._inner_depth, parse.depth)
        return cast("Expr", expr)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the cyclic collector from looking through a growing tree again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(source: Source, mode: str, note: Note | None) -> Any:
    with _without_collector():
        parse = _Parse(source, mode, note)
        tree = parse.run()
        if parse.depth > depth.MAX_DEPTH:
            depth.check(tree, Pos(source, 0, 0, 0))
        return tree


def parse_module(source: Source, note: Note | None = None) -> Module:
    """Parse a module. Raises SourceError. ``note`` is told the scanner's remarks, which are no errors."""
    return cast("Module", _parse(source, MODULE, note))


def parse_decls(source: Source, note: Note | None = None) -> tuple[Decl, ...]:
    """Parse declarations, each ended by a semicolon or a newline. Raises SourceError."""
    return tuple(_parse(source, DECLS, note))


def parse_expr(source: Source, note: Note | None = None) -> Expr:
    """Parse an expression; newlines mean nothing in it. Raises SourceError."""
    return cast("Expr", _parse(source, EXPR, note))


def parse_type(source: Source, note: Note | None = None) -> Type:
    """Parse a type. Raises SourceError."""
    return cast("Type", _parse(source, TYPE, note))


def parse_pattern(source: Source, note: Note | None = None) -> Pattern:
    """Parse a pattern. Raises SourceError."""
    return cast("Pattern", _parse(source, PATTERN, note))
