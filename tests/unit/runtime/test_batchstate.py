"""What is remembered of a batch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.runtime.batchfile import BatchError
from reflow.runtime.batchstate import (
    BatchEntry,
    BatchLock,
    is_batch_locked,
    read_entries,
    write_entries,
)
from reflow.runtime.runstate import Phase, RunFiles, StateFile

ID = Digest.of_text("batch")


def entry(id: str = "1", **changes: object) -> BatchEntry:
    made = BatchEntry(
        id, "p.rf", {"x": "1"}, ["-y=2"], Digest.of_text(f"run {id}"), Digest.of_text("sources")
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def ended(id: str, error: ReflowError | None = None) -> BatchEntry:
    made = entry(id)
    made.state.phase = Phase.DONE
    made.state.created = datetime(2026, 1, 2, tzinfo=UTC)
    made.state.result = "" if error else "val"
    made.state.error = error
    return made


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    base = str(tmp_path / "state")
    failed = ended("2", ReflowError(Kind.DOCKER_EXEC, "exec", "x", cause="exited with code 1"))
    write_entries(base, ID, {"2": failed, "1": ended("1"), "3": entry("3")})
    document = json.loads(Path(f"{base}.json").read_text())
    assert document["ID"] == str(ID)
    assert list(document["Runs"]) == ["1", "2", "3"]
    assert document["Runs"]["3"]["State"] is None
    found = read_entries(f"{base}.json")
    assert found["1"].state.result == "val"
    assert str(found["2"].state.error) == str(failed.state.error)
    assert found["3"].run_id == entry("3").run_id
    assert not found["3"].has_begun
    assert all(found[id].is_same(entry(id)) for id in "123")
    write_entries(base, ID, {})
    assert read_entries(f"{base}.json") == {}
    assert json.loads(Path(f"{base}.bak").read_text()) == document


def test_no_list_is_an_empty_one(tmp_path: Path) -> None:
    assert read_entries(str(tmp_path / "state.json")) == {}


def test_the_original_s_list_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    row = {"ID": "a", "Program": "p.rf", "Args": {"x": "1"}, "Argv": [], "RunID": str(ID), "Status": {}}
    path.write_text(json.dumps({"ID": str(ID), "Runs": {"a": row, "b": None}}))
    (found,) = read_entries(str(path)).values()
    assert (found.id, found.run_id, found.sources) == ("a", ID, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Runs": {"a": {}}}', '{"Runs": {"a": {"ID": 1}}}'])
def test_a_damaged_list_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(BatchError, match="is damaged"):
        read_entries(str(path))


def test_what_makes_a_run_another_one() -> None:
    assert entry().is_same(entry())
    assert entry().is_same(entry(sources=None))
    for name, value in (
        ("params", {"x": "2"}),
        ("argv", []),
        ("program", "q.rf"),
        ("sources", Digest.of_text("edited")),
    ):
        assert not entry().is_same(entry(**{name: value}))


def test_what_was_interrupted_is_not_settled() -> None:
    assert ended("1").is_settled
    assert ended("1", ReflowError(Kind.OTHER, cause="x")).is_settled
    assert not ended("1", ReflowError(Kind.CANCELED, cause="interrupted")).is_settled
    running = ended("1")
    running.state.phase = Phase.EVAL
    assert not running.is_settled
    assert running.has_begun


def test_the_run_s_own_state_is_newer(reflow_home: Path) -> None:
    (reflow_home / "runs").mkdir(parents=True)
    listed, own = entry(), ended("1")
    file = StateFile(RunFiles.of(str(reflow_home / "runs"), own.run_id))
    file.save(own.state)
    file.close()
    listed.read_own_state()
    assert listed.state.phase is Phase.DONE
    other = ended("2")
    other.read_own_state()
    assert other.state.result == "val"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    base = str(tmp_path / "state")
    assert not is_batch_locked(base)
    lock = BatchLock(base)
    assert is_batch_locked(base)
    with pytest.raises(BatchError, match="another process does this batch now"):
        BatchLock(base)
    lock.close()
    assert not is_batch_locked(base)
    BatchLock(base).close()
