"""Each test that the table of faults names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_table_of_faults_names_exist() -> None:
    text = (ROOT / "docs/decisions/0010-faults.md").read_text()
    names = "\n".join(
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    )
    beginnings = re.findall(r"`[^`]*?\b(test_\w+)…`", text)
    middles = re.findall(r"`(?:[^`]*: )?…(\w+)…?`", text)
    assert len(beginnings) > 20
    for name in beginnings:
        assert re.search(rf"^{name}", names, re.MULTILINE), name
    for name in middles:
        assert re.search(rf"^test_\w*{name}", names, re.MULTILINE), name
    for path in set(re.findall(r"\b((?:unit/\w+/)?test_\w+\.py)", text)):
        assert list((ROOT / "tests").rglob(path)), path
