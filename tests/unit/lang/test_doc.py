"""Documentation: wrapping, and the text of modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reflow.lang.doc import doc_text, system_modules_text
from reflow.lang.session import Session
from reflow.lang.wrap import wrap
from tests.gotables import table


@pytest.mark.parametrize("row", table("wrap"), ids=lambda row: repr(row["text"][:20]))
def test_text_is_wrapped_as_by_the_original(row: dict[str, Any]) -> None:
    assert "".join([f"    {line}\n" for line in wrap(row["text"], 80)]) == row["wrapped"]


def test_parameters_come_first_then_aliases_then_values(tmp_path: Path) -> None:
    path = tmp_path / "m.rf"
    path.write_text(
        "// How many.\nparam n int\nparam s = {a: 1 + 2, f: func(x int) => x}\n"
        "val b = 1\n// B is exported.\nval B = b + n\n// T is a type.\ntype T [int]\nval Main = s\n"
    )
    assert doc_text(Session().open(str(path))) == (
        "Parameters\n\n"
        "val n int (required)\n    How many.\n"
        "val s {a int, f func(x int) int} = {a:1 + 2, f:<func>)\n"
        "\nDeclarations\n\n"
        "type T [int]\n    T is a type.\n\n"
        "val B int\n    B is exported.\n\n"
        "val Main {a int, f func(x int) int}\n\n"
    )


def test_system_modules_are_listed_by_name() -> None:
    lines = system_modules_text().splitlines()
    assert lines[1:] == sorted(lines[1:])
    assert "\t$/strings" in lines


def test_an_alias_that_is_declared_twice_is_shown_as_it_was_each_time(tmp_path: Path) -> None:
    path = tmp_path / "m.rf"
    path.write_text('type T int\nval A T = 1\ntype T string\nval B T = "two"\n')
    text = doc_text(Session().open(str(path)))
    assert [line for line in text.splitlines() if line.startswith("type")] == ["type T int", "type T string"]
