"""What was found before stays found: programs that took too long, too much memory, or said too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.invariants import check_text, outcome_of_program

KEPT = sorted((Path(__file__).parents[1] / "data" / "fuzz").iterdir())


@pytest.mark.timeout(30)
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_was_found(path: Path) -> None:
    source = path.read_bytes()
    check_text(source.decode("utf-8", "surrogateescape"))
    assert len(outcome_of_program({"main.rf": source})) < 200_000
