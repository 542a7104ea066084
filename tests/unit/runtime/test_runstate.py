from __future__ import annotations

import fcntl
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.runtime.runstate import Phase, RunFiles, RunState, StateFile, find_runs, read_state

ID = Digest.of(b"run")


def state() -> RunState:
    made = RunState(ID, "/p/x.rf", {"b": "<1>", "a": "2"}, [])
    made.created = datetime(2026, 11, 26, 1, 2, 3, 450000, tzinfo=UTC)
    return made


def test_the_state_has_the_fields_of_the_original_in_order(tmp_path: Path) -> None:
    file = StateFile(RunFiles.of(str(tmp_path), ID))
    file.save(state())
    file.close()
    text = (tmp_path / f"{ID.hex()}.json").read_text()
    assert text == (
        f'{{"ID":"{ID}","Program":"/p/x.rf","Params":{{"a":"2","b":"\\u003c1\\u003e"}},"Args":[],"Phase":0,'
        '"Result":"","Err":null,"AttemptNumber":0,"LastTry":"0001-01-01T00:00:00Z",'
        '"Created":"2026-11-26T01:02:03.45Z","Completion":"0001-01-01T00:00:00Z","TotalResources":null}\n'
    )


def test_saving_keeps_the_state_before_and_the_modes(tmp_path: Path) -> None:
    file = StateFile(RunFiles.of(str(tmp_path), ID))
    made = state()
    file.save(made)
    made.phase = Phase.DONE
    file.save(made)
    file.close()
    base = tmp_path / ID.hex()
    assert json.loads(base.with_suffix(".bak").read_text())["Phase"] == 0
    assert json.loads(base.with_suffix(".json").read_text())["Phase"] == 3
    modes = {name: stat.S_IMODE(os.stat(f"{base}.{name}").st_mode) for name in ("json", "bak")}
    assert modes == {"json": 0o600, "bak": 0o600}
    assert base.with_suffix(".lock").read_bytes() == b""
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bak", ".json", ".lock"]


def test_an_error_survives_the_file(tmp_path: Path) -> None:
    file = StateFile(RunFiles.of(str(tmp_path), ID))
    made = state()
    made.error = ReflowError(Kind.DOCKER_EXEC, "exec", "sha256:00", cause="exited with code 3")
    made.phase = Phase.DONE
    file.save(made)
    file.close()
    again = read_state(f"{tmp_path}/{ID.hex()}.json")
    assert str(again.error) == "exec sha256:00: docker exec: exited with code 3"
    assert (again.phase, again.id, again.params) == (Phase.DONE, ID, made.params)
    assert str(again) == "done error exec sha256:00: docker exec: exited with code 3"


def test_an_open_state_is_locked(tmp_path: Path) -> None:
    file = StateFile(RunFiles.of(str(tmp_path), ID))
    with open(tmp_path / f"{ID.hex()}.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.close()
    with open(tmp_path / f"{ID.hex()}.lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_runs_are_found_by_the_beginning_of_their_ids(tmp_path: Path) -> None:
    for id in (ID, Digest.of(b"other")):
        file = StateFile(RunFiles.of(str(tmp_path), id))
        file.save(state())
        file.close()
    found = list(find_runs(str(tmp_path), DigestPrefix.parse(ID.hex()[:6])))
    assert [os.path.basename(files.base) for files in found] == [ID.hex()]
    assert list(find_runs(str(tmp_path / "none"), DigestPrefix.parse("00"))) == []


def test_what_is_no_state_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="not the state of a run"):
        read_state(str(tmp_path / "x.json"))
