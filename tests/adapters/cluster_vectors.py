"""Answer the cluster vectors of conformance/cluster: one JSON line in, one out. See its README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reflow.core.backoff import Backoff
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ProfileEntry
from reflow.core.resources import Requirements, Resources
from reflow.ec2cluster.catalog import Catalog, read_catalog
from reflow.ec2cluster.cost import Cost, on_demand_cost
from reflow.ec2cluster.spot import InstanceLimitError, SpotProber
from reflow.ec2cluster.status import Demand, status_text
from reflow.eval.attempt import MAX_RETRIES
from reflow.eval.predict import (
    Prediction,
    PredictorConfig,
    after_oom,
    cap,
    duration_percentile,
    mem_percentile,
    predict,
    shortage_text,
    with_prediction,
)
from reflow.sched.amounts import capacity_of, resources_of, shape_of
from reflow.sched.policy import Policy
from reflow.sched.queue import Entry, TaskQueue
from reflow.sched.requirements import requirements
from reflow.sched.step import MAX_TRIES, Step, judge, next_step
from reflow.sched.turn import Slot, Turn

Row = dict[str, Any]
_START = datetime(2020, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_BACKOFF = re.compile(r"Backoff\((\w+),(\w+),([\d.]+)\)")


def _requirements_row(wanted: Requirements) -> Row:
    return {"min": dict(wanted.minimum), "width": wanted.width, "text": str(wanted)}


# The scheduler.


def _op_requirements(given: Row) -> Row:
    runs = Counter(shape_of(task["resources"]) for task in given["tasks"])
    wanted = requirements(list(runs.items()))
    return {**_requirements_row(wanted), "max": dict(wanted.maximum())}


def _queue_of(tasks: list[Row]) -> tuple[TaskQueue, dict[Digest, str]]:
    queue, names = TaskQueue(), {}
    for task in tasks:
        key = Digest.of_text(task["id"])
        names[key] = task["id"]
        queue.push(Entry(key, shape_of(task["resources"]), task.get("priority", 0), 0.0))
    return queue, names


def _op_queue(given: Row) -> Row:
    queue, names = _queue_of(given["tasks"])
    return {"order": [names[entry.key] for entry in queue]}


def _op_turn(given: Row) -> Row:
    policy = Policy()
    queue, names = _queue_of(given["tasks"])
    ids = [alloc["id"] for alloc in given["live"]]
    live = [_slot(number, alloc) for number, alloc in enumerate(given["live"])]
    turn = Turn(queue, live, 0.0, policy)
    turn.run()
    answer: Row = {
        "assigned": {names[match.entry.key]: ids[match.slot.key] for match in turn.matches},
        "live_after": {ids[slot.key]: dict(resources_of(slot.free.items())) for slot in live},
        "request": None,
    }
    if not queue or len(given["pending"]) >= policy.max_pending:
        return answer
    pending_ids = [alloc["id"] for alloc in given["pending"]]
    promises = Turn(
        queue, [_slot(number, alloc) for number, alloc in enumerate(given["pending"])], 0.0, policy
    )
    promises.promise()
    answer["would_fit_pending"] = {
        names[match.entry.key]: pending_ids[match.slot.key] for match in promises.matches
    }
    runs = [(bucket.shape, len(bucket.entries)) for bucket in queue.buckets()]
    if runs:
        packed = requirements(runs)
        least = packed.minimum.at_least(policy.min_alloc)
        answer["request"] = _requirements_row(Requirements(least, packed.width))
    return answer


def _slot(number: int, alloc: Row) -> Slot:
    capacity = capacity_of(alloc["available"])
    return Slot(number, capacity, capacity)


def _op_execstate(given: Row) -> Row:
    step, verifies = Step(given["state"]), given["post_use_checksum"]

    def row(error: ReflowError | None, *, is_over: bool = False) -> Row:
        following = next_step(step, error, is_over=is_over, verifies=verifies)
        return {"next": following.step.value, "retry": following.is_retry}

    answer = {kind.value: row(ReflowError(kind, "step")) for kind in Kind}
    return {**answer, "ok": row(None), "context ended": row(None, is_over=True)}


def _op_outcome(given: Row) -> Row:
    error = ReflowError(Kind(given["put_fails_with"]), "put")
    step, tries, failures = Step.PUT, 0, 0
    while step is not Step.DONE and failures < MAX_TRIES:
        tries += 1
        following = next_step(step, error, is_over=False, verifies=False)
        step = following.step
        failures += following.is_retry
    verdict = judge(error, is_alloc_lost=False)
    if verdict.is_done:
        return {"outcome": "done with error", "tries": tries}
    return {"outcome": "lost, queued again", "alloc_dropped": not verdict.is_alloc_usable}


# Predictions.


def _profile(row: Row) -> dict[str, ProfileEntry]:
    return {
        name: ProfileEntry(entry["max"], -1, 0, 1, _time(entry.get("first")), _time(entry.get("last")))
        for name, entry in row.items()
    }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _START + timedelta(seconds=seconds)


def _op_percentile(given: Row) -> Row:
    profiles = [_profile(row) for row in given["profiles"]]
    estimate = {"mem": mem_percentile, "duration": duration_percentile}[given["value"]]
    value = estimate(profiles, given["percentile"])
    config = PredictorConfig(
        min_data=given["min_data"],
        max_inspect=max(given["min_data"], 50),
        mem_percentile=given["percentile"],
    )
    guess = predict(profiles, config)
    durations = duration_percentile(profiles, 100)
    is_long_known = durations.number >= config.min_data
    answer: Row = {
        "value": value.value,
        "n": value.number,
        "predicted_mem": None,
        "predicted_duration_ns": durations.value if is_long_known else 0,
    }
    if isinstance(guess, Prediction):
        assert guess.duration_ns == answer["predicted_duration_ns"]
        return {**answer, "predicted_mem": guess.mem_bytes}
    mem = mem_percentile(profiles, given["percentile"])
    assert guess == shortage_text(mem.number, config.min_data)
    return {**answer, "mem_error": guess}


def _op_oom(given: Row) -> Row:
    most = Resources(given["max_resources"] or {})
    specified, used = Resources(mem=given["specified_mem"]), Resources(mem=given["used_mem"])
    adjusted = after_oom(specified, used)
    capped = cap(adjusted, most)
    chain, end = [given["used_mem"]], "out of retries"
    for _ in range(MAX_RETRIES):
        following = cap(after_oom(specified, used), most)
        if following.error:
            end = "error: over the largest alloc"
            break
        used = following.resources
        chain.append(used["mem"])
    return {
        "adjusted_mem": adjusted["mem"],
        "submitted_mem": capped.resources["mem"],
        "capped": capped.is_capped,
        "error": bool(capped.error),
        "chain": chain,
        "chain_end": end,
    }


def _op_cap(given: Row) -> Row:
    wanted = Resources(mem=given["mem"], cpu=given["cpu"])
    capped = cap(wanted, Resources(given["max_resources"] or {}))
    floor = with_prediction(wanted, Prediction(given["mem"], 0))
    return {
        "capped": capped.is_capped,
        "error": bool(capped.error),
        "mem": capped.resources["mem"],
        "predicted_floor_mem": floor["mem"],
    }


# Arithmetic.


def _op_resources_text(given: Row) -> str:
    return str(Resources(given["a"] or {}))


def _op_resources_pair(given: Row) -> Row:
    one, other = Resources(given["a"] or {}), Resources(given["b"] or {})
    return {
        "add": dict(one + other),
        "sub": dict(one - other),
        "max": dict(one.at_least(other)),
        "min": _smaller(one, other),
        "available": one.fits(other),
        "equal": one == other,
        "distance": one.scaled_distance(other),
    }


def _smaller(one: Resources, other: Resources) -> Row:
    """The smaller amount of each; what the second one does not mention stays as it is."""
    smaller = dict(one)
    for name, amount in other.items():
        if amount < smaller.get(name, 0):
            smaller[name] = amount
    return smaller


def _op_resources_width(given: Row) -> Row:
    wanted = Requirements(Resources(given["a"]), given["width"])
    more = Resources(cpu=3.0, mem=float(1 << 30))
    return {
        "add_parallel": _requirements_row(wanted.beside(more)),
        "add_serial": _requirements_row(Requirements(wanted.minimum.at_least(more), wanted.width)),
        "max": dict(wanted.maximum()),
        "text": str(wanted),
    }


def _op_backoff(given: Row) -> Row:
    policy = _read_policy(given["policy"])
    waits = list(policy.waits_s())
    return {
        "retries": policy.retries,
        "tries": policy.retries + 1,
        "waits_s": waits,
        "jitter": policy.jitter,
        "total_s_max": sum(waits),
        "total_s_min": sum(policy.wait_s(retry, 1.0) for retry in range(policy.retries)),
    }


def _read_policy(text: str) -> Backoff:
    """Read ``MaxRetries(Jitter(Backoff(10s,30s,1.2),0.2),40)``; the jitter may stand outside, too."""
    waits = _BACKOFF.search(text)
    assert waits is not None, text
    rest = text[: waits.start()] + text[waits.end() :]
    numbers = [float(word) for word in re.findall(r"[\d.]+", rest)]
    names = re.findall(r"Jitter|MaxRetries", rest)
    outer = dict(zip(reversed(names), numbers, strict=True))
    return Backoff(
        _read_duration(waits[1]),
        _read_duration(waits[2]),
        float(waits[3]),
        int(outer["MaxRetries"]),
        outer.get("Jitter", 0.0),
    )


def _read_duration(text: str) -> float:
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def _op_cost_text(given: Row) -> Row:
    return {"exact": str(Cost(given["usd"], True)), "upper_bound": str(Cost(given["usd"]))}


def _op_cost(given: Row, catalog: Catalog) -> Row:
    cost = on_demand_cost(catalog, given["type"], given["region"], given["seconds"])
    return {"text": str(cost), "value": cost.usd or 0}


def _op_status(given: Row, catalog: Catalog) -> str:
    demand = Demand(Resources(given["waiting"] or {}), Resources(given["pending"] or {}))
    return status_text(
        catalog, given["pool"], given["region"], given["disk_gib"], demand if given["notify"] else None
    )


def _op_spotprobe(given: Row) -> Row:
    return asyncio.run(_probe(given["cloud"], given["spotprobedepth"], given["calls"]))


async def _probe(cloud: str, depth: int, calls: int) -> Row:
    asked: list[int] = []
    answer, _, bound = cloud.partition("-above-")

    async def ask(type_name: str, number: int) -> bool:
        asked.append(number)
        if answer == "yes" or (bound and number <= int(bound)):
            return True
        if answer == "limit":
            raise InstanceLimitError("InstanceLimitExceeded")
        if answer == "error":
            raise RuntimeError("boom")
        assert answer == "no", cloud
        return False

    prober = SpotProber(ask, depth, 3600.0)
    answers = []
    for _ in range(calls):
        try:
            answers.append(str(await prober.has_capacity("c5.large")).lower())
        except (InstanceLimitError, RuntimeError) as err:
            answers.append(f"error: {err}")
    return {"answers": answers, "depths_asked": asked}


_OPS: dict[str, Callable[[Row], Any]] = {
    "backoff": _op_backoff,
    "cap": _op_cap,
    "cost-text": _op_cost_text,
    "execstate": _op_execstate,
    "oom": _op_oom,
    "outcome": _op_outcome,
    "percentile": _op_percentile,
    "queue": _op_queue,
    "requirements": _op_requirements,
    "resources-pair": _op_resources_pair,
    "resources-text": _op_resources_text,
    "resources-width": _op_resources_width,
    "spotprobe": _op_spotprobe,
    "turn": _op_turn,
}
_CATALOG_OPS: dict[str, Callable[[Row, Catalog], Any]] = {"cost": _op_cost, "status": _op_status}


def answer(case: Row, catalog: Catalog) -> Any:
    """What our code makes of one case; an object with ``error`` for what it has no answer to."""
    op = case["op"]
    if op in _OPS:
        return _OPS[op](case["in"])
    if op in _CATALOG_OPS:
        return _CATALOG_OPS[op](case["in"], catalog)
    return {"error": f"no answer to {op}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", type=Path, required=True, help="the folder with catalog.jsonl")
    folder = parser.parse_args().catalog
    catalog = read_catalog((folder / "catalog.jsonl").read_text().splitlines())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), catalog)), flush=True)


if __name__ == "__main__":
    main()
