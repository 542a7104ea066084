#!/usr/bin/env python3
"""Measure ourselves beside what the machine and plain Python cost, as ratios in one run.

usage: bench/run.py [NAME…] [--n N] [--reps R] [--reflow CMD] [--json FILE]

NAMEs: start immediate process sandbox inputs docker warm why check compr memory (default: all that can run
here). Each row says what was measured, the floor, their ratio and the limit that we hold ourselves to. Floors
are taken in the same minute as the figure. ``warm`` needs `pyfloor` of ``../shared/bench`` (or below
``REFLOW_SHARED``).
Everything happens below a temporary directory with a fresh ``HOME``. Wait five minutes after many files were
deleted on its file system, also by this program: ext4 without a journal is slower so long.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("REFLOW_SHARED", ROOT.parent / "shared"))
IMAGE = "ubuntu"


@dataclass(frozen=True)
class Row:
    """One figure. ``ours`` and ``floor`` are in the row's unit; the ratio is what counts."""

    name: str
    what: str
    unit: str
    ours: float
    floor: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours / self.floor if self.floor else float("inf")


class Bench:
    """Where and with what to measure."""

    def __init__(self, reflow: list[str], home: Path, n: int, reps: int) -> None:
        self.reflow = reflow
        self.home = home
        self.n = n
        self.reps = reps
        self.env = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "REFLOW"))
        }
        self.env["HOME"] = str(home)

    def fresh(self) -> Path:
        """A new directory with a new home below it."""
        work = Path(tempfile.mkdtemp(dir=self.home))
        self.env["HOME"] = str(work / "home")
        (work / "home").mkdir()
        return work

    def seconds(self, argv: list[str], cwd: Path | None = None) -> float:
        """Wall time of one run of a command, which must succeed."""
        start = time.perf_counter()
        done = subprocess.run(argv, cwd=cwd, env=self.env, capture_output=True, check=False)
        took = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{shlex.join(argv)} exited with {done.returncode}:\n{done.stderr.decode()[-2000:]}")
        return took

    def pair(self, ours: Callable[[], float], floor: Callable[[], float], reps: int) -> tuple[float, float]:
        """Medians of two measurements taken in turns."""
        taken = [(ours(), floor()) for _ in range(reps)]
        return statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken)


def fan_program(n: int, command: str) -> str:
    """N independent execs."""
    head = f'exec(image := "{IMAGE}", cpu := 1, mem := 32*MiB) (out file)'
    return (
        f'func one(i int) = {head} {{" {command} > {{{{out}}}} "}}\n'
        f"val Main = [one(i) | i <- range(0, {n})]\n"
    )


def start(bench: Bench) -> Iterator[Row]:
    """The version command, beside an interpreter that does nothing."""
    python = [sys.executable, "-c", "pass"]
    bench.fresh()
    ours, floor = bench.pair(
        lambda: bench.seconds([*bench.reflow, "version"]), lambda: bench.seconds(python), 15
    )
    yield Row("start", "reflow version / python -c pass", "ms", ours * 1e3, floor * 1e3, 2)


def immediate(bench: Bench) -> Iterator[Row]:
    """A program whose Main is a value already."""
    work = bench.fresh()
    (work / "wf.rf").write_text("val Main = 1\n")
    python = [sys.executable, "-c", "pass"]
    ours, floor = bench.pair(
        lambda: bench.seconds([*bench.reflow, "run", "wf.rf"], work), lambda: bench.seconds(python), 15
    )
    yield Row("immediate", "run of an immediate Main / python -c pass", "ms", ours * 1e3, floor * 1e3, 16)


def spawn_floor(n: int, env: dict[str, str]) -> float:
    """Seconds per `bash -c :`, two at a time."""
    bash = shutil.which("bash") or "/bin/bash"
    begin = time.perf_counter()
    flying = 0
    for _ in range(n):
        if flying == 2:
            os.waitpid(-1, 0)
            flying -= 1
        os.posix_spawn(bash, ["bash", "-c", ":"], env)
        flying += 1
    for _ in range(flying):
        os.waitpid(-1, 0)
    return (time.perf_counter() - begin) / n


def process(bench: Bench) -> Iterator[Row]:
    """Trivial execs without containers, two in flight."""
    n = bench.n

    def ours() -> float:
        work = bench.fresh()
        (work / "wf.rf").write_text(fan_program(n, "echo {{i}}"))
        return bench.seconds([*bench.reflow, "run", "-executor", "process", "wf.rf"], work) / n

    took, floor = bench.pair(ours, lambda: spawn_floor(n, bench.env), bench.reps)
    yield Row(
        "process", f"one of {n} trivial execs / posix_spawn bash -c :", "ms", took * 1e3, floor * 1e3, 5
    )


