"""Sandboxes where they do not work, or only in part: ordinary users, no overlays, old programs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.executor import sandbox
from reflow.executor.sandbox_spawn import Launcher
from tests import sandboxes
from tests.execs import OUT, Ground

pytestmark = pytest.mark.sandbox

ORDINARY_TESTS = (
    "objects_are_inputs or users_files or surroundings or beside_inputs or moved_to_an_output or links_to"
    " or write_to_an_input or unwritable or fails_the_exec or remove_kills or memory_limits or followed"
    " or inspect_tells or close_with_kill or any_name or a_signal_is_named"
    " or still_runs or ended_meanwhile or nobody_wants or takes_outputs or outputs_of_survivors"
)


async def test_an_overlay_that_cannot_be_mounted_is_done_without(
    overlaid: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    real = Launcher.launch

    def launch(self: Launcher, job: sandbox.Job, fds: Sequence[int]) -> object:
        nonlocal tried
        tried += 1
        cell, root, overlays, *rest = job
        bare_root = None if root is None else (*root[:2], [])  # without layers it is refused
        return real(self, (cell, bare_root, [(*each[:2], []) for each in overlays], *rest), fds)

    monkeypatch.setattr(Launcher, "launch", launch)
    file = await overlaid.object(b"x" * 900_000)
    got = await overlaid.output("cat %s | wc -c > %s; (echo x > /etc/x) 2>/dev/null || true", file, OUT)
    assert got == b"900000\n"
    assert tried == 3


def test_an_ordinary_user_has_sandboxes_too() -> None:
    suites = [f"tests/conformance/test_{name}.py" for name in ("executor", "executor_ending", "recovery")]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *suites]
    argv = sandboxes.python(*words, "-k", f"sandbox and ({ORDINARY_TESTS})")
    done = sandboxes.run(sandboxes.as_ordinary_user(argv), timeout_s=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


ABOUT = """
import asyncio, json, sys, tempfile
from pathlib import Path
from tests.crash import crashed
from tests.execs import OUT, Ground, command

async def main():
    with tempfile.TemporaryDirectory() as base:
        ground = Ground(Path(base), "sandbox")
        await ground.executor.start()
        text = await ground.output("(id -u; id -g; touch /usr/x && echo writable) > %s", OUT)
        await ground.executor.close()
        print(json.dumps([ground.executor._launcher.way, text.decode()]))

asyncio.run(main())
"""


def test_an_ordinary_user_has_overlays_and_stays_who_they_are() -> None:
    done = sandboxes.run(sandboxes.as_ordinary_user(sandboxes.python("-c", ABOUT)))
    assert done.returncode == 0, done.stderr
    way, text = json.loads(done.stdout)
    uid = os.geteuid() or 60001
    assert way == "user"
    assert text == f"{uid}\n{os.getegid() if os.geteuid() else 60001}\nwritable\n"


START = """
import asyncio, sys, tempfile
from pathlib import Path
from reflow.core.errors import ReflowError
from tests.crash import crashed
from tests.execs import Ground

async def main():
    with tempfile.TemporaryDirectory() as base:
        ground = Ground(Path(base), "sandbox")
        try:
            await ground.executor.start()
        except ReflowError as err:
            print(err.kind.name, str(err.cause))
        await ground.executor.close()

asyncio.run(main())
"""


def test_a_ban_of_user_namespaces_is_found_and_explained() -> None:
    done = sandboxes.run(sandboxes.under_a_ban(sandboxes.python("-c", START)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PRECONDITION bubblewrap does not work here: ")
    assert "user namespaces are banned: user.max_user_namespaces is 0" in done.stdout
    assert "administrator" in done.stdout


OLD = """#!/bin/sh
for word; do
    case $word in --size|--perms) echo "bwrap: Unknown option $word" >&2; exit 1;; esac
done
exec {real} "$@"
"""


async def test_an_older_bubblewrap_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("bwrap")
    old = tmp_path / "bin/bwrap"
    old.parent.mkdir()
    old.write_text(OLD.format(real=real))
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert await ground.output("echo x > /dev/shm/x; cat /dev/shm/x > %s", OUT) == b"x\n"
    await ground.executor.close()


async def test_a_bubblewrap_that_is_too_old_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text('#!/bin/sh\necho "bwrap: Unknown option --json-status-fd" >&2; exit 1\n')
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ground = Ground(tmp_path, "sandbox")
    with pytest.raises(ReflowError, match="Unknown option --json-status-fd: it is too old"):
        await ground.executor.start()
    await ground.executor.close()


async def test_a_missing_bubblewrap_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ground = Ground(tmp_path, "sandbox")
    with pytest.raises(ReflowError, match=r"bubblewrap .*was not found on PATH") as caught:
        await ground.executor.start()
    assert caught.value.kind is Kind.PRECONDITION
    await ground.executor.close()
