"""Regular expressions, against answers of Go's ``regexp``."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.lang.diagnostic import EvalError
from reflow.lang.regex import Regex, compile_regex, split_template
from tests.gotables import raw, table

ROWS = table("regexp")


@pytest.mark.parametrize("row", [row for row in ROWS if "error" in row], ids=lambda row: row["pattern"])
def test_an_expression_that_go_refuses_is_refused_with_its_text(row: dict[str, Any]) -> None:
    with pytest.raises(EvalError) as caught:
        Regex(raw(row["pattern"]))
    assert str(caught.value) == row["error"]


@pytest.mark.parametrize("row", [row for row in ROWS if "error" not in row], ids=lambda row: row["pattern"])
def test_the_first_match_and_replacements_are_those_of_go(row: dict[str, Any]) -> None:
    regex = Regex(raw(row["pattern"]))
    text = raw(row["text"])
    groups = regex.find(text)
    assert groups == (None if row["groups"] is None else [raw(each) for each in row["groups"]])
    assert regex.is_match(text) == (row["groups"] is not None)
    assert regex.replace_all(text, raw(row["template"])) == raw(row["replaced"])


def test_an_expression_is_compiled_once() -> None:
    assert compile_regex(b"a+") is compile_regex(b"a+")


@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        (b"a$1b", [b"a", "1b", b""]),
        (b"${1}b", [b"", 1, b"b"]),
        (b"$$", [b"", b"$", b""]),
        (b"$01", [b"", "01", b""]),
        (b"${x", [b"", b"$", b"{x"]),
        (b"$1234567890", [b"", "1234567890", b""]),
    ],
)
def test_a_template_is_split_as_go_splits_it(template: bytes, pieces: list[object]) -> None:
    assert split_template(template) == pieces


def test_a_huge_expression_is_refused_and_not_a_crash() -> None:
    with pytest.raises(EvalError, match="expression too large"):
        Regex(rb"\pL{1000}" * 40)
