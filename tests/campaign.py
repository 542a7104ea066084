"""Runs of the real command that are killed at random moments, and what must hold afterwards.

Commands tell a `Counter` when they begin, over the loopback network, which they have under every executor.
"""

from __future__ import annotations

import collections
import hashlib
import os
import random
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.command import Workspace
from tests.execs import IMAGES

PROGRAM = """
param port = 0
func step(name int, deps [file]) = exec(image := "ubuntu", cpu := 1, mem := 16*MiB) (out file) {{"
    echo {{{{name}}}} > /dev/tcp/127.0.0.1/{{{{port}}}}
    sleep 0.0$((RANDOM % {pause}))
    cat {{{{deps}}}} /dev/null | cksum > {{{{out}}}}
    echo {{{{name}}}} >> {{{{out}}}}
"}}
val first = [step(i, []) | i <- range(0, {third})]
val second = [step(1000 + i, first) | i <- range(0, {third})]
val third = [step(2000 + i, second) | i <- range(0, {third} - 1)]
val Main = step(3000, third)
"""
"""Execs in three layers, each of which needs all of the layer before."""


class Counter:
    """Counts the lines that are sent to ``port``."""

    def __init__(self) -> None:
        self.lines: collections.Counter[str] = collections.Counter()
        counter = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    counter.lines[line.decode().strip()] += 1

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @contextmanager
    def listening(self) -> Iterator[Counter]:
        """Listen meanwhile."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def again(self) -> dict[str, int]:
        """What was sent more than once."""
        return {line: count for line, count in self.lines.items() if count > 1}


class Outcome(NamedTuple):
    """What came of a campaign: how often a run was killed, and how many execs that were begun began again."""

    kills: int
    chains: int
    begun_again: int


class Campaign:
    """Kills runs of one program under one executor."""

    def __init__(self, root: Path, executor: str, counter: Counter, *, execs: int, seed: int) -> None:
        self._root = root
        self._executor = executor
        self._counter = counter
        self._text = PROGRAM.format(third=execs // 3, pause=6)
        self._execs = execs // 3 * 3
        self._random = random.Random(seed)
        self._made = 0

    def run(self, kills: int, chain: int) -> Outcome:
        """Kill so often: run after run is killed, up to ``chain`` times, and then one goes on to the end."""
        begin_s = time.monotonic()
        work = self._workspace()
        want = self._to_the_end(work)
        usual_s = time.monotonic() - begin_s
        done = chains = again = 0
        while done < kills:
            work = self._workspace()
            self._counter.lines.clear()
            for _ in range(min(chain, kills - done)):
                if not self._is_killed(work, self._random.uniform(0.2, usual_s)):
                    break
                done += 1
            assert self._to_the_end(work) == want
            chains += 1
            again += len(self._counter.again())
            assert len(self._counter.lines) == self._execs, self._counter.lines
            check_nothing_is_left(work)
            if self._executor == "docker":
                assert containers_of(work.state / "local") == []
        return Outcome(done, chains, again)

    def _workspace(self) -> Workspace:
        self._made += 1
        root = self._root / f"{self._executor}-{self._made}"
        root.mkdir()
        work = Workspace(root)
        share_images(work)
        work.write("p.rf", self._text)
        return work

    def _words(self) -> list[str]:
        return ["run", "-executor", self._executor, "p.rf", "-port", str(self._counter.port)]

    def _to_the_end(self, work: Workspace) -> str:
        return work.reflow(*self._words()).ok().out

    def _is_killed(self, work: Workspace, after_s: float) -> bool:
        """Kill a run after a while; False when it has ended by itself before."""
        run = work.start(*self._words())
        try:
            run.communicate(timeout=after_s)
            return False
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            return True


def share_images(work: Workspace) -> None:
    """Let a workspace have the images that tests have unpacked already."""
    IMAGES.mkdir(exist_ok=True)
    work.state.mkdir(exist_ok=True)
    (work.state / "images").symlink_to(IMAGES)


def check_nothing_is_left(work: Workspace) -> None:
    """Assert that objects are what they are called, and that no exec has left anything on this machine."""
    repository = work.state / "repository"
    for path in repository.glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.name, path
    assert list((repository / "damaged").glob("*")) == []
    local = work.state / "local"
    for name in ("execs", "results", "spare"):
        assert list((local / name).iterdir()) == [], name
    deadline_s = time.monotonic() + 10  # a launcher ends a moment after its last exec
    while (found := processes_of(local)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert found == []
    assert str(local) not in Path("/proc/mounts").read_text()


def containers_of(local: Path) -> list[str]:
    """Ids of the containers of a local directory."""
    words = ["docker", "ps", "-aq", "--filter", f"label=reflow-localdir={local}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def processes_of(local: Path) -> list[str]:
    """Command lines of the processes that have something of a local directory open, or in their words."""
    mark = os.fsencode(local)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            used = [os.readlink(each) for each in (process / "fd").iterdir()]
            if mark in words or mark in (process / "environ").read_bytes() or _is_below(used, local):
                found.append(words.replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


def _is_below(paths: list[str], directory: Path) -> bool:
    return any(path.startswith(f"{directory}/") for path in paths)
