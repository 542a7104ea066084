import pytest

from reflow.core.resources import Requirements, Resources
from reflow.core.units import format_duration, format_general, format_size

GIB = 2**30


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        (Resources(), "{}"),
        (Resources(mem=GIB, cpu=1), "{mem:1.0GiB cpu:1 disk:0B}"),
        (Resources(mem=900 * GIB, cpu=2, disk=10**13), "{mem:900.0GiB cpu:2 disk:9.1TiB}"),
        (Resources(cpu=0.5, intel_avx=2, gpu=0), "{mem:0B cpu:0.5 disk:0B intel_avx:2}"),
        (Resources(gpu=1), "{ gpu:1}"),
    ],
)
def test_text(resources: Resources, text: str) -> None:
    assert str(resources) == text


def test_fits_looks_at_what_is_wanted_only() -> None:
    have = Resources(mem=2 * GIB, cpu=2)
    assert have.fits(Resources(mem=2 * GIB))
    assert not have.fits(Resources(cpu=2, gpu=1))


def test_arithmetic_and_equality_take_absent_for_zero() -> None:
    assert Resources(cpu=1) + Resources(mem=1) == Resources(cpu=1, mem=1)
    assert Resources(cpu=1) - Resources(cpu=1) == Resources()
    assert hash(Resources(cpu=0)) == hash(Resources())
    assert Resources(cpu=1).at_least(Resources(cpu=2, mem=1)) == Resources(cpu=2, mem=1)


def test_distance_ignores_disk() -> None:
    assert Resources(mem=8 * GIB, cpu=2, disk=5).scaled_distance({}) == 3


def test_the_most_that_can_be_used_grows_with_the_width() -> None:
    assert Requirements(Resources(cpu=2), 1).maximum() == Resources(cpu=4)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0KiB"), (892338176, "851.0MiB"), (2**60, "1.0EiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (4, "4s"), (124, "2m4s"), (3600, "1h0m0s"), (360000, "100h0m0s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.5, "0.5"),
        (999999, "999999"),
        (1e6, "1e+06"),
        (123456789, "1.23456789e+08"),
        (1e21, "1e+21"),
        (1e-4, "0.0001"),
        (1.5e-5, "1.5e-05"),
        (-2500000.5, "-2.5000005e+06"),
    ],
)
def test_general_numbers(value: float, text: str) -> None:
    assert format_general(value) == text


def test_requirements_beside_each_other_widen() -> None:
    need = Requirements().beside(Resources(cpu=1)).beside(Resources(cpu=2))
    assert (need.minimum, need.width, need.maximum()) == (Resources(cpu=2), 1, Resources(cpu=4))
