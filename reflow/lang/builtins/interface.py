"""The interface files of the system modules.

Such a file holds declarations without bodies, ``func NAME(FIELDS) TYPE`` on one line, each with its
comment above. Types may be ``unit``, ``top`` and ``fileset`` too, which programs cannot write. The reader is
a small one of its own so that a program whose modules are cached never loads the parser.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from reflow.lang import types as t
from reflow.lang.types import Field, Type

DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "stdlib")

_DECLARATION = re.compile(r"^((?://.*\n)*)func (\w+)(\(.*)$", re.MULTILINE)
_TOKEN = re.compile(r"\w+|[][():,]")
_BASIC: dict[str, Type] = {
    each.kind: each for each in (t.INT, t.FLOAT, t.STRING, t.BOOL, t.FILE, t.DIR, t.UNIT, t.FILESET, t.TOP)
}


class Declaration(NamedTuple):
    """One function of a system module."""

    name: str
    type: Type
    doc: str


def read_interface(name: str) -> list[Declaration]:
    """The declarations of ``$/name``, in order."""
    with open(os.path.join(DIRECTORY, name + ".rf"), encoding="utf-8") as stream:
        return parse_interface(stream.read())


def parse_interface(text: str) -> list[Declaration]:
    """The declarations in a text."""
    return [
        Declaration(found[2], _Reader(found[3]).signature(), _comment(found[1]))
        for found in _DECLARATION.finditer(text)
    ]


def _comment(lines: str) -> str:
    return "".join([line.removeprefix("//").strip() + "\n" for line in lines.splitlines()])


class _Reader:
    """Reads types off the tokens of one declaration."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        self._at = 0

    def signature(self) -> Type:
        """``(FIELDS) TYPE``, all that there is."""
        fields = self._fields()
        result = self._type()
        assert self._at == len(self._tokens), "a declaration ends with its type"
        return t.func_of(fields, result)

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        found = self._next()
        assert found == token, f"got {found}, want {token}"

    def _peek(self) -> str:
        return self._tokens[self._at]

    def _fields(self) -> list[Field]:
        """``(a, b T, c U)``; names in a row share the type that follows the last."""
        fields: list[Field] = []
        names: list[str] = []
        self._expect("(")
        while not names or self._tokens[self._at - 1] == ",":
            names.append(self._next())
            if self._peek() != ",":
                shared = self._type()
                fields += [Field(name, shared) for name in names]
                names = []
                if self._next() == ")":
                    return fields
            else:
                self._next()
        raise AssertionError("fields end with their type")

    def _type(self) -> Type:
        token = self._next()
        if token == "[":
            return self._list_or_map()
        if token == "(":
            return self._tuple()
        return _BASIC[token]

    def _list_or_map(self) -> Type:
        first = self._type()
        if self._next() == "]":
            return t.list_of(first)
        value = self._type()
        self._expect("]")
        return t.map_of(first, value)

    def _tuple(self) -> Type:
        items = [Field("", self._type())]
        while self._next() == ",":
            items.append(Field("", self._type()))
        return t.tuple_of(items)
