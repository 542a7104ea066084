"""Tables in tests/data/go: what Go's own packages answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TABLES = Path(__file__).parent / "data" / "go"


def table(name: str) -> list[dict[str, Any]]:
    with open(_TABLES / f"{name}.jsonl", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