def image_archive(bench: Bench) -> Path | None:
    """The image as a file; None, and said so, when sandboxes cannot be measured here."""
    archive = bench.home / "image.tar"
    try:
        subprocess.run(["docker", "save", "-o", str(archive), IMAGE], capture_output=True, check=True)
        subprocess.run(["bwrap", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as err:
        print(f"sandbox: no bubblewrap, or no image {IMAGE}: not measured ({err})")
        return None
    return archive


def sandbox(bench: Bench) -> Iterator[Row]:
    """Trivial execs in sandboxes, two in flight; the image is unpacked already."""
    archive = image_archive(bench)
    if archive is None:
        return
    n = bench.n

    def ours() -> float:
        work = bench.fresh()
        bench.seconds([*bench.reflow, "images", "-load", str(archive)])
        (work / "wf.rf").write_text(fan_program(n, "echo {{i}}"))
        return bench.seconds([*bench.reflow, "run", "-executor", "sandbox", "wf.rf"], work) / n

    took, floor = bench.pair(ours, lambda: spawn_floor(n, bench.env), bench.reps)
    yield Row(
        "sandbox", f"one of {n} execs in sandboxes / posix_spawn bash -c :", "ms", took * 1e3, floor * 1e3, 7
    )


def inputs_program(files: int, execs: int) -> str:
    """A directory of files, and execs that have it as input."""
    head = f'exec(image := "{IMAGE}", cpu := 1, mem := 32*MiB)'
    return (
        f'val d = {head} (out dir) {{" cd {{{{out}}}}; for i in $(seq {files}); do echo $i > $i; done "}}\n'
        f'func one(i int) = {head} (out file) {{" : {{{{d}}}}; echo {{{{i}}}} > {{{{out}}}} "}}\n'
        f"val Main = [one(i) | i <- range(0, {execs})]\n"
    )


def inputs(bench: Bench) -> Iterator[Row]:
    """One more exec that has 2 000 input files, beside one that has 2."""
    archive = image_archive(bench)
    if archive is None:
        return
    few, many = 1, 41

    def one_more(executor: str, files: int) -> float:
        took = []
        for execs in (few, many):
            work = bench.fresh()
            bench.seconds([*bench.reflow, "images", "-load", str(archive)])
            (work / "wf.rf").write_text(inputs_program(files, execs))
            took.append(bench.seconds([*bench.reflow, "run", "-executor", executor, "wf.rf"], work))
        return (took[1] - took[0]) / (many - few)

    for executor in ("sandbox", "docker"):
        ours, floor = bench.pair(
            lambda executor=executor: one_more(executor, 2000),  # type: ignore[misc]
            lambda executor=executor: one_more(executor, 2),  # type: ignore[misc]
            bench.reps,
        )
        what = f"one more {executor} exec with 2 000 input files / with 2"
        yield Row("inputs", what, "ms", ours * 1e3, floor * 1e3, 2)


DOCKER_FLOOR = """
import sys, time, concurrent.futures as cf
import docker
n, jobs, image = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
api = docker.from_env().api
def one(i):
    shell = ["/bin/bash", "-e", "-l", "-o", "pipefail", "-c", f"echo {i}"]
    host = api.create_host_config(network_mode="host")
    made = api.create_container(image, entrypoint=shell, host_config=host)
    api.start(made["Id"])
    api.wait(made["Id"])
    api.remove_container(made["Id"])
begin = time.perf_counter()
with cf.ThreadPoolExecutor(jobs) as pool:
    list(pool.map(one, range(n)))
print(time.perf_counter() - begin)
"""


def docker(bench: Bench) -> Iterator[Row]:
    """Trivial execs in containers, beside a bare loop over the SDK."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        print(f"docker: no daemon, or no image {IMAGE}: not measured")
        return
    n, jobs = 50, len(os.sched_getaffinity(0))

    def ours() -> float:
        work = bench.fresh()
        (work / "wf.rf").write_text(fan_program(n, "echo {{i}}"))
        return bench.seconds([*bench.reflow, "run", "-executor", "docker", "wf.rf"], work) / n

    def floor() -> float:
        argv = [sys.executable, "-c", DOCKER_FLOOR, str(n), str(jobs), IMAGE]
        done = subprocess.run(argv, env=bench.env, capture_output=True, check=True, text=True)
        return float(done.stdout) / n

    took, base = bench.pair(ours, floor, bench.reps)
    yield Row(
        "docker", f"one of {n} execs / SDK create+start+wait+remove", "ms", took * 1e3, base * 1e3, 1.15
    )


def warm(bench: Bench) -> Iterator[Row]:
    """W2: nothing changed, beside `pyfloor`."""
    script = SHARED / "bench" / "floors" / "pyfloor.py"
    if not script.exists():
        print(f"warm: no {script}: not measured")
        return
    for n, limit in ((1000, 8.0), (10000, 25.0)):
        work = bench.fresh()
        (work / "in").mkdir()
        for i in range(n):
            (work / "in" / f"{i}.txt").write_text(f"line {i}\n")
        (work / "wf.rf").write_text(warm_program(n))
        ours = [*bench.reflow, "run", "-executor", "process", "-json", "-out", "result", "wf.rf"]
        floor = [sys.executable, str(script), "fan", str(n), "2"]
        bench.seconds(floor, work)
        bench.seconds(ours, work)
        took, base = bench.pair(
            lambda ours=ours, work=work: bench.seconds(ours, work),  # type: ignore[misc]
            lambda floor=floor, work=work: bench.seconds(floor, work),  # type: ignore[misc]
            bench.reps,
        )
        yield Row("warm", f"W2, N={n}, nothing changed / pyfloor", "ms", took * 1e3, base * 1e3, limit)


def warm_program(n: int) -> str:
    """The program of W1 and W2: N local files, one exec each, and a gather."""
    files = ",\n".join(f'file("in/{i}.txt")' for i in range(n))
    head = f'exec(image := "{IMAGE}", cpu := 1, mem := 32*MiB) (out file)'
    return (
        f"val inputs = [\n{files},\n]\n"
        f'func one(inp file) = {head} {{" read -r x < {{{{inp}}}}; echo "$x" > {{{{out}}}} "}}\n'
        f'func gather(fs [file]) = {head} {{" cat {{{{fs}}}} > {{{{out}}}} "}}\n'
        "@requires(cpu := 1)\nval Main = gather([one(f) | f <- inputs])\n"
    )


RECORDING = """
import os, sys, time
from reflow.runtime import runner
record, spent = runner.record_run, [0.0, 0.0]
async def measured(*facts):
    began = time.process_time(), time.perf_counter()
    await record(*facts)
    spent[:] = time.process_time() - began[0], time.perf_counter() - began[1]
runner.record_run = measured
leave, began_s = os._exit, time.perf_counter()
def report(status):
    with open(os.environ["SPENT"], "w") as out:
        print(time.process_time(), time.perf_counter() - began_s, *spent, file=out)
    leave(status)
os._exit = report
from reflow.cli.main import main
main()
"""
"""The command; when it ends it notes its processor time and wall time, and what recording took of both."""


def why(bench: Bench) -> Iterator[Row]:
    """What recording why things ran costs a run, the first one and when nothing changed.

    Both figures are of the same run (with it, and less what it took): two runs differ by more than it costs.
    """
    n = bench.n
    command = [sys.executable, "-c", RECORDING, "run", "-executor", "process", "wf.rf"]
    taken: dict[str, list[list[float]]] = {"W1": [], "W2": []}
    for _ in range(bench.reps):
        work = bench.fresh()
        (work / "in").mkdir()
        for i in range(n):
            (work / "in" / f"{i}.txt").write_text(f"line {i}\n")
        (work / "wf.rf").write_text(warm_program(n))
        bench.env["SPENT"] = str(work / "spent")
        for name in ("W1", "W2"):
            bench.seconds(command, work)
            taken[name].append([float(word) for word in (work / "spent").read_text().split()])
    for name, rows in taken.items():
        for kind, total, part in (("processor time", 0, 2), ("wall time", 1, 3)):
            # The run whose share is the median one.
            row = sorted(rows, key=lambda row: row[part] / row[total])[len(rows) // 2]
            with_s, without_s = row[total], row[total] - row[part]
            what = f"{name}, N={n}, {kind} with recording / without"
            yield Row("why", what, "ms", with_s * 1e3, without_s * 1e3, 1.02)


def peak_kib(argv: list[str], cwd: Path, env: dict[str, str]) -> int:
    """Peak resident set of one command, in KiB."""
    code = (
        "import os,resource,subprocess,sys;"
        "r=subprocess.Popen(sys.argv[1:],stdout=-3,stderr=-3);_,s,u=os.wait4(r.pid,0);"
        "print(u.ru_maxrss);sys.exit(os.waitstatus_to_exitcode(s))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=cwd, env=env, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def memory(bench: Bench) -> Iterator[Row]:
    """Growth of the resident set from 1 000 to 50 000 execs, per node (exec, and coercion of its value)."""
    peaks = {}
    for n in (1000, 50000):
        work = bench.fresh()
        (work / "wf.rf").write_text(fan_program(n, "echo {{i}}"))
        peaks[n] = peak_kib([*bench.reflow, "run", "-executor", "process", "wf.rf"], work, bench.env)
    growth = (peaks[50000] - peaks[1000]) / (2 * 49000)
    yield Row("memory", "growth of RSS per node, 1 000 to 50 000 execs / 1 KiB", "KiB", growth, 1.0, 3)


def front_program(k: int) -> str:
    """W8: k functions and k calls."""
    lines = [
        f'func t{i}(inp file, n int, tag string) = exec(image := "x", cpu := 1, mem := 32*MiB) (out file) '
        f'{{" cat {{{{inp}}}} | head -n {{{{n}}}} > {{{{out}}}}; echo {{{{tag}}}} "}}\n'
        for i in range(k)
    ]
    body = "".join(f'\tx{i + 1} := t{i}(x{i}, {i}+1, "x{i}")\n' for i in range(k))
    return "".join(lines) + f'\nval Main = {{\n\tx0 := file("in/0.txt")\n{body}\tx{k}\n}}\n'


def check(bench: Bench) -> Iterator[Row]:
    """W8: `check` at first sight and again, beside an interpreter that does nothing."""
    python = [sys.executable, "-c", "pass"]
    for k, first_s, again_s in ((500, 0.5, 0.3), (2000, 2.0, 0.3), (10000, 6.0, 1.5)):
        work = bench.fresh()
        (work / "wf.rf").write_text(front_program(k))
        argv = [*bench.reflow, "check", "wf.rf"]
        floor = min(bench.seconds(python) for _ in range(5))
        first = bench.seconds(argv, work)
        again = min(bench.seconds(argv, work) for _ in range(3))
        yield Row(
            "check",
            f"W8, {2 * k} lines, first sight / python -c pass",
            "ms",
            first * 1e3,
            floor * 1e3,
            first_s / floor,
        )
        yield Row(
            "check",
            f"W8, {2 * k} lines, seen before / python -c pass",
            "ms",
            again * 1e3,
            floor * 1e3,
            again_s / floor,
        )


def compr(bench: Bench) -> Iterator[Row]:
    """A pure function over 100 000 numbers."""
    work = bench.fresh()
    (work / "wf.rf").write_text("func f(x int) = x * 2 + 1\nval Main = len([f(x) | x <- range(0, 100000)])\n")
    floor = min(bench.seconds([sys.executable, "-c", "pass"]) for _ in range(5))
    took = min(bench.seconds([*bench.reflow, "run", "wf.rf"], work) for _ in range(3))
    yield Row(
        "compr", "[f(x) | x <- range(0, 100000)] / python -c pass", "ms", took * 1e3, floor * 1e3, 1.5 / floor
    )


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    each.__name__: each
    for each in (start, immediate, process, sandbox, inputs, docker, warm, why, check, compr, memory)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to take: {' '.join(ROWS)}")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--reflow", default=str(ROOT / ".venv" / "bin" / "reflow"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in ROWS]
    if unknown:
        parser.error(f"no row named {', '.join(unknown)}; there are {' '.join(ROWS)}")
    print("| row | what | ours | floor | ratio | limit | |\n|---|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory(prefix="reflow-bench-") as home:
        bench = Bench(shlex.split(args.reflow), Path(home), args.n, args.reps)
        for name in args.names or ROWS:
            for row in ROWS[name](bench):
                verdict = "ok" if row.ratio <= row.limit else "OVER"
                figures = f"{row.ours:.2f} {row.unit} | {row.floor:.2f} {row.unit} | {row.ratio:.2f}"
                print(f"| {row.name} | {row.what} | {figures} | {row.limit:.2f} | {verdict} |", flush=True)
                if args.json:
                    with args.json.open("a") as out:
                        out.write(json.dumps({**row.__dict__, "ratio": row.ratio}) + "\n")


if __name__ == "__main__":
    main()
