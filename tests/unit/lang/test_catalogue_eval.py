r"""The conformance catalogue (language.md §9.2 and what of §9.3 runs programs): all of these values are true.

| row | here, or where it was already |
| --- | --- |
| arith, prec, missingnewline, strings, path, delayed, float, regexp, if, switch, builtin_override, reduce, \
fold, test1, compr, files, dirs | `test_values_that_are_true` |
| compare | the same, and `test_interp.equality_awaits_what_it_needs` |
| typealias, typealias2 | `test_values_that_are_true`, `test_an_alias_of_another_module` |
| test_flag_dependence | `test_defaults_that_depend_on_parameters` |
| newmodule (older language) | not supported: `test_session.what_cannot_be_opened_is_named` |
| strings_err1-3, map_compr_err, list_compr_err, dirs_err, dirs_err2 | \
`test_modules_that_fail_when_they_are_made` |
| regress: coerce, mapdigest, flagparam | \
`test_values_that_are_true` (lazy), `test_a_program_may_come_to_nothing` |
| regress: repeatexec, repeatexecskip | `test_repeated_execs_are_compared` |
| tool/testdata/test.rf | `test_flags.the_list_shows_comments_and_defaults_that_are_known` |
| types/type_test | `test_types`, `test_unify`, `test_constness`, `test_tenv` |
| values: digest_test, equal_test, less_test, env_test, pretty_test | `test_value_digest`, `test_order`, \
`test_env`, `test_print_value` |
| values: map_test, dir_test | `test_value_digest`, \
`test_stdlib.directories_are_made_summed_and_listed_by_path` |
| internal/scanner | `test_lexer` |
| lang (older language) | not supported |
| testutil: duplicate exported names | `test_check.a_name_exported_twice_is_there_twice` |
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reflow.lang.diagnostic import EvalError
from reflow.lang.session import Session
from tests.adapters.sim import evaluated
from tests.programs import main_of, opened, values_of, write

DATA = Path(__file__).parents[2] / "data" / "catalogue"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"testdir/a.txt": "a\n", "testdir/sub/b": "bb\n", "empty/.keep": ""})
    (tmp_path / "empty/.keep").unlink()
    write(tmp_path, {"lib.rf": "param n = 1\nval Double = n * 2\nfunc Add(m int) = n + m\n"})
    return tmp_path


@pytest.mark.parametrize("path", sorted(DATA.glob("*.rf")), ids=lambda path: path.stem)
def test_values_that_are_true(here: Path, path: Path) -> None:
    shutil.copy(path, here / "m.rf")
    found = {name: value for name, value in values_of("m.rf").items() if len(name) == 1}
    assert found
    assert found == dict.fromkeys(found, "true")


def test_an_alias_of_another_module(here: Path) -> None:
    write(here, {"types.rf": "type Sample {name string, reads [file]}\ntype Name string\n"})
    text = 'm := make("./types.rf")\nfunc f(s m.Sample) m.Name = s.name\nval A = f({name: "x", reads: [file("s3://b/k")]})\n'
    write(here, {"m.rf": text})
    assert values_of("m.rf") == {"A": '"x"'}


def test_defaults_that_depend_on_parameters(here: Path) -> None:
    text = "param a = 1\nparam b = a + 1\nparam c = delay(b) * 2\nval Main = (a, b, c)\n"
    write(here, {"m.rf": text, "use.rf": 'val Main = make("./m.rf", a := 10).Main\n'})
    assert main_of("m.rf") == "(1, 2, 4)"
    assert main_of("m.rf", ["-a=5"]) == "(5, 6, 12)"
    assert main_of("m.rf", ["-b=7"]) == "(1, 7, 14)"
    assert main_of("use.rf") == "(10, 11, 22)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('val A = make("$/strings").ToFloat(".")', "number has no digits"),
        ('val A = make("$/strings").ToFloat("1e")', "number has no digits"),
        ('val A = make("$/strings").ToFloat("1.5-")', "expected end of string, found '-'"),
        ('val A = make("$/test").AssertMap(map([("a", 1 > 2), ("b", true)]))', "failed assertion m.A[a]"),
        ('val A = make("$/test").All([x > 1 | x <- [2, 1]])', "failed assertion m.A[1]"),
        ('val A = dir("empty")', "empty directory empty/"),
        (
            'dirs := make("$/dirs")\nval (A, _) = dirs.Pick(dirs.FromList([("x", f) | f <- none]), "*.bam")',
            "dirs.Pick: no files matched *.bam",
        ),
    ],
)
def test_modules_that_fail_when_they_are_made(here: Path, text: str, message: str) -> None:
    write(here, {"m.rf": f"val none [file] = []\n{text}\n"})
    module = opened("m.rf")
    with pytest.raises(EvalError) as caught:
        module.make(Session(), {})
    assert message in str(caught.value)


def test_a_program_may_come_to_nothing(here: Path) -> None:
    write(here, {"m.rf": 'param name = "x"\nval Main = make("$/test").Assert([name == "y"])\n'})
    assert main_of("m.rf", ["-name=y"]) == "()"


@pytest.mark.parametrize(
    ("attribute", "same", "text"),
    [
        ("", False, "repeat 0 vs repeat 2"),
        (", nondeterministic := true", True, "no repeated execs (1 were skipped)"),
    ],
)
def test_repeated_execs_are_compared(here: Path, attribute: str, same: bool, text: str) -> None:
    # The simulated results depend on the digest of an exec, so that repeats differ.
    program = f"""
e := exec(image := "i"{attribute}) (out file) {{" date > {{{{out}}}} "}}
val A = make("$/test").ExecRepeatAndCheck(e, 3)
"""
    write(here, {"m.rf": program})
    told: list[str] = []
    made = opened("m.rf").make(Session(note=told.append), {})
    assert evaluated(made["A"]) is same
    assert any(text in line for line in told)
