"""Parameters of modules as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reflow.core.errors import ReflowError
from reflow.core.flagset import FlagError
from reflow.flow.node import Coerce, Intern
from reflow.lang.diagnostic import EvalError
from reflow.lang.flags import ModuleFlags, UsageError, parse_flags
from reflow.lang.session import Session
from reflow.lang.source_module import SourceModule

PROGRAM = """// How many
// of them.
param n int
param b bool
// A share.
param f float = 0.5
param s = "x" + "y"
param empty = ""
param zero = 0
param on = false
param dep = s + "!"
param deeper = dep + "?"
param later = delay([1])
param xs = [1]
param g = func(x int) => x
param ref = file("s3://r/x")
val Main = 1
"""


def module_of(tmp_path: Path, text: str) -> SourceModule:
    path = tmp_path / "m.rf"
    path.write_text(text)
    module = Session().open(str(path))
    assert isinstance(module, SourceModule)
    return module


def flags_of(tmp_path: Path, text: str = PROGRAM) -> ModuleFlags:
    return module_of(tmp_path, text).flags(Session())


def test_the_list_shows_comments_and_defaults_that_are_known(tmp_path: Path) -> None:
    assert flags_of(tmp_path).usage() == (
        "  -b\t\n"
        "  -deeper string\n    \t\n"
        "  -dep string\n    \t\n"
        "  -empty string\n    \t\n"
        "  -f float\n    \tA share.\n    \t (default 0.5)\n"
        "  -later list\n    \t\n"
        "  -n int\n    \tHow many of them. (required)\n"
        "  -on\n    \t (default false)\n"
        "  -ref file\n    \t\n"
        "  -s string\n    \t (default xy)\n"
        "  -zero int\n    \t (default 0)\n"
    )


def test_values_are_those_given_and_defaults_known_at_once(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    assert flags.parse(["-n", "+12", "-b=T", "--s=é", "-dep", "d", "--", "-zero=1"]) == ["-zero=1"]
    values = flags.values()
    assert values.pop("f") == 0.5
    assert values == {
        "n": 12,
        "b": True,
        "s": "é".encode(),
        "dep": b"d",
        "empty": b"",
        "zero": 0,
        "on": False,
    }
    assert flags.missing() == ""


def test_texts_are_sorted_and_normal(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    flags.parse(["-n=+012", "-b=T", "-f=1e1"])
    texts = flags.texts()
    assert list(texts) == sorted(texts)
    assert (texts["n"], texts["b"], texts["f"], texts["deeper"]) == ("12", "true", "10", "")


def test_what_is_missing_is_listed_by_name(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    assert flags.missing() == "flag errors:\n\tmissing mandatory flag -b\n\tmissing mandatory flag -n"
    flags.parse(["-b"])
    assert flags.missing() == "missing mandatory flag -n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n=0x10"], 'invalid value "0x10" for flag -n: cannot parse "0x10" as integer'),
        (["-n="], 'invalid value "" for flag -n: cannot parse "" as integer'),
        (["-f=1.2.3"], 'invalid value "1.2.3" for flag -f: cannot parse "1.2.3" as float'),
        (["-f=_1"], 'invalid value "_1" for flag -f: cannot parse "_1" as float'),
        (
            ["-b=maybe"],
            'invalid boolean value "maybe" for -b: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-xs=1"], "flag provided but not defined: -xs"),
        (["-n"], "flag needs an argument: -n"),
        (
            ["-later=1"],
            'invalid value "1" for flag -later: flags of type [int] not supported '
            "(valid types are: string, int, float, bool, file, dir)",
        ),
        (
            ["-ref=gone"],
            'invalid value "gone" for flag -ref: open gone: no such file or directory',
        ),
    ],
)
def test_a_bad_flag_is_named_with_its_value(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        flags_of(tmp_path).parse(words)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "shown"), [("0.12345678901234", "0.123456789"), ("1_0", "10"), ("0x1p4", "16")]
)
def test_a_float_has_the_ten_digits_that_are_shown(tmp_path: Path, text: str, shown: str) -> None:
    flags = flags_of(tmp_path, "param f float\nval Main = f\n")
    flags.parse([f"-f={text}"])
    assert flags.texts() == {"f": shown}
    again = flags_of(tmp_path, "param f float\nval Main = f\n")
    again.parse([f"-f={shown}"])
    assert flags.values() == again.values()


def test_a_file_flag_is_opened_under_the_name_of_the_parameter(tmp_path: Path) -> None:
    flags = flags_of(tmp_path)
    flags.parse(["-ref=s3://b/x y"])
    made = flags.values()["ref"]
    assert isinstance(made, Coerce)
    (source,) = made.deps
    assert isinstance(source, Intern)
    assert (source.url, source.ident, str(source.pos)) == ("s3://b/x y", "ref", "<input>")
    assert flags.texts()["ref"] == "s3://b/x y"


def test_a_required_parameter_that_can_be_no_flag_makes_the_module_no_program(tmp_path: Path) -> None:
    with pytest.raises(ReflowError, match=r"^-xs: flags of type \[int\] not supported"):
        flags_of(tmp_path, "param xs [int]\nval Main = xs\n")


def test_an_error_in_a_default_comes_out(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="panic: no"):
        flags_of(tmp_path, 'param a int\nparam s = panic("no")\nval Main = 1\n')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n=1", "-b", "left", "-s=1"], "unrecognized parameters: left -s=1"),
        (["-n=1"], "missing mandatory flag -b"),
        (["-n=x"], 'invalid value "x" for flag -n: cannot parse "x" as integer'),
        (
            ["-local"],
            "flag provided but not defined: -local\n  (after p.rf come the program's own parameters",
        ),
    ],
)
def test_a_wrong_command_line_comes_with_the_usage(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_flags(flags_of(tmp_path), "p.rf", words)
    assert caught.value.message.startswith(message)
    assert caught.value.usage.startswith("usage of p.rf:\n  -b\t\n")
    assert not caught.value.is_help


def test_help_is_the_usage_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_flags(flags_of(tmp_path), "p.rf", ["-help"])
    assert caught.value.is_help


def made(module: SourceModule, args: dict[str, Any]) -> Any:
    return module.make(Session(), args)["Main"]


def test_injected_values_replace_defaults_and_give_way_to_arguments(tmp_path: Path) -> None:
    module = module_of(tmp_path, 'param n int\nparam s = "d"\nparam d = s + "!"\nval Main = (n, s, d)\n')
    module.inject(Session(), ["-n=7", "-s=i"])
    assert made(module, {}) == (7, b"i", b"i!")
    assert made(module, {"s": b"a", "n": 1}) == (1, b"a", b"a!")
    module.inject(Session(), ["-s=again"])
    assert made(module, {}) == (7, b"again", b"again!")
    assert [each.is_required for each in module.params()] == [False, False, False]
    flags = module.flags(Session())
    assert flags.missing() == ""
    assert flags.usage().startswith("  -d string\n    \t\n  -n int\n    \t (default 7)\n")


def test_injecting_what_is_no_flag_is_refused_with_the_list(tmp_path: Path) -> None:
    module = module_of(tmp_path, "param n = 1\nval Main = n\n")
    with pytest.raises(UsageError) as caught:
        module.inject(Session(), ["-m=1"])
    assert caught.value.usage == "Usage:\n  -n int\n    \t (default 1)\n"
