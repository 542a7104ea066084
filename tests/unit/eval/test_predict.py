"""Predictions from profiles, and the memory that follows from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reflow.core.execconfig import Profile, ProfileEntry
from reflow.core.resources import Resources
from reflow.eval.predict import (
    Estimate,
    Prediction,
    PredictorConfig,
    after_oom,
    cap,
    length_ns,
    peak_mem,
    percentile,
    predict,
    with_prediction,
)

GIB = float(1 << 30)
START = datetime(2026, 1, 1, tzinfo=UTC)


def a_profile(mem: float | None = GIB, seconds: float | None = 10.0) -> Profile:
    last = None if seconds is None else START + timedelta(seconds=seconds)
    entries = {"cpu": ProfileEntry(1, 1, 0, 1, START, last)}
    if mem is not None:
        entries["mem"] = ProfileEntry(mem, mem, 0, 1)
    return entries


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (10, 1), (11, 2), (50, 5), (95, 10), (99.9, 10), (100, 10)]
)
def test_percentiles(percent: float, value: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == Estimate(value, 10)


def test_the_percentile_of_nothing() -> None:
    assert percentile([], 50) == Estimate(0.0, 0)


@pytest.mark.parametrize(("mem", "seen"), [(0.0, 0.0), (-1.0, None), (5 * 1024 * GIB, None), (None, None)])
def test_memory_that_is_not_credible_is_not_counted(mem: float | None, seen: float | None) -> None:
    assert peak_mem(a_profile(mem)) == seen


@pytest.mark.parametrize(
    ("seconds", "length"), [(2.5, 2_500_000_000), (0.0, None), (None, None), (-1.0, None)]
)
def test_lengths(seconds: float | None, length: int | None) -> None:
    assert length_ns(a_profile(seconds=seconds)) == length


def test_a_prediction_is_of_a_high_percentile_and_the_longest_time() -> None:
    profiles = [a_profile(number * GIB, number) for number in range(1, 11)]
    assert predict(profiles, PredictorConfig(mem_percentile=50)) == Prediction(5 * GIB, 10_000_000_000)


def test_too_few_profiles_predict_nothing() -> None:
    profiles = [a_profile()] * 4 + [a_profile(None)]
    assert predict(profiles, PredictorConfig()) == "insufficient profiles (4 < 5)"


def test_a_duration_may_be_unknown() -> None:
    assert predict([a_profile(seconds=None)] * 5, PredictorConfig()) == Prediction(GIB, 0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"min_data": 0}, "mindata 0 is less than 1"),
        ({"max_inspect": 4}, "maxinspect 4 is less than mindata 5"),
        ({"mem_percentile": 101.0}, "mempercentile 101.0 is not between 0 and 100"),
    ],
)
def test_settings_that_cannot_be(words: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PredictorConfig(**words)  # type: ignore[arg-type]


def test_a_predicted_task_gets_half_a_gibibyte_at_least() -> None:
    reserved = Resources(mem=8 * GIB, cpu=2.0)
    assert with_prediction(reserved, Prediction(2 * GIB, 0)) == Resources(mem=2 * GIB, cpu=2.0)
    assert with_prediction(reserved, Prediction(1.0, 0)) == Resources(mem=float(500 << 20), cpu=2.0)


@pytest.mark.parametrize(("used", "then"), [(1, 8), (8, 12), (600, 800), (800, 800), (2000, 800)])
def test_memory_after_running_out_of_it(used: float, then: float) -> None:
    adjusted = after_oom(Resources(mem=8 * GIB), Resources(mem=used * GIB, cpu=3.0))
    assert adjusted == Resources(mem=then * GIB, cpu=3.0)


@pytest.mark.parametrize(
    ("mem", "capped", "is_capped", "is_error"),
    [(99, 99, False, False), (100, 100, False, False), (105, 100, True, False), (106, 106, False, True)],
)
def test_capping(mem: float, capped: float, is_capped: bool, is_error: bool) -> None:
    result = cap(Resources(mem=mem, cpu=1.0), Resources(mem=100.0, cpu=4.0))
    assert result.resources == Resources(mem=capped, cpu=1.0)
    assert (result.is_capped, bool(result.error)) == (is_capped, is_error)


def test_nothing_is_capped_when_the_most_is_not_known() -> None:
    assert cap(Resources(mem=1e15), Resources()).resources == Resources(mem=1e15)
