"""Digests of values, against constants observed with the original, and what has no influence on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.flow.digest import digest
from reflow.flow.node import Intern
from reflow.lang.digest_value import own_digest, value_digest, value_material
from reflow.lang.number import parse_float
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
    MapType,
    ModuleType,
    StructType,
    SumType,
    TupleType,
    Type,
    VariantType,
)
from reflow.lang.value import UNIT as UNIT_VALUE
from reflow.lang.value import Dir, MapValue, Struct, Variant


def _file(text: str, size: int) -> File:
    return File(Digest.of_text(text), size)


LETTERS = {name: _file(f"{name} contents", size) for name, size in (("a", 2), ("b", 4), ("d", 3), ("c", 1))}
PAIR = StructType([Field("field1", INT), Field("field2", STRING)])
THREE = [Field("field1", INT), Field("field2", STRING), Field("field3", INT)]
FOUR = [Field("field1", INT), Field("field2", STRING), Field("field4", BOOL), Field("field3", INT)]
FIELDS = Struct(field1=1, field2=b"hello", field3=2, field4=False)
OPTION = SumType([VariantType("None"), VariantType("Int", INT)])


def _map(entries: dict[bytes, Any]) -> MapValue:
    return MapValue([(value_digest(key, STRING), key, value) for key, value in entries.items()])


CASES: list[tuple[Any, Type, str]] = [
    (12345, INT, "499fb000867f99f88d5539466aa2489fbc5847f70b6b7171024583a3cfff454b"),
    (0, INT, "dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986"),
    (parse_float("1.2345"), FLOAT, "694a41b0b9ad43b3bc07880247f0fb01ff0fc9dadb251a10eacb6950d39c2e4d"),
    (b"hello", STRING, "0b4d354d56ea9a985571a56b1829f33d072e7902c1afaf981381089b9eb00ffe"),
    (True, BOOL, "38b8bc5c86db41a80615b2f4694fc754cccffb95e8933d5b376021feab83cea3"),
    (UNIT_VALUE, UNIT, "ca358758f6d27e6cf45272937977a748fd88391db679ceda7dc7bf1f005ee879"),
    (
        [b"a", b"man", b"a", b"plan", b"a", b"canal", b"panama"],
        ListType(STRING),
        "bc0a302ebd71d0d1b0b0338a7c5c2ea83964b7364504516dd1f450e4b77430ef",
    ),
    (
        (1, b"hello"),
        TupleType([Field("", INT), Field("", STRING)]),
        "aa29288ba688ca5e503e47c4e82003e97780ca64606baed753f58ebb74f38e44",
    ),
    (
        _map(
            {
                b"hello": Struct(field1=123, field2=b"hello world"),
                b"world": Struct(field1=321, field2=b"foo bar"),
            }
        ),
        MapType(STRING, PAIR),
        "c1c3e68de6ccf619538b5810a4feaeac5049505b7719ad67321f62d0c63f52a9",
    ),
    (FIELDS, StructType(FOUR), "ea6d8ba6d3dbf27f61eb0da431b5247082afc31e189fd57af77f86e5f889b7b0"),
    (FIELDS, StructType(THREE), "0f600c515b7e3467ad33b74e3a11b199db950c80a45a0272c198ac039b17b3fc"),
    (FIELDS, ModuleType(FOUR), "f869ee25f349dea1ad75f9b01000075fdbc10d720e088972f1c523c21d5d490d"),
    (FIELDS, ModuleType(THREE), "c117c8823c75892a495a703ee83b41257f9b5174f4fea59dc3e0c2ee2520af95"),
    (_file("contents", 54321), FILE, "cf2f6c9da27487304271965d77439ea161575f87d0202867f1c099234fbbc219"),
    (
        Fileset(
            members=[
                Fileset(LETTERS),
                Fileset(members=[Fileset({"e": _file("e contents", 5)})]),
            ]
        ),
        FILESET,
        "35e66174fb0e8ed518dc0d6797566730558b6eb83fcf196b8d8476825035107c",
    ),
    (Dir(LETTERS), DIR, "06132bcc7b9dc5373e7bee046fd23eb1826e599424cff420346111bd5f2835ab"),
    (Variant("None"), OPTION, "727e511e8fb530780a628ad017419d933b7f7453f87bdef61f3339ec4f86f373"),
    (
        Variant("Int", 0, has_element=True),
        OPTION,
        "cdffa9f65561562220ad62d08cc612245cb2d2486233e8fe547bc8afb80e5c03",
    ),
]


@pytest.mark.parametrize(("value", "type_", "expected"), CASES, ids=[str(case[1]) for case in CASES])
def test_values_have_the_originals_digests(value: Any, type_: Type, expected: str) -> None:
    assert value_digest(value, type_).hex() == expected


@given(st.integers())
def test_sign_and_magnitude_are_written(value: int) -> None:
    material = value_material(value, INT)
    magnitude = int.from_bytes(material[1:].lstrip(b"\0"), "big")
    assert material[:1] == b"\x02"
    assert magnitude == abs(value)
    assert (material[1:2] == b"\0") == (value < 0)


def test_what_has_a_digest_is_written_as_it_alone() -> None:
    flow = Intern("s3://b/k")
    assert value_material(flow, INT) == digest(flow).wire
    assert value_material(_file("x", 1), TOP) == Digest.of_text("x").wire


def test_only_the_kind_of_a_value_at_type_top_is_written() -> None:
    assert value_material([1, 2], TOP) == value_material(b"x", TOP) == b"\x11"


def test_order_of_fields_in_value_and_type_does_not_count() -> None:
    turned = Struct(reversed(list(FIELDS.items())))
    assert value_digest(turned, StructType(FOUR[::-1])) == value_digest(FIELDS, StructType(FOUR))


def test_plain_values_have_no_digest_of_their_own() -> None:
    for value in (1, True, b"x", [1], (1,), UNIT_VALUE, Struct(), MapValue(), Variant("A"), Dir()):
        assert own_digest(value) is None
    assert own_digest(parse_float("1.5")) is None
