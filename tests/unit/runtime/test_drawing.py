from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.runtime import drawing
from reflow.runtime.drawing import SMALL_EDGES, draw, may_draw

if TYPE_CHECKING:
    import pytest


def install(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program called dot, the only one of that name on PATH."""
    program = directory / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_small_graphs_are_drawn_and_others_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "exit 0")
    assert may_draw(SMALL_EDGES, is_wanted=False)
    assert not may_draw(SMALL_EDGES + 1, is_wanted=False)
    assert may_draw(SMALL_EDGES + 1, is_wanted=True)
    monkeypatch.setenv("PATH", "/nowhere")
    assert not may_draw(1, is_wanted=True)


async def test_a_picture_is_there_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 'test "$1" = -Tsvg && cp "$4" "$3"')
    (tmp_path / "g.gv").write_text("graph")
    assert await draw(str(tmp_path / "g.gv"), str(tmp_path / "g.svg"), is_wanted=True) == ""
    assert (tmp_path / "g.svg").read_text() == "graph"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dot", "g.gv", "g.svg"]


async def test_what_dot_says_against_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 'echo half > "$3"; echo "syntax error" >&2; exit 1')
    assert await draw("g.gv", str(tmp_path / "g.svg"), is_wanted=False) == "syntax error"
    assert [each.name for each in tmp_path.iterdir()] == ["dot"]


async def test_it_takes_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_SMALL_LIMIT_S", 0.05)
    install(tmp_path, monkeypatch, "exec sleep 60")
    assert "took more than" in await draw("g.gv", str(tmp_path / "g.svg"), is_wanted=False)
