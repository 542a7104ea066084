"""Programs for the verbs that look at, or tidy up, what is on this machine; and a place to try them."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from pathlib import Path

from tests.command import Done, Workspace
from tests.waiting import wait_until

TWO = """
param who = "world"
val a = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	echo hello {{who}} > {{out}}
"}
val b = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out dir) {"
	cp {{a}} {{out}}/one
	echo two > {{out}}/two
"}
val Main = b
"""
ONE_SHA = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447"
LONG = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.5) (out file) {"
	echo hi > $HOME/greeting
	echo begin
	sleep 600
"}
"""
FAIL = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	echo left > $HOME/behind
	exit 3
"}
"""


class Verbs(Workspace):
    """A working directory with programs, and what to do with them."""

    executor = "process"

    def run(self, *words: str) -> Done:
        return self.reflow("run", "-executor", self.executor, *words)

    def keys(self, *words: str) -> dict[str, list[str]]:
        """The cache keys of each exec, as the log of a run shows them."""
        err = self.run(*words).ok().err
        pattern = r"^reflow: (\w+\.\w+) \w{8} .*\n\tresources: .*\n((?:\tsha256:\w{64}\n)+)"
        blocks = re.findall(pattern, err, re.MULTILINE)
        return {ident: text.split() for ident, text in blocks}

    def sql(self, name: str, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Change, or ask, one of the databases."""
        connection = sqlite3.connect(self.state / name)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def start_long(self) -> tuple[subprocess.Popen[str], str]:
        """A run whose exec has begun, and the name of the exec."""
        process = self.start("run", "-executor", self.executor, "long.rf")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in self.reflow("list", "-a").ok().out.splitlines():
                if line.startswith("exec") and " running " in line:
                    return process, line.split()[-1]
            time.sleep(0.1)
        process.kill()
        raise AssertionError(process.communicate())


def workspace(root: Path) -> Verbs:
    """A place with the programs."""
    made = Verbs(root)
    made.env.update(USER="tester", TZ="UTC")
    made.write("two.rf", TWO)
    made.write("long.rf", LONG)
    made.write("fail.rf", FAIL)
    return made


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and stderr of a process that ends by itself."""
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, err


def wait_for(path: Path) -> None:
    """Return when a file is there."""
    wait_until(path.exists)
