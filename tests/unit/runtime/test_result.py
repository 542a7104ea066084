from __future__ import annotations

from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.lang.types import (
    BOOL,
    DIR,
    FILE,
    INT,
    STRING,
    UNIT,
    Field,
    Type,
    VariantType,
    func_of,
    list_of,
    map_of,
    struct_of,
    sum_of,
    tuple_of,
)
from reflow.lang.value import UNIT as UNIT_VALUE
from reflow.lang.value import Dir, MapValue, Struct, Variant
from reflow.runtime.result import key_name, result_tree

A, B = Digest.of(b"a"), Digest.of(b"b")
FILE_A, FILE_B = File(A, 1), File(B, 1)
SUM = sum_of([VariantType("None"), VariantType("Some", FILE)])


def a_map(*entries: tuple[bytes, Any]) -> MapValue:
    return MapValue([(Digest.of(key), key, value) for key, value in entries])


@pytest.mark.parametrize(
    ("value", "type", "entries"),
    [
        (FILE_A, FILE, {".": A}),
        (3, INT, {".": b"3\n"}),
        (True, BOOL, {".": b"true\n"}),
        (UNIT_VALUE, UNIT, {".": b"()\n"}),
        (b"x\xff", STRING, {".": b"x\xff"}),
        (Dir({"d/x": FILE_A, "y": FILE_B}), DIR, {"d/x": A, "y": B}),
        (Dir({}), DIR, {".": None}),
        ([FILE_A, FILE_B], list_of(FILE), {"0": A, "1": B}),
        ([], list_of(FILE), {".": None}),
        ([[FILE_A], []], list_of(list_of(FILE)), {"0/0": A, "1": None}),
        ((FILE_A, 2), tuple_of([Field("", FILE), Field("", INT)]), {"0": A, "1": b"2\n"}),
        (Struct(a=FILE_A, more=1), struct_of([Field("a", FILE)]), {"a": A}),
        (a_map((b"k", FILE_A), (b"a/b", FILE_B)), map_of(STRING, FILE), {"k": A, "a%2Fb": B}),
        (Variant("None"), SUM, {".": b"#None\n"}),
        (Variant("Some", FILE_A, has_element=True), SUM, {"Some": A}),
        (Fileset({".": FILE_A}), UNIT, {".": A}),
        (Fileset({"x": FILE_A, "y": FILE_B}), UNIT, {"x": A, "y": B}),
        (Fileset(members=[Fileset({".": FILE_A}), Fileset()]), UNIT, {"0": A, "1": None}),
    ],
)
def test_values_become_trees(value: Any, type: Type, entries: dict[str, Any]) -> None:
    tree = result_tree(value, type)
    assert tree.entries == entries
    assert tree.sizes == {each: 1 for each in entries.values() if isinstance(each, Digest)}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (b"sample 1", "sample 1"),
        (b"", "%"),
        (b".", "%2E"),
        (b"..", "%2E%2E"),
        (b"a%b\n", "a%25b%0A"),
        ("é".encode(), "é"),
        (b"\xff", "%FF"),
    ],
)
def test_keys_become_names(key: bytes, name: str) -> None:
    assert key_name(key, STRING) == name


def test_long_keys_are_cut_and_told_apart() -> None:
    names = {key_name(b"x" * 300 + end, STRING) for end in (b"1", b"2")}
    assert len(names) == 2
    assert all(len(name.encode()) <= 255 for name in names)


def test_numbers_are_keys_as_they_print() -> None:
    assert key_name(-3, INT) == "-3"


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (object(), func_of([], INT), "cannot be placed"),
        (File(None, 1, "s3://b/k"), FILE, "s3://b/k is a reference"),
    ],
)
def test_what_is_no_data_here_is_refused(value: Any, type: Type, text: str) -> None:
    with pytest.raises(ReflowError, match=text):
        result_tree(value, type)
