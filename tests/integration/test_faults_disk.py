"""A full disk at every stage of a run: it is named, nothing is half-written, and a run with room succeeds."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Done, Workspace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")

PROGRAM = """
param size = "10"
param filled = "/dev/null"
val up = exec(image := "ubuntu") (out file) {"
	head -c 100000000 /dev/zero 2> /dev/null > {{filled}} || true
	head -c {{size}} /dev/zero > {{out}}
"}
val Main = exec(image := "ubuntu") (out file) {" cat {{up}} > {{out}}; echo end >> {{out}} "}
"""
LARGE = "20000000"


class Full:
    """A file system of 4 MiB at a place of a workspace."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self.place / "filler", "wb", buffering=0) as stream:
            try:
                while stream.write(bytes(1 << 16)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Have room enough."""
        (self.place / "filler").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=200m", str(self.place)], check=True)

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.write("p.rf", PROGRAM)
    return made


@pytest.fixture
def small(work: Workspace) -> Iterator[Full]:
    full = Full(work.dir / "small")
    yield full
    full.unmount()


def configure(work: Workspace, text: str) -> None:
    work.state.mkdir(parents=True, exist_ok=True)
    (work.state / "config.yaml").write_text(text)


def run(work: Workspace, *words: str, size: str = "10") -> Done:
    words = words if "p.rf" in words else (*words, "p.rf")
    return work.reflow("run", "-executor", "process", "-json", *words, "-size", size)


def assert_whole(repository: Path) -> None:
    """Every object is what its name says, and nothing unfinished is left."""
    for path in repository.rglob("*"):
        if path.is_file() and path.name != "filler":
            name = path.parent.name + path.name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == name, path


def entries(work: Workspace) -> int:
    with sqlite3.connect(work.state / "assoc.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM assoc").fetchone()
    return int(count)


def test_disk_full_before_an_exec_can_be_set_up(work: Workspace, small: Full) -> None:
    small.fill()
    run(work, "-localdir", str(small.place / "local")).failed("o space left on device", str(small.place))
    assert_whole(work.state / "repository")
    small.free()
    assert run(work, "-localdir", str(small.place / "local")).ok().json["executed"] == 2


def test_disk_full_while_an_exec_runs(work: Workspace, small: Full) -> None:
    local = str(small.place / "local")
    run(work, "-localdir", local, size=LARGE).failed("o space left on device")
    assert entries(work) == 0
    assert_whole(work.state / "repository")
    small.free()
    assert run(work, "-localdir", local, size=LARGE).ok().json["executed"] == 2


def test_disk_full_while_outputs_are_installed(work: Workspace, small: Full) -> None:
    repository = small.place / "objects"
    configure(work, f"repository: file,dir={repository}\n")
    run(work, size=LARGE).failed("o space left on device", str(small.place))
    assert entries(work) == 0
    assert_whole(repository)
    small.free()
    assert run(work, size=LARGE).ok().json["executed"] == 2
    assert_whole(repository)


def test_disk_full_while_the_index_is_written_loses_entries_only(work: Workspace, small: Full) -> None:
    configure(work, f"assoc: sqlite,file={small.place}/assoc.db\n")
    done = run(work, "p.rf", "-filled", str(small.place / "filler")).ok()
    assert "cache writes failed: they are not in the cache, and will be computed again" in done.err
    assert "o space left on device" in done.err
    again = run(work)
    assert f"{small.place}/assoc.db: resources exhausted" in again.err
    assert "Traceback" not in again.err
    small.free()
    assert run(work).ok().json["executed"] == 2
    assert run(work).ok().json["executed"] == 0


def test_disk_full_while_the_record_is_written_is_said_and_does_no_harm(work: Workspace, small: Full) -> None:
    configure(work, f"taskdb: sqlite,file={small.place}/taskdb.db\n")
    done = run(work, "p.rf", "-filled", str(small.place / "filler")).ok()
    assert done.err.count("this run is not recorded") == 1
    again = run(work, "p.rf", "-filled", str(small.place / "filler"))
    assert f"{small.place}/taskdb.db: resources exhausted" in again.err
    assert "Traceback" not in again.err
    small.free()
    assert run(work, "p.rf", "-filled", str(small.place / "filler")).ok().json["executed"] == 0
    work.reflow("ps", "-a").ok()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_disk_full_where_logs_and_states_of_runs_are(work: Workspace, when: str) -> None:
    full = Full(work.state / "runs")
    filler = str(full.place / "filler")
    try:
        if when == "before":
            full.fill()
        done = run(work, "p.rf", "-filled", filler)
        assert "Traceback" not in done.err
        assert "o space left on device" in done.err
        full.free()
        run(work).ok()
        assert run(work).ok().json["executed"] == 0
        work.reflow("ps", "-a").ok()
    finally:
        full.unmount()


def test_disk_full_where_results_are_placed_leaves_the_old_ones(work: Workspace, small: Full) -> None:
    out = small.place / "result"
    run(work, "-out", str(out)).ok()
    before = out.read_bytes()
    run(work, "-out", str(out), size=LARGE).failed("o space left on device", str(out))
    assert out.read_bytes() == before
    assert os.listdir(small.place) == ["result"]
    small.free()
    assert run(work, "-out", str(out), size=LARGE).ok().json["executed"] == 0
    assert out.stat().st_size == int(LARGE) + len("end\n")
