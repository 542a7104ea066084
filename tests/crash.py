"""Executors whose process is killed in the midst of an exec."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig
from reflow.flow.data import LocalFile
from tests.execs import Door, Ground

ROOT = Path(__file__).parents[1]

_CODE = "from tests.crash import main; main()"
_READY = b"ready\n"
_PATIENCE_S = 60.0


def crashed(ground: Ground, config: ExecConfig, *, until: str = "printed") -> tuple[Digest, bytes]:
    """Start an exec in a process that is killed then; the exec's id, and the first line that it printed.

    It is killed when the exec has ``printed`` a line, has ``started``, has been ``concluded``, when its
    first output (of more than one) is an object (``installing``), or while it waits for room (``held``).
    """
    id = Digest.random()
    words = [
        sys.executable,
        "-c",
        _CODE,
        str(ground.base),
        str(ground.localdir),
        ground.name,
        id.hex(),
        until,
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(pickle.dumps(config))
        child.stdin.close()
        alarm = threading.Timer(_PATIENCE_S, child.kill)
        alarm.start()
        line = child.stdout.readline()
        assert child.stdout.readline() == _READY
        child.send_signal(signal.SIGKILL)
        alarm.cancel()
    return id, line


def main() -> None:
    """Be the process that is killed."""
    base, localdir, name, id, until = sys.argv[1:]
    ground = Ground(Path(base), name, localdir=Path(localdir))
    asyncio.run(_run(ground, Digest.parse(id), pickle.load(sys.stdin.buffer), until))


async def _run(ground: Ground, id: Digest, config: ExecConfig, until: str) -> None:
    paths = [str(path) for path in (ground.base / "user").rglob("*")]
    await ground.inputs.hash_all([LocalFile(path, os.stat(path)) for path in paths])
    await ground.executor.start()
    if until == "installing":
        _stop_after_install(ground)
    if until == "held":
        door = Door(is_open=False)
        putting = asyncio.ensure_future(ground.executor.put(id, config, None, door))
        await door.asked.wait()
        _say_ready(b"\n")
        await putting
    running = await ground.executor.put(id, config)
    line = b"\n"
    if until == "concluded":
        await running.wait()
    if until not in ("started", "installing"):
        async for chunk in running.logs(stdout=True, stderr=False, follow=True):
            line = chunk.split(b"\n")[0] + b"\n"
            break
    if until != "installing":
        _say_ready(line)
    await asyncio.sleep(600)


def _stop_after_install(ground: Ground) -> None:
    install = ground.repository.install

    def stop(path: str, *, keep: bool = False) -> object:
        install(path, keep=keep)
        printed = [each for each in ground.localdir.rglob("*stdout") if each.stat().st_size]
        _say_ready(printed[0].read_bytes())
        time.sleep(600)
        raise AssertionError("it was to be killed")

    ground.repository.install = stop  # type: ignore[method-assign, assignment]


def _say_ready(line: bytes) -> None:
    sys.stdout.buffer.write(line + _READY)
    sys.stdout.buffer.flush()
