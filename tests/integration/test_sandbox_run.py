"""Runs of the command: docker and sandbox agree, and ``auto`` decides as it should and says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import sandboxes
from tests.command import Done, Workspace
from tests.imagetars import Made, serve
from tests.processes import new_doze, processes_with
from tests.registry import Registry, running_registry

ROOT = Path(__file__).resolve().parents[2]

HELLO = """
val Main = exec(image := "ubuntu", cpu := 1) (out file) {" echo hello > {{out}} "}
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.write("hello.rf", HELLO)
    return made


def run(work: Workspace, *words: str, prefix: Sequence[str] = (), **env: str) -> Done:
    """Run ``reflow run WORDS``, perhaps by way of another program."""
    argv = [*prefix, *work.argv("run", *words)]
    done = subprocess.run(
        argv, cwd=work.dir, env={**work.env, **env}, capture_output=True, text=True, timeout=240, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def executor_line(done: Done) -> str:
    """What the run says about its executor."""
    (line,) = [line for line in done.err.splitlines() if line.startswith("reflow: executor: ")]
    return line.removeprefix("reflow: executor: ")


# Docker and sandbox agree.


@pytest.mark.docker
@pytest.mark.sandbox
@pytest.mark.slow
def test_docker_and_sandbox_agree_byte_by_byte_on_the_align_example(tmp_path: Path) -> None:
    reads = os.environ.get("REFLOW_TEST_READS")
    if not reads:
        pytest.skip("REFLOW_TEST_READS does not name a directory made by reads-up")
    results = {}
    for name in ("docker", "sandbox"):
        (tmp_path / name).mkdir()
        work = Workspace(tmp_path / name)
        shutil.copy(Path(reads) / "ref.fa.gz", work.dir)
        shutil.copy(ROOT / "examples" / "align.rf", work.dir)
        (work.dir / "reads").mkdir()
        for mate in (1, 2):
            shutil.copy(Path(reads) / f"reads_{mate}.fq.gz", work.dir / "reads" / f"one_{mate}.fq.gz")
        words = ["-executor", name, "-json", "-out", "result", "align.rf"]
        done = run(work, *words, "-fasta", "ref.fa.gz", "-reads", "reads").ok()
        assert (done.json["executed"], done.json["failed"]) == (5, 0)
        results[name] = (done.json["result"], tree(work.dir / "result"), cached(work))
    assert results["docker"] == results["sandbox"]


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def cached(work: Workspace) -> set[tuple[object, ...]]:
    """Keys and values of the cache, but for the rows that tell of runs."""
    with sqlite3.connect(work.state / "assoc.db") as database:
        columns = [row[1] for row in database.execute("pragma table_info(assoc)")]
        rows = database.execute(f"select {', '.join(columns[:3])} from assoc where {columns[1]} is null")
        found = set(rows.fetchall())
    database.close()
    assert found
    return found


@pytest.mark.docker
@pytest.mark.sandbox
def test_they_share_one_cache(work: Workspace) -> None:
    first = run(work, "-executor", "docker", "-json", "hello.rf").ok().json
    second = run(work, "-executor", "sandbox", "-json", "hello.rf").ok().json
    assert (first["executed"], second["executed"], second["cached"]) == (1, 0, 1)
    assert first["result"] == second["result"]


@pytest.mark.sandbox
def test_what_the_daemon_is_needed_for_is_refused(work: Workspace) -> None:
    work.write("docker.rf", HELLO.replace('"ubuntu"', '"ubuntu$docker"'))
    run(work, "-executor", "sandbox", "docker.rf").failed("$docker", "-executor docker")


@pytest.mark.sandbox
def test_a_failed_exec_is_kept_and_shown(work: Workspace) -> None:
    work.write("bad.rf", HELLO.replace("echo hello", "echo Error: no luck >&2; exit 3; echo"))
    done = run(work, "-executor", "sandbox", "bad.rf").failed("exited with code 3", "Error: no luck")
    (kept,) = (work.state / "local/execs").iterdir()
    assert str(kept) in done.err
    assert (kept / "stderr").read_text() == "Error: no luck\n"


# What ``auto`` decides.


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment where there is neither a daemon nor a registry."""
    return {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "REFLOW_REGISTRY": "127.0.0.1:1"}


@pytest.fixture
def without_bubblewrap(tmp_path: Path) -> str:
    """A PATH with what scripts and processes need, but for bubblewrap."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "cat", "echo", "env", "sh"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    return str(programs)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "ubuntu.tar"
    subprocess.run(["docker", "save", "-o", str(path), "ubuntu"], check=True)
    return path


@pytest.mark.docker
def test_docker_only(work: Workspace, without_bubblewrap: str) -> None:
    done = run(work, "hello.rf", PATH=without_bubblewrap).ok()
    assert executor_line(done) == "docker (its daemon answers at /var/run/docker.sock)"


@pytest.mark.docker
@pytest.mark.sandbox
def test_both(work: Workspace) -> None:
    assert executor_line(run(work, "hello.rf").ok()).startswith("docker (")


@pytest.mark.docker
@pytest.mark.sandbox
def test_bubblewrap_only_with_the_image_at_hand(
    work: Workspace, archive: Path, nowhere: dict[str, str]
) -> None:
    work.reflow("images", "-load", str(archive)).ok()
    done = run(work, "hello.rf", **nowhere).ok()
    assert executor_line(done) == (
        f"sandbox (docker: no daemon at {nowhere['DOCKER_HOST'].removeprefix('unix://')}; bubblewrap works)"
    )
    assert "images are ignored" not in done.err


@pytest.mark.sandbox
def test_bubblewrap_only_without_the_image(work: Workspace, nowhere: dict[str, str]) -> None:
    done = run(work, "hello.rf", **nowhere).ok()
    line = executor_line(done)
    assert line.startswith("process (docker: no daemon at ")
    assert "sandbox: image ubuntu is not unpacked here, and cannot be had (" in line
    assert "images are ignored (ubuntu)" in done.err


@pytest.mark.sandbox
def test_bubblewrap_only_with_an_image_that_needs_the_daemon(
    work: Workspace, nowhere: dict[str, str]
) -> None:
    work.write("docker.rf", HELLO.replace('"ubuntu"', '"ubuntu$docker"'))
    line = executor_line(run(work, "docker.rf", **nowhere).ok())
    assert "it asks for the docker daemon ($docker)" in line


@pytest.mark.docker
@pytest.mark.sandbox
def test_bubblewrap_only_with_a_registry(work: Workspace, archive: Path, nowhere: dict[str, str]) -> None:
    with running_registry() as registry:
        serve_ubuntu(registry, archive)
        env = {**nowhere, "REFLOW_REGISTRY": registry.host}
        done = run(work, "hello.rf", **env).ok()
        assert executor_line(done).startswith("sandbox (docker: no daemon at ")
    again = run(work, "-invalidate", ".*", "-json", "hello.rf", **nowhere).ok()
    assert executor_line(again).startswith("sandbox ("), "the image is at hand now"
    assert again.json["executed"] == 1


def serve_ubuntu(registry: Registry, archive: Path) -> None:
    """Let a registry have ubuntu, as the daemon saved it."""
    with tarfile.open(archive) as files:

        def read(name: str) -> bytes:
            member = files.extractfile(name)
            assert member is not None
            return member.read()

        (row,) = json.loads(read("manifest.json"))
        settings = json.loads(read(row["Config"]))["config"]
        layers = [read(name) for name in row["Layers"]]
        image = Made(layers, how=["tar"] * len(layers), settings=settings)
    serve(registry, image, "library/ubuntu")


def test_neither(work: Workspace, nowhere: dict[str, str], without_bubblewrap: str) -> None:
    done = run(work, "hello.rf", PATH=without_bubblewrap, **nowhere).ok()
    assert executor_line(done) == (
        f"process (docker: no daemon at {nowhere['DOCKER_HOST'].removeprefix('unix://')};"
        " sandbox: bubblewrap (bwrap) was not found on PATH)"
    )


@pytest.mark.docker
@pytest.mark.sandbox
def test_a_ban_of_user_namespaces(work: Workspace, archive: Path, nowhere: dict[str, str]) -> None:
    work.reflow("images", "-load", str(archive)).ok()
    done = run(work, "hello.rf", prefix=sandboxes.under_a_ban([]), **nowhere).ok()
    line = executor_line(done)
    assert line.startswith("process (docker: no daemon at ")
    assert "user namespaces are banned: user.max_user_namespaces is 0" in line
    named = run(work, "-executor", "sandbox", "hello.rf", prefix=sandboxes.under_a_ban([]), **nowhere)
    named.failed("bubblewrap does not work here", "choose another executor with -executor")


def test_a_named_sandbox_never_falls_back(work: Workspace, without_bubblewrap: str) -> None:
    done = run(work, "-executor", "sandbox", "hello.rf", PATH=without_bubblewrap)
    done.failed("executor sandbox", "bubblewrap (bwrap) was not found on PATH", "-executor")


@pytest.mark.sandbox
def test_a_cached_run_needs_no_image(work: Workspace, nowhere: dict[str, str]) -> None:
    run(work, "-executor", "sandbox", "hello.rf").ok()
    shutil.rmtree(work.state / "images")
    done = run(work, "-executor", "sandbox", "-json", "hello.rf", **nowhere).ok()
    assert (done.json["executed"], done.json["cached"]) == (0, 1)


@pytest.mark.sandbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing(work: Workspace, number: signal.Signals) -> None:
    doze = new_doze()
    work.write("slow.rf", HELLO.replace("echo hello", f"setsid {doze} & {doze}; echo"))
    running = work.start("run", "-executor", "sandbox", "-json", "slow.rf")
    deadline_s = time.monotonic() + 60
    # The setsid one and the other; bash has both in its command line.
    while len(processes_with(doze)) < 3:
        assert time.monotonic() < deadline_s, running.communicate()
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, err
    assert json.loads(out.splitlines()[-1])["error"]["kind"] == "Canceled"
    assert processes_with(doze) == []
    assert processes_with(str(work.home)) == []
    assert not list((work.state / "local/execs").iterdir())
