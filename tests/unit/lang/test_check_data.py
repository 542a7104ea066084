"""The cases of ``tests/data/check``: programs with what is to be said about them, on the line concerned.

``//! TEXT`` is an error, ``//? TEXT`` a warning; with ``-`` after it, it is one without a place. In texts
``\\n``, ``\\t`` and ``\\s`` (a blank at the end) are escapes. A line ``// +++ NAME`` begins another file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from reflow.lang.diagnostic import SourceError
from reflow.lang.source import Pos
from tests.module_texts import TextOpener

DATA = Path(__file__).parents[2] / "data" / "check"

_MARK = re.compile(r"\s*//([!?]-?) ")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\s": " "}


class Said(NamedTuple):
    """A message: the file and line it is about (line 0: no place), what kind it is, and its text."""

    file: str
    line: int
    kind: str
    text: str


def chunks() -> list[tuple[str, str]]:
    """(name, text) of every case."""
    found = []
    for path in sorted(DATA.glob("*.rf")):
        cases = path.read_text().split("// ---\n")
        found += [(f"{path.stem}-{number}", case) for number, case in enumerate(cases, 1)]
    return found


def files_of(case: str) -> dict[str, str]:
    parts = re.split(r"^// \+\+\+ (.*)\n", case, flags=re.MULTILINE)
    return {"main.rf": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def expected(files: dict[str, str]) -> list[Said]:
    said = []
    for name, text in files.items():
        for number, line in enumerate(text.split("\n"), 1):
            marks = _MARK.split(line)[1:]
            for kind, message in zip(marks[::2], marks[1::2], strict=True):
                for escape, meaning in _ESCAPES.items():
                    message = message.replace(escape, meaning)
                placed = kind in "!?"
                said.append(Said(name if placed else "", number if placed else 0, kind[0], message))
    return said


def place(pos: Pos | None) -> tuple[str, int]:
    assert pos is not None
    return (pos.source.name, pos.source.line_column(pos.at)[0]) if pos.is_set else ("", 0)


def said_about(files: dict[str, str]) -> list[Said]:
    opener = TextOpener(files)
    said = []
    try:
        opener.load("main.rf")
    except SourceError as error:
        said = [Said(*place(each.pos), "!", each.text) for each in error.diagnostics]
    return said + [Said(*place(pos), "?", text) for pos, text in opener.warnings]


@pytest.mark.parametrize("case", [pytest.param(text, id=name) for name, text in chunks()])
def test_what_is_said_about_a_program(case: str) -> None:
    files = files_of(case)
    assert sorted(said_about(files)) == sorted(expected(files))
