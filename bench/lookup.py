#!/usr/bin/env python3
"""Measure look-ups in the index: DynamoDB at the endpoint of the environment.

usage: bench/lookup.py [--n N] [--reps R] [--json FILE]

N entries (10 000) are looked up in turns: by a raw loop of BatchGetItem (boto3, as many threads and the same
attributes), by ours with no time of use to be renewed, and by ours with all of them. Medians of wall clock
and CPU in seconds, and ratios; start-up is left out. ``due`` ends when the last hit is handed out, and
``due, closed`` when the last time is renewed. A table is made, and removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reflow.assoc import Kind
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.assoc.dynamoitem import key_of
from reflow.aws.dynamodb import BATCH, CONCURRENCY, gather
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC, creation
from reflow.core.digest import Digest

Measure = tuple[float, float]


class Bench:
    """A table with ``count`` entries."""

    def __init__(self, count: int) -> None:
        import botocore.session
        from botocore.config import Config

        self.keys = [Digest.of(b"%d" % number) for number in range(count)]
        self.table = f"bench-{secrets.token_hex(6)}"
        self.session = AwsSession()
        self.client = botocore.session.get_session().create_client(
            "dynamodb", config=Config(max_pool_connections=CONCURRENCY)
        )

    async def make(self) -> None:
        self.client.create_table(**{k: v for k, v in creation(ASSOC, self.table).items() if v})
        self.client.get_waiter("table_exists").wait(TableName=self.table, WaiterConfig={"Delay": 1})
        assoc = DynamoAssoc(self.session, self.table, ["user=bench", "project=bench"])
        await assoc.put_many({(Kind.FILESET_V2, key): key for key in self.keys})
        await assoc.close()

    async def age(self) -> None:
        """Have every entry used long ago."""
        assoc = DynamoAssoc(self.session, self.table)
        request = {
            "TableName": self.table,
            "UpdateExpression": "SET LastAccessTime = :t",
            "ExpressionAttributeValues": {":t": {"N": "1600000000"}},
        }
        await gather(
            lambda key: assoc._database.call("UpdateItem", {**request, "Key": key_of(str(key))}), self.keys
        )
        await assoc.close()

    async def raw(self) -> dict[str, Measure]:
        """BatchGetItem in threads, and nothing else."""
        options: dict[str, Any] = {
            "ProjectionExpression": "ID, #v, ValueV2, LastAccessTime",
            "ExpressionAttributeNames": {"#v": "Value"},
        }

        def fetch(keys: list[Digest]) -> int:
            wanted = {self.table: {"Keys": [key_of(str(key)) for key in keys], **options}}
            count = 0
            while wanted:
                answer = self.client.batch_get_item(RequestItems=wanted)
                count += len(answer["Responses"][self.table])
                wanted = answer.get("UnprocessedKeys")
            return count

        parts = [self.keys[start : start + BATCH] for start in range(0, len(self.keys), BATCH)]
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            watch = Watch()
            assert sum(pool.map(fetch, parts)) == len(self.keys)
            return {"raw": watch.read()}

    async def ours(self, name: str) -> dict[str, Measure]:
        """A look-up as runs make it."""
        assoc = DynamoAssoc(self.session, self.table)
        await assoc.open()
        watch = Watch()
        found = await assoc.get_many([(Kind.FILESET_V2, key) for key in self.keys])
        handed_out = watch.read()
        await assoc.close()
        assert len(found) == len(self.keys)
        return {name: handed_out, f"{name}, closed": watch.read()}


class Watch:
    """Wall clock and CPU of this process, since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> Measure:
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


async def measure(bench: Bench, reps: int) -> dict[str, list[Measure]]:
    """All in turns."""
    found: dict[str, list[Measure]] = {}
    turns: list[Callable[[], Awaitable[dict[str, Measure]]]] = [
        bench.raw,
        lambda: bench.ours("fresh"),
        lambda: bench.ours("due"),
    ]
    await bench.raw()
    for _ in range(reps):
        for number, turn in enumerate(turns):
            if number == 2:
                await bench.age()
            for name, measured in (await turn()).items():
                found.setdefault(name, []).append(measured)
    return found


async def bench_all(count: int, reps: int) -> dict[str, Any]:
    bench = Bench(count)
    try:
        await bench.make()
        found = await measure(bench, reps)
    finally:
        bench.client.delete_table(TableName=bench.table)
        bench.session.close()
    return {
        name: [statistics.median([each[part] for each in found[name]]) for part in (0, 1)] for name in found
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure look-ups in the index.")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    medians = asyncio.run(bench_all(arguments.n, arguments.reps))
    for base in ("raw", "fresh"):
        for name, (wall_s, cpu_s) in medians.items():
            ratios = wall_s / medians[base][0], cpu_s / medians[base][1]
            print(
                f"{name:14} {wall_s:7.2f} s {cpu_s:7.2f} s CPU   {ratios[0]:6.2f} {ratios[1]:6.2f} x {base}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(medians) + "\n")


if __name__ == "__main__":
    main()
