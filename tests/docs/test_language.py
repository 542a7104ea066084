"""Every example of docs/language.md does what the text says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Workspace
from tests.docs.example import run_console, run_program, run_values, write_files
from tests.docs.markdown import Block, blocks

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "docs" / "language.md"
BLOCKS = blocks(BOOK)
KINDS = ("reflow", "values", "console")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose directory is the working directory of the test."""
    made = Workspace(tmp_path)
    monkeypatch.chdir(made.dir)
    return made


def of_kind(kind: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.kind == kind]
    assert found, f"{BOOK} has no {kind} block"
    return pytest.mark.parametrize("block", found, ids=[block.id for block in found])


@of_kind("reflow")
def test_program(block: Block, workspace: Workspace) -> None:
    run_program(block, workspace)


@of_kind("values")
def test_values(block: Block, workspace: Workspace) -> None:
    run_values(block)


@of_kind("console")
def test_console(block: Block, workspace: Workspace) -> None:
    assert block.before is not None, "a console block stands below the program that it runs"
    write_files(block.before, workspace)
    run_console(block, workspace)


def test_every_block_says_what_it_is() -> None:
    kinds = {block.kind for block in BLOCKS}
    assert kinds <= {*KINDS, "text"}, "text blocks are shown and not run, everything else is run"
