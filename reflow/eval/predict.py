"""How much memory tasks get, and how long they take: from what was seen of others like them.

All decisions are pure. `reflow.runtime.predictor` reads the profiles that they are made from.
Source: predictor/predictor.go; flow/eval.go, reviseResources, capMemory, oomAdjust.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from reflow.core.execconfig import Profile
from reflow.core.resources import Resources
from reflow.eval.attempt import CAP_TOLERANCE, MIN_EXEC, OOM_FACTOR, OOM_MEM_LIMIT_BYTES

MAX_SEEN_MEM_BYTES = float(4 << 40)
"""No machine has more: what is said to have used more is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorConfig:
    """From how many profiles at least and at most, and at which percentile of memory, predictions are made.

    ``always`` makes predictions off EC2 too. Raises ValueError for what cannot be.
    """

    min_data: int = 5
    max_inspect: int = 50
    mem_percentile: float = 95.0
    always: bool = False

    def __post_init__(self) -> None:
        if self.min_data < 1:
            raise ValueError(f"mindata {self.min_data} is less than 1")
        if self.max_inspect < self.min_data:
            raise ValueError(f"maxinspect {self.max_inspect} is less than mindata {self.min_data}")
        if not 0 <= self.mem_percentile <= 100:
            raise ValueError(f"mempercentile {self.mem_percentile} is not between 0 and 100")


class Estimate(NamedTuple):
    """A percentile, and of how many values."""

    value: float
    number: int


def percentile(values: Iterable[float], percent: float) -> Estimate:
    """The value that ``percent`` of all are not above; 0 of none."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return Estimate(0.0, 0)
    index = min(count - 1, max(0, math.ceil(count * percent / 100 - 1)))
    return Estimate(ordered[index], count)


def peak_mem(profile: Profile) -> float | None:
    """The most memory used, in bytes, if that is known and credible."""
    entry = profile.get("mem")
    if entry is None or not 0 <= entry.max <= MAX_SEEN_MEM_BYTES:
        return None
    return entry.max


def length_ns(profile: Profile) -> int | None:
    """The longest time any gauge was watched, in nanoseconds."""
    longest = max(
        [
            entry.last - entry.first
            for entry in profile.values()
            if entry.first is not None and entry.last is not None
        ],
        default=timedelta(),
    )
    return longest // timedelta(microseconds=1) * 1000 if longest > timedelta() else None


def mem_percentile(profiles: Iterable[Profile], percent: float) -> Estimate:
    """A percentile of the memory used."""
    return percentile([mem for mem in map(peak_mem, profiles) if mem is not None], percent)


def duration_percentile(profiles: Iterable[Profile], percent: float) -> Estimate:
    """A percentile of run times, in nanoseconds."""
    return percentile([length for length in map(length_ns, profiles) if length is not None], percent)


class Prediction(NamedTuple):
    """What a task will use and how long it will run, as far as can be told."""

    mem_bytes: float
    duration_ns: int


def shortage_text(count: int, needed: int, what: str = "profiles") -> str:
    """Why nothing is predicted."""
    return f"insufficient {what} ({count} < {needed})"


def predict(profiles: Sequence[Profile], config: PredictorConfig) -> Prediction | str:
    """Predict from profiles, or say why not. A duration of 0 is an unknown one."""
    longest = duration_percentile(profiles, 100)
    mem = mem_percentile(profiles, config.mem_percentile)
    if mem.number < config.min_data:
        return shortage_text(mem.number, config.min_data)
    return Prediction(mem.value, int(longest.value) if longest.number >= config.min_data else 0)


# What a task is submitted with.


def with_prediction(reserved: Resources, prediction: Prediction) -> Resources:
    """What is asked for a task whose use was predicted."""
    return Resources({**reserved, "mem": max(prediction.mem_bytes, MIN_EXEC["mem"])})


def after_oom(specified: Resources, used: Resources) -> Resources:
    """What is asked for a task that ran out of memory: what its program says, or half as much again."""
    mem = min(used.amount("mem"), OOM_MEM_LIMIT_BYTES)
    if mem < specified.amount("mem"):
        return Resources({**used, "mem": specified.amount("mem")})
    return Resources({**used, "mem": min(mem * OOM_FACTOR, OOM_MEM_LIMIT_BYTES)})


class Capped(NamedTuple):
    """What is left of a request when no more can be had. ``error`` says that it is far too much."""

    resources: Resources
    is_capped: bool
    error: str


def cap(wanted: Resources, most: Resources) -> Capped:
    """Cut memory to the most there is, when it asks for only a little more."""
    if not any(most.values()):
        return Capped(wanted, False, "")
    limit, mem = most.amount("mem"), wanted.amount("mem")
    if mem > limit * CAP_TOLERANCE:
        return Capped(wanted, False, f"resources {wanted} are way higher than max {most}")
    if mem <= limit:
        return Capped(wanted, False, "")
    return Capped(Resources({**wanted, "mem": limit}), wanted != most, "")
