"""What README.md and docs/running.md show of the command line is so."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from reflow.cli.commands import COMMANDS
from reflow.lang.session import Session
from tests.command import Workspace
from tests.docs.markdown import blocks

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RUNNING = ROOT / "docs" / "running.md"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace that has the examples."""
    made = Workspace(tmp_path)
    shutil.copytree(ROOT / "examples", made.dir / "examples")
    return made


def commands_of(path: Path) -> list[list[str]]:
    """Words of the command lines in a document's shell blocks, without the program's name and comments."""
    lines = [line for block in blocks(path) if block.kind == "sh" for line in block.lines]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"(\.venv/bin/)?reflow ", line)]
    assert found, f"{path} shows no command"
    return [words[1:] for words in found]


def test_the_commands_of_the_readme_work(workspace: Workspace) -> None:
    executed = []
    for words in commands_of(README):
        if any(word.isupper() for word in words) or "examples/align.rf" in words:
            continue
        if words[0] == "run":
            done = workspace.reflow("run", "-executor", "process", "-json", *words[1:]).ok()
            executed.append(done.json["executed"])
            done = workspace.reflow("run", "-executor", "process", "-json", *words[1:]).ok()
            assert done.json["executed"] == 0, "the second time nothing is executed"
        else:
            workspace.reflow(*words).ok()
    assert executed
    assert executed[0] > 0


def test_the_aligner_of_the_readme_is_a_program(workspace: Workspace) -> None:
    aligner = next(words for words in commands_of(README) if "examples/align.rf" in words)
    workspace.write("ref.fa.gz", "")
    workspace.write("reads/a_1.fq.gz", "")
    workspace.reflow("check", "-w", "examples/align.rf").ok()
    done = workspace.reflow("images", *aligner[aligner.index("examples/align.rf") :]).ok()
    for image in done.out.split():
        assert f"`{image}`" in README.read_text()


def test_the_program_in_the_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = next(block for block in blocks(README) if any("func " in line for line in block.lines))
    monkeypatch.chdir(tmp_path)
    Path("shown.rf").write_text("\n".join(["param minq = 25", *shown.lines]) + "\n")
    Session().open("shown.rf")


@pytest.mark.parametrize("path", [README, RUNNING], ids=["README", "running"])
def test_commands_that_are_mentioned_exist(path: Path) -> None:
    mentioned = {words[0] for words in commands_of(path)}
    mentioned |= set(re.findall(r"`reflow ([a-z]+)", path.read_text()))
    assert mentioned <= set(COMMANDS)


def test_the_object_that_ends_the_output_has_the_keys_shown(workspace: Workspace) -> None:
    shown = next(block for block in blocks(RUNNING) if block.kind == "json")
    workspace.write("p.rf", "val Main = 3\n")
    done = workspace.reflow("run", "-json", "p.rf").ok()
    assert list(done.json) == list(json.loads("".join(shown.lines)))
