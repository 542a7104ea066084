from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reflow.cli.command import Fatal, UsageError
from reflow.cli.failure import explain
from reflow.core.errors import Kind, ReflowError
from reflow.lang.diagnostic import Diagnostic, EvalError, SourceError
from reflow.lang.source import Pos, Source
from reflow.runtime.config import ConfigError

SOURCE = Source("x.rf", "val Main = nosuch\n")
POS = Pos(SOURCE, 17, 11, 17)


@pytest.mark.parametrize(
    ("error", "text", "status"),
    [
        (Fatal("as it is"), "as it is", 1),
        (Fatal("usage", 2), "usage", 2),
        (ConfigError("cache: x"), "reflow: cache: x", 1),
        (UsageError("x"), "reflow: x", 1),
        (ReflowError(Kind.NOT_EXIST, "stat", "a"), "reflow: stat a: resource does not exist", 1),
        (RecursionError(), "reflow: the program is nested too deeply", 1),
        (ExceptionGroup("g", [Fatal("inner")]), "inner", 1),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "reflow: /x: no such file", 1),
    ],
)
def test_errors_become_messages(error: Exception, text: str, status: int) -> None:
    assert explain(error) == (text, status)


@pytest.mark.parametrize(
    "error", [SourceError([Diagnostic(POS, "no such name")]), EvalError("no such name", POS)]
)
def test_positioned_errors_have_a_caret_below(error: Exception) -> None:
    assert explain(error)[0].split("\n") == [
        "x.rf:1:18: no such name",
        "  1 | val Main = nosuch",
        "    |            ^^^^^^",
    ]


def test_our_own_files_come_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path))
    ours = PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/runs")
    assert "set REFLOW_HOME to a directory that can" in explain(ours)[0]
    assert "REFLOW_HOME" not in explain(PermissionError(errno.EACCES, "Permission denied", "/etc/x"))[0]


def test_a_bug_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path))
    try:
        raise TypeError("two\nlines")
    except TypeError as err:
        text, status = explain(err)
    (written,) = tmp_path.iterdir()
    assert status == 1
    assert text == f"reflow: internal error: TypeError: two; traceback written to {written} (please report)"
    assert "test_a_bug_is_one_line_and_a_file" in written.read_text()
