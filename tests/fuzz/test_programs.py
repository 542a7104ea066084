"""Programs that are well typed, or nearly: checked, shown, loaded and evaluated, each twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import SEARCH
from tests.fuzz.invariants import outcome_of_program
from tests.fuzz.programs import ProgramWriter, SeededChoices


class DrawnChoices:
    """Decisions that hypothesis makes, so that it can make them smaller."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


def encoded(files: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}


@SEARCH
@given(st.data())
def test_small_programs(data: st.DataObject) -> None:
    files = ProgramWriter(
        DrawnChoices(data), mistakes=data.draw(st.sampled_from([0, 0, 3])), depth=1
    ).program()
    outcome_of_program(encoded(files))


@SEARCH
@given(st.integers(0, 1 << 40), st.sampled_from([0, 10, 40]), st.sampled_from([0, 0, 2]))
def test_larger_programs(seed: int, delays: int, mistakes: int) -> None:
    files = ProgramWriter(SeededChoices(seed), delays=delays, mistakes=mistakes).program()
    outcome_of_program(encoded(files))


@pytest.mark.parametrize("delays", [0, 12])
def test_most_programs_are_accepted(delays: int) -> None:
    # Else the tests above look at little but the checker's errors.
    writers = [ProgramWriter(SeededChoices(seed), delays=delays) for seed in range(100)]
    outcomes = [outcome_of_program(encoded(each.program())) for each in writers]
    assert sum(" error " not in each for each in outcomes) > 60


@SEARCH
@given(st.integers(0, 1 << 40), st.data())
def test_programs_with_a_byte_changed(seed: int, data: st.DataObject) -> None:
    source = bytearray(ProgramWriter(SeededChoices(seed), depth=2).program()["main.rf"].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(source) - 1))
        _change(source, place, data)
    outcome_of_program({"main.rf": bytes(source)})


def _change(source: bytearray, place: int, data: Any) -> None:
    match data.draw(st.sampled_from(["replace", "delete", "repeat", "shuffle"])):
        case "replace":
            source[place] = data.draw(st.integers(0, 255))
        case "delete":
            del source[place : place + data.draw(st.integers(1, 20))]
        case "repeat":
            source[place:place] = source[place : place + data.draw(st.integers(1, 40))]
        case "shuffle":
            words = bytes(source).split(b" ")
            random.Random(place).shuffle(words)
            source[:] = b" ".join(words)
    if not source:
        source += b"x"
