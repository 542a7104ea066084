"""Objects of the final result that are lost or damaged before ``-out`` has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from reflow.core.digest import Digest
from tests import servers
from tests.awsaccount import new_bucket
from tests.command import Done, Workspace
from tests.integration.test_faults import corrupt

PROGRAM = """
val one = exec(image := "ubuntu", cpu := 1) (out file) {" echo one > {{out}} "}
val two = exec(image := "ubuntu", cpu := 1) (out file) {"
	echo two > {{out}}
	AFTER
"}
val Main = {one: one, two: two}
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    write(made, "")
    return made


def write(work: Workspace, after: str) -> None:
    work.write("p.rf", PROGRAM.replace("AFTER", after))


def run(work: Workspace, *flags: str) -> Done:
    return work.reflow("run", "-executor", "process", "-json", "-out", "result", *flags, "p.rf")


def path_of(work: Workspace, content: bytes = b"one\n") -> Path:
    name = Digest.of(content).hex()
    return work.state / "repository" / name[:2] / name[2:]


def placed(work: Workspace) -> dict[str, str]:
    """What is there; nothing else may have been left beside it."""
    assert [path.name for path in work.dir.iterdir() if path.name.startswith(".reflow-out")] == []
    assert list(work.dir.glob("result.*")) == []
    return {path.name: path.read_text() for path in (work.dir / "result").iterdir()}


RIGHT = {"one": "one\n", "two": "two\n"}


def test_corruption_that_looks_right_is_found_before_the_result_is_placed(work: Workspace) -> None:
    run(work).ok()
    corrupt(path_of(work), silently=True)
    done = run(work, "-postusechecksum").ok()
    assert placed(work) == RIGHT
    assert (done.json["executed"], done.json["failed"]) == (1, 0)
    assert "its contents are those of" in done.err
    assert "set aside as" in done.err
    (aside,) = (work.state / "repository/damaged").iterdir()
    assert aside.read_bytes() != b"one\n"
    assert run(work, "-postusechecksum").ok().json["executed"] == 0


def test_an_object_that_goes_away_before_it_is_placed_is_computed_again(work: Workspace) -> None:
    run(work).ok()
    write(work, f"rm -f {path_of(work)}")
    done = run(work).ok()
    assert placed(work) == RIGHT
    assert (done.json["executed"], done.json["failed"]) == (2, 0)
    assert "an object went away while the run needed it" in done.err


def test_half_an_object_with_the_right_time_is_never_placed(work: Workspace) -> None:
    run(work).ok()
    path = path_of(work)
    write(
        work,
        f"f={path}; touch -r $f {work.dir}/time; chmod u+w $f; printf o > $f; touch -r {work.dir}/time $f",
    )
    done = run(work).ok()
    assert placed(work) == RIGHT
    assert (done.json["executed"], done.json["failed"]) == (2, 0)
    assert "its size is not what it was; set aside as" in done.err


def test_an_object_that_goes_away_again_and_again_fails_the_run_and_the_old_result_stays(
    work: Workspace,
) -> None:
    run(work).ok()
    text = (work.dir / "p.rf").read_text().replace("echo one", "echo first")
    path = path_of(work, b"first\n")
    remove = f"until test -e {path}; do sleep 0.02; done; rm -f {path}; date +%N >> {{{{out}}}}"
    work.write("p.rf", text.replace("echo two > {{out}}", f"echo two > {{{{out}}}}\n\t{remove}"))
    done = run(work, "-invalidate=two").failed("inputs.locate")
    assert done.json["error"]["kind"] == "NotExist"
    assert done.err.count("marking run for retry") == 3
    assert placed(work) == RIGHT


# A result that only the shared repository has.


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    servers.use(monkeypatch)
    with new_bucket(boto3.client("s3"), "results") as name:
        yield name


def machine(root: Path, name: str, bucket: str) -> Workspace:
    """One that shares the bucket, and the index, with the others."""
    (root / name).mkdir()
    work = Workspace(root / name)
    work.env |= servers.environment()
    write(work, "")
    work.state.mkdir()
    config = f"repository: s3,bucket={bucket}\nassoc: sqlite,file={root}/shared.db\n"
    (work.state / "config.yaml").write_text(config)
    return work


def counts(work: Workspace) -> tuple[int, int]:
    done = work.reflow("run", "-executor", "docker", "-json", "-out", "result", "p.rf").ok()
    assert placed(work) == RIGHT
    return done.json["executed"], done.json["cached"]


@pytest.mark.s3
@pytest.mark.docker
@pytest.mark.parametrize("what", ["object", "value"])
def test_corruption_in_the_shared_repository_is_computed_again_and_replaced(
    tmp_path: Path, bucket: str, what: str
) -> None:
    assert counts(machine(tmp_path, "a", bucket)) == (2, 0)
    client = boto3.client("s3")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
    name = Digest.of(b"one\n").hex()
    with sqlite3.connect(tmp_path / "shared.db") as connection:
        values = {bytes(row[0]).hex() for row in connection.execute("SELECT value_v2 FROM assoc")}
    bad = [key for key in keys if (name in key if what == "object" else any(each in key for each in values))]
    assert len(bad) == (1 if what == "object" else 2)
    for key in bad:
        size = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        client.put_object(Bucket=bucket, Key=key, Body=b"!" * size)
    assert counts(machine(tmp_path, "b", bucket)) == ((1, 1) if what == "object" else (2, 0))
    assert counts(machine(tmp_path, "c", bucket)) == (0, 2)


@pytest.mark.s3
@pytest.mark.docker
def test_a_result_that_another_machine_has_made_is_fetched_and_placed(tmp_path: Path, bucket: str) -> None:
    assert counts(machine(tmp_path, "a", bucket)) == (2, 0)
    assert counts(machine(tmp_path, "b", bucket)) == (0, 2)
