"""Values as text."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.flow.digest import digest
from reflow.flow.node import Intern
from reflow.lang.number import parse_float
from reflow.lang.print_value import quote, show
from reflow.lang.types import (
    BOOL,
    DIR,
    FILE,
    FILESET,
    FLOAT,
    INT,
    STRING,
    TOP,
    UNIT,
    Field,
    ListType,
    ModuleType,
    StructType,
    SumType,
    TupleType,
    Type,
    VariantType,
)
from reflow.lang.value import UNIT as UNIT_VALUE
from reflow.lang.value import Dir, Struct, Variant


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (b"plain", '"plain"'),
        (b'a"b\\c', r'"a\"b\\c"'),
        (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        (b"\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        (b"\xff\xc3", r'"\xff\xc3"'),
        ("é世\u00a0\u200b\ufeff".encode(), r'"é世\u00a0\u200b\ufeff"'),
        ("\U0001f600\U000e0001".encode(), '"\U0001f600\\U000e0001"'),
        ("\ufffd".encode(), '"\ufffd"'),
        (b"\xed\xa0\x80", r'"\xed\xa0\x80"'),
    ],
)
def test_strings_are_quoted_as_in_go(text: bytes, quoted: str) -> None:
    assert quote(text) == quoted


FILE_X = File(Digest.of_text("x"), 6)
SHORT = Digest.of_text("x").short
XY = [Field("x", INT), Field("y", STRING)]


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        (-5, INT, "-5"),
        (parse_float("0.5"), FLOAT, "0.5"),
        (b"a", STRING, '"a"'),
        (False, BOOL, "false"),
        (UNIT_VALUE, UNIT, "()"),
        (FILE_X, FILE, SHORT),
        (File(source="s3://b/k", size=3), FILE, "s3://b/k"),
        (Dir(), DIR, "dir()"),
        (Dir({"b": FILE_X, "a": File(source="s3://b/k")}), DIR, f'dir("a": s3://b/k, "b": {SHORT})'),
        (Fileset({".": FILE_X}), FILESET, f"val<.={SHORT} 6B>"),
        ([1, 2], ListType(INT), "[1, 2]"),
        ((1, b"a"), TupleType([Field("", INT), Field("", STRING)]), '(1, "a")'),
        (Struct(y=b"q", x=1, z=0), StructType(XY), '{x: 1, y: "q"}'),
        (Struct(x=1, y=b"q"), ModuleType(XY), 'module{val x = 1; val y = "q"}'),
        (Variant("A"), SumType([VariantType("A")]), "#A"),
        (Variant("A", 1, has_element=True), SumType([VariantType("A", INT)]), "#A(1)"),
        (True, TOP, "true"),
    ],
)
def test_values_are_shown_at_their_type(value: Any, type_: Type, text: str) -> None:
    assert show(value, type_) == text


def test_delayed_values_are_shown_by_their_digest() -> None:
    flow = Intern("s3://b/k")
    assert show([flow], ListType(INT)) == f"[delayed({digest(flow)})]"
