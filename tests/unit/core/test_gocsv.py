"""CSV as Go reads it: what is expected here was printed by Go's own reader."""

from __future__ import annotations

import pytest

from reflow.core.gocsv import CsvError, Record, check_width, read_csv


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("", []),
        ("\n\n", []),
        ("a,b\n1,2\n", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a,b\n1,2", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a\r\n\r\nb\r\n", [(1, ["a"]), (3, ["b"])]),
        (' a ,"b, c","d""e"\n', [(1, [" a ", "b, c", 'd"e'])]),
        ('a,""\n,\n', [(1, ["a", ""]), (2, ["", ""])]),
        ('x\n"two\r\nlines",5\nz\n', [(1, ["x"]), (2, ["two\nlines", "5"]), (4, ["z"])]),
        ("\ufeffid,x\n", [(1, ["id", "x"])]),
        ("a,b,c\n1\n", [(1, ["a", "b", "c"]), (2, ["1"])]),
    ],
)
def test_records(text: str, records: list[tuple[int, list[str]]]) -> None:
    assert list(read_csv(text)) == [Record(line, fields) for line, fields in records]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('a\nx"y\n', 'parse error on line 2, column 2: bare " in non-quoted-field'),
        ('é" ,\n', 'parse error on line 1, column 3: bare " in non-quoted-field'),
        ('a\n"x"y\n', 'parse error on line 2, column 3: extraneous or missing " in quoted-field'),
        ('"\r\n', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
        ('a\n"x\ny"z\n', "record on line 2; parse error on line 3, column 2: "),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(CsvError) as caught:
        list(read_csv(text))
    assert str(caught.value).startswith(error)


def test_what_comes_before_an_error_is_read() -> None:
    records = read_csv('a\nb"\n')
    assert next(records).fields == ["a"]
    with pytest.raises(CsvError):
        next(records)


def test_width() -> None:
    check_width(Record(1, ["a", "b"]), 2)
    with pytest.raises(CsvError, match="record on line 7: wrong number of fields"):
        check_width(Record(7, ["a"]), 2)
