#!/usr/bin/env python3
"""Measure a run whose execs are all in a shared cache: S3 and DynamoDB at the endpoints of the environment.

usage: bench/cached.py [--n N] [--reps R] [--executor NAME] [--reflow CMD] [--json FILE]

N execs (200) are computed once; then runs that find them take turns with the floor: the same look-ups and
checks of files, made by boto3 in as many threads. ``warm`` is on the machine that computed them, ``fresh`` on
one that has nothing of its own. Medians of wall clock and CPU of the whole command, in seconds, and ratios.
Buckets and tables are made, and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reflow.aws.tables import ASSOC, TASKDB, Table, creation

THREADS = 32


class Shared:
    """Buckets and tables of this bench's own."""

    def __init__(self) -> None:
        import botocore.session

        session = botocore.session.get_session()
        self.s3 = session.create_client("s3")
        self.dynamodb = session.create_client("dynamodb")
        self.region = session.get_config_variable("region")
        self.name = f"bench-{secrets.token_hex(6)}"

    def make(self) -> None:
        more = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3.create_bucket(Bucket=self.name, **({} if self.region == "us-east-1" else more))
        for kind, name in ((ASSOC, "assoc"), (TASKDB, "taskdb")):
            self._make_table(kind, f"{self.name}-{name}")

    def _make_table(self, kind: Table, name: str) -> None:
        self.dynamodb.create_table(**{key: value for key, value in creation(kind, name).items() if value})
        self.dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})

    def remove(self) -> None:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            for each in page.get("Contents", ()):
                self.s3.delete_object(Bucket=self.name, Key=each["Key"])
        self.s3.delete_bucket(Bucket=self.name)
        for name in ("assoc", "taskdb"):
            self.dynamodb.delete_table(TableName=f"{self.name}-{name}")

    def config(self) -> str:
        return (
            f"repository: s3,bucket={self.name}\nassoc: dynamodbassoc,table={self.name}-assoc\n"
            f"taskdb: dynamodbtask,table={self.name}-taskdb,bucket={self.name}\n"
        )


def floor(bucket: str, table: str, keys: list[str], files: list[str]) -> None:
    """Look keys up and check files, with boto3; run in a process of its own."""
    import botocore.session
    from botocore.config import Config

    config = Config(max_pool_connections=THREADS)
    session = botocore.session.get_session()
    s3, dynamodb = (
        session.create_client("s3", config=config),
        session.create_client("dynamodb", config=config),
    )

    def look(part: list[str]) -> None:
        dynamodb.batch_get_item(RequestItems={table: {"Keys": [{"ID": {"S": key}} for key in part]}})

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(look, [keys[start : start + 100] for start in range(0, len(keys), 100)]))
        list(threads.map(lambda key: s3.head_object(Bucket=bucket, Key=key), files))


def program(n: int) -> str:
    """So many execs that nobody has run."""
    nonce = secrets.token_hex(8)
    calls = ", ".join(f"f({number})" for number in range(n))
    return (
        'func f(i int) = exec(image := "ubuntu", cpu := 0.1, mem := 10<<20) (out file) '
        f'{{" echo {nonce} {{{{i}}}} > {{{{out}}}} "}}\nval Main = [{calls}]\n'
    )


@contextmanager
def machine(root: Path, config: str) -> Iterator[dict[str, str]]:
    """The environment of a machine that has nothing of its own."""
    home = Path(tempfile.mkdtemp(dir=root))
    (home / ".reflow").mkdir()
    (home / ".reflow" / "config.yaml").write_text(config)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "REFLOW"))}
    yield {**kept, "HOME": str(home), "REFLOW_REGISTRY": "127.0.0.1:1"}
    shutil.rmtree(home, ignore_errors=True)


def timed(argv: list[str], cwd: Path, env: dict[str, str]) -> tuple[float, float, str]:
    """Wall clock and CPU in seconds, and the last line of what a command prints."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{shlex.join(argv)} failed:\n{done.stderr}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, done.stdout.splitlines()[-1] if done.stdout else ""


def measure(options: argparse.Namespace, shared: Shared, root: Path) -> dict[str, dict[str, float]]:
    work = root / "work"
    work.mkdir()
    (work / "p.rf").write_text(program(options.n))
    run = [*shlex.split(options.reflow), "run", "-executor", options.executor, "-json", "p.rf"]
    taken: dict[str, list[tuple[float, float, str]]] = {"warm": [], "fresh": [], "floor": []}
    with machine(root, shared.config()) as first:
        timed(run, work, first)
        table = f"{shared.name}-assoc"
        keys = [each["ID"]["S"] for each in shared.dynamodb.scan(TableName=table)["Items"]]
        pages = shared.s3.get_paginator("list_objects_v2").paginate(Bucket=shared.name)
        names = [each["Key"] for page in pages for each in page["Contents"]][: options.n]
        request = root / "floor.json"
        request.write_text(json.dumps([shared.name, table, keys, names]))
        for _ in range(options.reps):
            taken["warm"].append(_found(timed(run, work, first), options.n))
            with machine(root, shared.config()) as other:
                taken["fresh"].append(_found(timed(run, work, other), options.n))
            taken["floor"].append(timed([sys.executable, __file__, "--floor", str(request)], work, first))
    return {
        name: {
            "wall_s": statistics.median(w for w, _, _ in rows),
            "cpu_s": statistics.median(c for _, c, _ in rows),
        }
        for name, rows in taken.items()
    }


def _found(row: tuple[float, float, str], n: int) -> tuple[float, float, str]:
    outcome: dict[str, Any] = json.loads(row[2])
    assert (outcome["executed"], outcome["cached"]) == (0, n), outcome
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--executor", default="docker")
    parser.add_argument("--reflow", default=f"{sys.executable} -m reflow")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--floor", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor is not None:
        return floor(*json.loads(options.floor.read_text()))
    shared, root = Shared(), Path(tempfile.mkdtemp(prefix="reflow-bench-"))
    shared.make()
    try:
        found = measure(options, shared, root)
    finally:
        shared.remove()
        shutil.rmtree(root, ignore_errors=True)
    for name, row in found.items():
        ratio = row["wall_s"] / found["floor"]["wall_s"]
        print(
            f"{name:6} {row['wall_s']:6.2f} s wall {row['cpu_s']:6.2f} s CPU {ratio:6.2f} of the floor's wall"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
