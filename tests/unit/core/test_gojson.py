from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.core.gojson import (
    Constant,
    dump_json,
    dump_with_constants,
    fold,
    load_json,
    number,
    parse_digest,
    parse_time,
    time_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": None}, '{"b":1,"a":null}'),
        ("<a>&b\u2028\u2029é", '"\\u003ca\\u003e\\u0026b\\u2028\\u2029é"'),
        (0.25, "0.25"),
        (3e-05, "0.00003"),
        (1.5e-06, "0.0000015"),
        (-2.5e-07, "-2.5e-7"),
        (1e-12, "1e-12"),
        (1e16, "10000000000000000"),
        (1.25e20, "125000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (["x 1e-07 y", 1e-07], '["x 1e-07 y",1e-7]'),
        ('say "1e-07"', '"say \\"1e-07\\""'),
    ],
)
def test_texts_are_those_of_go(value: object, text: str) -> None:
    assert dump_json(value).decode() == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_back(value: float) -> None:
    assert float(load_json(dump_json(value))) == value


@given(st.recursive(st.integers() | st.text() | st.booleans() | st.none(), st.lists))
def test_values_read_back(value: object) -> None:
    assert load_json(dump_json(value)) == value


def test_bytes_that_are_no_utf8_pass_through() -> None:
    path = b"a\xff".decode("utf-8", "surrogateescape")
    assert dump_json(path) == b'"a\xff"'
    assert load_json(b'"a\xff"') == path


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_json(data)


@pytest.mark.parametrize(("value", "text"), [(2.0, "2"), (0.5, "0.5"), (2.0**60, "1152921504606847000")])
def test_whole_numbers_have_no_point(value: float, text: str) -> None:
    assert dump_json(number(value)).decode() == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC), "2021-03-04T05:06:07Z"),
        (datetime(2021, 3, 4, 5, 6, 7, 120, tzinfo=UTC), "2021-03-04T05:06:07.00012Z"),
        (datetime(2021, 3, 4, 5, 6, 7, 500000, timezone(timedelta(hours=-7))), "2021-03-04T05:06:07.5-07:00"),
    ],
)
def test_times_are_rfc3339(time: datetime | None, text: str) -> None:
    assert time_text(time) == text
    assert parse_time(text) == time


def test_nanoseconds_are_cut() -> None:
    assert parse_time("2021-03-04T05:06:07.123456789Z") == datetime(2021, 3, 4, 5, 6, 7, 123456, UTC)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        parse_time("2021-03-04T05:06:07")


@pytest.mark.parametrize("text", [None, "", "<zero>"])
def test_absent_digests(text: str | None) -> None:
    assert parse_digest(text) is None


def test_names_match_whatever_their_case() -> None:
    assert fold({"NeedAWSCreds": True}) == {"needawscreds": True}
    with pytest.raises(ValueError, match="got list, want an object"):
        fold([])  # type: ignore[arg-type]


def test_constants_are_written_as_they_would_be_without() -> None:
    odd = {"a<b": 'constant "0."', "é\udcff": [1, {"x": None}]}
    constant = Constant(odd)
    row = {"Config": {"Args": [{"Fileset": constant}, {"Fileset": constant}, Constant()]}, "b": [1e30, "&"]}
    plain = {"Config": {"Args": [{"Fileset": odd}, {"Fileset": odd}, {}]}, "b": [1e30, "&"]}
    assert dump_with_constants(row) == dump_json(plain) == dump_json(row)
    assert constant.text is constant.text


def test_many_constants_keep_their_places() -> None:
    row = {"all": [Constant(number=number) for number in range(12)]}
    assert dump_with_constants(row) == dump_json({"all": [{"number": number} for number in range(12)]})
