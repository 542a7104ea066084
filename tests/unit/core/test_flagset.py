import pytest

from reflow.core.flagset import (
    Flag,
    FlagError,
    FlagSet,
    HelpRequestedError,
    parse_bool,
    parse_duration,
    parse_int,
)


def flags() -> tuple[FlagSet, dict[str, object]]:
    seen: dict[str, object] = {}
    made = FlagSet()

    def boolean(text: str) -> None:
        seen["b"] = parse_bool(text)

    def number(text: str) -> None:
        seen["n"] = parse_int(text)

    def word(text: str) -> None:
        seen["s"] = text

    made.add(Flag("b", boolean, usage="a switch", is_bool=True))
    made.add(Flag("n", number, usage="a `count`", default="3"))
    made.add(Flag("name", word, usage="two\nlines", default="x", type_word="string", is_quoted=True))
    return made, seen


@pytest.mark.parametrize(
    ("words", "seen", "rest"),
    [
        (["-b", "x", "-n", "1"], {"b": True}, ["x", "-n", "1"]),
        (["--b=false", "--n=0x10"], {"b": False, "n": 16}, []),
        (["-n", "1_000", "--", "-b"], {"n": 1000}, ["-b"]),
        (["-name", "-b", "-"], {"s": "-b"}, ["-"]),
        (["-n=1", "-n=2"], {"n": 2}, []),
    ],
)
def test_parse(words: list[str], seen: dict[str, object], rest: list[str]) -> None:
    made, got = flags()
    assert made.parse(words) == rest
    assert got == seen


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-x"], "flag provided but not defined: -x"),
        (["-n"], "flag needs an argument: -n"),
        (["-n", "z"], 'invalid value "z" for flag -n: parse error'),
        (["-b=z"], 'invalid boolean value "z" for -b: parse error'),
        (["---n"], "bad flag syntax: ---n"),
        (["-=1"], "bad flag syntax: -=1"),
    ],
)
def test_errors_are_those_of_go(words: list[str], text: str) -> None:
    made, _ = flags()
    with pytest.raises(FlagError) as caught:
        made.parse(words)
    assert str(caught.value) == text


def test_help_is_asked_for_when_no_flag_has_that_name() -> None:
    made, _ = flags()
    with pytest.raises(HelpRequestedError):
        made.parse(["-help"])


def test_defaults_are_printed_as_go_prints_them() -> None:
    made, _ = flags()
    assert made.defaults_text() == (
        "  -b\ta switch\n"
        "  -n count\n    \ta count (default 3)\n"
        '  -name string\n    \ttwo\n    \tlines (default "x")\n'
    )


@pytest.mark.parametrize(("text", "seconds"), [("300ms", 0.3), ("1h30m", 5400), ("0", 0), ("-1.5s", -1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "1d", "1h 2m"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="parse error"):
        parse_duration(text)
