"""The files that define a batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from reflow.runtime.batchfile import (
    BatchConfig,
    BatchError,
    BatchFiles,
    BatchRow,
    batch_id,
    parse_runs,
    read_config,
)


def test_paths_are_relative_to_the_configuration() -> None:
    files = BatchFiles("sub/config.json")
    assert files.path("p.rf") == "sub/p.rf"
    assert files.path("../p.rf") == "p.rf"
    assert files.path("/abs/p.rf") == "/abs/p.rf"
    assert files.log("a b") == "sub/log.a b"
    assert BatchFiles("config.json").path("p.rf") == "p.rf"


def test_keys_are_read_as_go_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"Program": "p.rf", "RUNS_FILE": "r.csv", "more": 1}')
    assert read_config(BatchFiles(str(path))) == BatchConfig("p.rf", "r.csv")


def test_the_id_names_program_file_and_content() -> None:
    id = batch_id(BatchConfig("prog.rf", "samples.csv"), "id\n")
    assert id.hex() == "a3f6932c67c9c9b0c9474b144a520dfb4faa031e6dd5e92ca2844fe6392a088f"


def test_rows() -> None:
    rows = parse_runs('id,bam,sample\n1,1.bam,"a, b"\n2,,\n')
    assert rows == [
        BatchRow("1", {"bam": "1.bam", "sample": "a, b"}),
        BatchRow("2", {"bam": "", "sample": ""}),
    ]
    assert parse_runs("id,x\n") == []


@pytest.mark.parametrize("id", ["", "a/b", "nul\0", "x" * 201])
def test_ids_are_parts_of_file_names(id: str) -> None:
    with pytest.raises(BatchError, match="cannot be the id of a run"):
        parse_runs(f"id,x\n{id},1\n")
