"""A source as large as is allowed: checked in time, in memory, and quickly when it was seen before."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 4 << 20


def check(path: str, cpu_s: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))

    argv = [sys.executable, "-m", "reflow", "check", path]
    done = subprocess.run(argv, stderr=subprocess.PIPE, preexec_fn=limit, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize(
    ("head", "line", "tail"),
    [
        ("", 'val A%d = [1, 2 * 3, len("text")]\n', ""),
        ("val A = len([", "%d, ", "0])\n"),
        ("", "// %d\n", "val A = 1\n"),
    ],
    ids=["lines", "one line", "comments"],
)
def test_a_source_just_below_the_limit(here: Path, head: str, line: str, tail: str) -> None:
    count = (LIMIT_BYTES - 1000) // len(line % 100_000)
    text = head + "".join([line % n for n in range(count)]) + tail
    assert LIMIT_BYTES * 3 // 4 < len(text) < LIMIT_BYTES
    Path("m.rf").write_text(text)
    check("m.rf", 30)


def test_a_module_seen_before_is_not_looked_through_again(here: Path) -> None:
    exec_text = 'exec(image := "x", mem := GiB) (out file) {" head -n {{n}} {{f}} > {{out}} "}'
    functions = [f"func t{n}(f file, n int) = {exec_text}\n" for n in range(2000)]
    calls = [f"\tx{n + 1} := t{n}(x{n}, {n})\n" for n in range(2000)]
    Path("m.rf").write_text(
        "".join(functions) + 'val Main = {\n\tx0 := file("a")\n' + "".join(calls) + "\tx2000\n}\n"
    )
    check("m.rf", 10)
    started_s = time.monotonic()
    before = os.times()
    check("m.rf", 10)
    after = os.times()
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert used_s < 0.5, f"{used_s} s of CPU, {time.monotonic() - started_s} s in all"
