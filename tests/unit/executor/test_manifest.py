"""What is written down before an exec starts, and what is made of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.execconfig import ExecConfig
from reflow.core.resources import Resources
from reflow.executor import manifest
from reflow.executor.execdir import MANIFEST, Tenant, acquire, ending_of, sign, tenant_of
from reflow.executor.manifest import Manifest

ID = Digest.of(b"id")
CONFIG = ExecConfig(
    type="exec", ident="main.a", image="ubuntu", cmd="echo %%", resources=Resources(cpu=1, mem=5)
)


def written(tmp_path: Path, **foreign: str) -> Manifest:
    made = manifest.manifest_of(ID, "work", "docker", CONFIG, "echo %\udcff", foreign)
    manifest.write(str(tmp_path), made, CONFIG)
    return made


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "b\udcff"
    file.write_bytes(b"x")
    made = written(tmp_path, **{"0/0": str(file)})
    assert manifest.read(str(tmp_path)) == made._replace(created_s=pytest.approx(made.created_s))
    assert made.is_of_this_boot
    assert made.are_inputs_unchanged


def test_it_has_the_fields_of_the_original(tmp_path: Path) -> None:
    written(tmp_path)
    row = json.loads((tmp_path / MANIFEST).read_text())
    assert (row["Type"], row["State"], row["Resources"]) == (0, 2, {"cpu": 1, "mem": 5})
    assert (row["Config"]["Ident"], row["Config"]["Image"]) == ("main.a", "ubuntu")


def test_a_longer_one_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("x" * 100_000)
    made = written(tmp_path)
    found = manifest.read(str(tmp_path))
    assert found is not None
    assert found.id == made.id


def test_an_input_that_was_written_to_or_is_gone_is_told(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"x")
    made = written(tmp_path, **{"0/0": str(file)})
    file.write_bytes(b"xy")
    assert not made.are_inputs_unchanged
    file.unlink()
    assert not made.are_inputs_unchanged


def test_none_is_none(tmp_path: Path) -> None:
    assert manifest.read(str(tmp_path)) is None


def test_any_part_of_one_is_none(tmp_path: Path) -> None:
    written(tmp_path)
    text = (tmp_path / MANIFEST).read_text()
    for length in range(len(text)):
        (tmp_path / MANIFEST).write_text(text[:length])
        assert manifest.read(str(tmp_path)) is None


FIELDS = ("ID", "Work", "Executor", "Config", "Created", "Resources", "Foreign", "Boot")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, 3, "x", [], {"a": {}}, {"a": [1, 2]}, 1e400])
def test_fields_of_another_sort_are_no_crash(tmp_path: Path, field: str, value: object) -> None:
    written(tmp_path)
    row = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**row, field: value}))
    manifest.read(str(tmp_path))
    del row[field]
    (tmp_path / MANIFEST).write_text(json.dumps(row))
    assert manifest.read(str(tmp_path)) is None


def test_endings_are_beside_the_tenant(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    directory = acquire(path)
    assert directory is not None
    assert ending_of(path) is None
    tenant = Tenant("0" * 64, 12, "process", 0)
    directory.note(tenant)
    assert (tenant_of(path), ending_of(path)) == (tenant, None)
    directory.note_pid(4194304)
    directory.note_ending(255)
    assert (tenant_of(path), ending_of(path)) == (tenant._replace(pid=4194304), 255)
    sign(path, tenant._replace(owner=4194303, pid=7))
    assert (tenant_of(path), ending_of(path)) == (Tenant("0" * 64, 4194303, "process", 7), 255)
    directory.forget_ending()
    assert ending_of(path) is None
    directory.note_ending(0)
    directory.note(tenant)
    assert ending_of(path) is None


@pytest.mark.parametrize("text", ["", "x", "0 1 2", "\x00" * 200, "a b c d e f g"])
def test_a_damaged_lock_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert tenant_of(str(tmp_path)) is None
    assert ending_of(str(tmp_path)) is None
