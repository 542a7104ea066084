"""Fenced blocks of a Markdown document: what kind each is, which section it stands in, and its lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(`{3,})(\w*)$")
_HEADING = re.compile(r"^#+ +(?:[\d.]+ +)?(.+)$")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is that of its first line; ``before`` is the program block above it."""

    kind: str
    section: str
    line: int
    lines: tuple[str, ...]
    before: Block | None

    @property
    def id(self) -> str:
        """A readable name for a test."""
        words = re.sub(r"[^a-z0-9]+", "-", self.section.lower()).strip("-")
        return f"{self.kind}-{self.line}-{words}"


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    found: list[Block] = []
    section, fence, kind, start = "", "", "", 0
    program: Block | None = None
    inside: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence:
            if line != fence:
                inside.append(line)
                continue
            block = Block(kind, section, start, tuple(inside), program)
            program = block if kind == "reflow" else program
            found.append(block)
            fence, inside = "", []
        elif opening := _FENCE.match(line):
            fence, kind, start = opening[1], opening[2], number + 1
        elif heading := _HEADING.match(line):
            section = heading[1]
    assert not fence, f"{path}: the block that begins on line {start} does not end"
    return found
