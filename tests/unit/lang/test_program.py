"""Programs, as the command line loads them."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from reflow.core.errors import ReflowError
from reflow.lang.diagnostic import EvalError, SourceError
from reflow.lang.program import Program, UsageError, instantiate, load
from reflow.lang.session import Session


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(text: str, *argv: str, make_absolute: bool = False) -> Program:
    Path("p.rf").write_text(text)
    return load("p.rf", argv, Session(), make_absolute=make_absolute)


def test_an_immediate_main_is_a_text() -> None:
    made = program('param n int\nparam s = "d"\nval Main = {n, s, f: func(x int) => x}.n + 1\n', "-n=4")
    assert made.is_immediate
    assert made.text(made.main) == "5"
    assert (made.params, made.args) == ({"n": "4", "s": "d"}, ["-n=4"])


def test_a_delayed_main_is_a_flow_with_images() -> None:
    made = program(
        'val Main = exec(image := "i") (o file) {" x > {{o}} "}\nval x = exec(image := "a") (o file) {" "}\n'
    )
    assert not made.is_immediate
    assert made.images == ["a", "i"]
    assert str(made.main_type) == "(o file)"


def test_a_program_can_be_bundled_as_it_was_opened() -> None:
    Path("other.rf").write_text("val X = 3\n")
    made = program('val Main = make("./other.rf").X\n')
    Path("p.rfx").write_bytes(made.bundle())
    Path("other.rf").unlink()
    again = load("p.rfx", [], Session(), make_absolute=True)
    assert again.main == 3
    assert again.bundle() == made.bundle()


def test_main_is_forced_and_keeps_only_what_its_type_has() -> None:
    made = program("val Main {a int} = {a: 1, b: 2}\n")
    assert made.main == {"a": 1}


def test_positions_are_absolute_where_run_makes_them_so(here: Path) -> None:
    with pytest.raises(SourceError) as caught:
        program("val Main = nope\n", make_absolute=True)
    assert str(caught.value) == f'{here}/p.rf:1:16: identifier "nope" not defined'
    with pytest.raises(UsageError) as usage:
        program("param n int\nval Main = n\n", make_absolute=True)
    assert usage.value.usage.startswith(f"usage of {here}/p.rf:\n")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("p.txt", 'unknown file extension ".txt"'),
        ("p", 'unknown file extension ""'),
        (
            "p.reflow",
            "operation not supported: p.reflow is written in the older language (.reflow), which is not",
        ),
        ("gone.rf", "open gone.rf: no such file or directory"),
    ],
)
def test_what_is_no_program_is_refused(path: str, message: str) -> None:
    with pytest.raises(ReflowError) as caught:
        load(path, [], Session(), make_absolute=False)
    assert str(caught.value).startswith(message)


def test_a_system_module_is_an_instance_without_parameters() -> None:
    _, values, params = instantiate("$/path", [], Session())
    assert (list(values), params) == (["Base", "Dir", "Ext", "Join"], {})
    with pytest.raises(UsageError, match="unrecognized parameters: x"):
        instantiate("$/path", ["x"], Session())


def test_a_program_needs_a_main_but_an_instance_does_not() -> None:
    text = 'val A = exec(image := "i") (o file) {" "}\n'
    with pytest.raises(ReflowError, match=r"^module has no Main$"):
        program(text)
    session = Session()
    _, values, params = instantiate("p.rf", [], session)
    assert list(values) == ["A"]
    assert params == {}
    assert session.images() == ["i"]


def test_a_name_exported_at_two_types_has_the_first_value() -> None:
    Path("m.rf").write_text('val V = 1\nval V = "again"\nval W = V\nval X = 1\nval X = 2\n')
    made = program('m := make("./m.rf")\nval Main = (m.V, m.W, m.X)\n')
    assert made.text(made.main) == '(1, "again", 2)'


def test_endless_evaluation_is_an_error_and_the_collector_is_back() -> None:
    assert gc.isenabled()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        with pytest.raises((EvalError, SourceError), match="nested too deeply"):
            program("val Main = " + "{a: " * 150 + "1" + "}" * 150 + "\n")
    finally:
        sys.setrecursionlimit(limit)
    assert gc.isenabled()
