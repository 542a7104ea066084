"""What must hold for every input, good or bad.

Each function raises something other than the errors of programs, or AssertionError, when it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from reflow.core.errors import Kind, ProgramError, ReflowError
from reflow.flow.digest import digest
from reflow.flow.node import Flow
from reflow.lang.doc import doc_text
from reflow.lang.flags import UsageError
from reflow.lang.parse import parse_decls, parse_expr, parse_module, parse_pattern, parse_type
from reflow.lang.pretty import pattern_text, tree_text
from reflow.lang.program import load
from reflow.lang.session import Session
from reflow.lang.source import Source
from reflow.lang.source_module import SourceModule
from reflow.lang.syntax import Make, Node, Template
from reflow.lang.tree_codec import CodecError, decode, encode
from tests.adapters.sim import evaluated

_EXPECTED = (ProgramError, ReflowError, UsageError)
_LONGEST_RENDERED = 2_000_000


class TextSourcer:
    """Modules from texts in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes:
        """The bytes at a path."""
        if path not in self._files:
            raise ReflowError(Kind.NOT_EXIST, "open", path)
        return self._files[path]


def outcome_of_program(files: Mapping[str, bytes]) -> str:
    """What checking, showing, loading and evaluating ``main.rf`` gives, twice the same, as one line."""
    first = _outcome(files)
    assert _outcome(files) == first
    return first


def _outcome(files: Mapping[str, bytes]) -> str:
    told: list[str] = []
    session = Session(sourcer=TextSourcer(files), warn=told.append, note=told.append, trace=told.append)
    try:
        module = session.open("main.rf")
        assert isinstance(module, SourceModule)
        doc_text(module)
        _check_codec(module, files["main.rf"])
        program = load("main.rf", [], session, make_absolute=False)
        if not isinstance(program.main, Flow):
            return f"{told} value {program.text(program.main)} {program.main_type}"
        name = digest(program.main)
        return f"{told} flow {name} {program.text(evaluated(program.main))} {program.main_type}"
    except _EXPECTED as err:
        return f"{told} error {_shown(err)}"


def _shown(error: Exception) -> str:
    """The text of an error; the one for people is neither empty nor endless."""
    if isinstance(error, ProgramError):
        rendered = error.render()
        assert rendered
        assert len(rendered) < _LONGEST_RENDERED
    return str(error)


def _check_codec(module: SourceModule, source: bytes) -> None:
    """A module that is written and read again is the same."""
    made = _made_modules(module)
    text = Source("main.rf", source.decode("utf-8", "surrogateescape"))
    try:
        data = encode(module.tree, module.info, made)
    except CodecError:
        return
    tree, info = decode(data, text, made)
    assert encode(tree, info, made) == data
    assert str(info.type) == str(module.info.type)


def _made_modules(module: SourceModule) -> list[Any]:
    found: list[Any] = []
    todo: list[Any] = [module.tree]
    while todo:
        each = todo.pop()
        if isinstance(each, Make):
            found.append(each.module)
        if isinstance(each, list | tuple):
            todo += each
        elif isinstance(each, Node | Template):
            todo += [getattr(each, name.name, None) for name in fields(each)]
    return found


def check_text(text: str) -> None:
    """Any text is parsed in every mode, or refused; what is printed of it can be read again."""
    source = Source("x.rf", text)
    for parse in (parse_module, parse_decls):
        _refused(parse, source)
    expr = _refused(parse_expr, source)
    if expr is not None:
        assert tree_text(expr) == tree_text(parse_expr(source))
    type = _refused(parse_type, source)
    if type is not None and type.kind not in ("unit", "error"):
        shown = str(type)
        assert str(parse_type(Source("x.rf", shown))) == shown
    pattern = _refused(parse_pattern, source)
    if pattern is not None:
        shown = pattern_text(pattern)
        assert pattern_text(parse_pattern(Source("x.rf", shown))) == shown


def _refused(parse: Any, source: Source) -> Any:
    try:
        return parse(source, lambda line: None)
    except ProgramError as err:
        _shown(err)
        return None
