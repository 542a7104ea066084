from __future__ import annotations

import json
from pathlib import Path

import pytest

from reflow.cli.command import Command, UsageError
from reflow.cli.commands import COMMANDS, load_command
from reflow.cli.globalflag import OVERRIDE_KEYS, global_flags
from reflow.core.flagset import FlagError, HelpRequestedError
from reflow.runtime.provider import KEYS

FLAGS = Path(__file__).parents[4] / "shared/conformance/cli/flags.json"
OURS = {"localdir"}  # its default is a place of ours


def facts() -> dict[str, dict[str, dict[str, object]]]:
    return json.loads(FLAGS.read_text())["commands"] if FLAGS.exists() else {}


def as_text(value: object) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"batchrun", "doctor", "du", "iam-policy", "why"}))
def test_every_command_has_the_flags_of_the_original(name: str) -> None:
    known = facts()
    if not known:
        pytest.skip("needs ../shared")
    ours = {flag: (kind, default) for flag, kind, default, _ in load_command(name).flags}
    for flag, fact in known[name].items():
        kind, default = ours[flag]
        assert kind == fact["type"], flag
        if flag not in OURS:
            assert default == as_text(fact["default"]), flag


def test_global_flags_are_those_of_the_original_and_three_more_keys() -> None:
    if not FLAGS.exists():
        pytest.skip("needs ../shared")
    known = json.loads(FLAGS.read_text())["global"]
    ours = {flag: (kind, default) for flag, kind, default, _ in global_flags("$HOME/.reflow/config.yaml")}
    assert set(ours) - set(known) == {"assoc", "cluster", "predictor"}
    assert {name: ours[name] for name in known} == {
        name: (fact["type"], as_text(fact["default"])) for name, fact in known.items()
    }


def test_every_override_is_a_key_of_the_configuration() -> None:
    assert set(OVERRIDE_KEYS) == set(KEYS) - {"executor"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_how_it_is_called_and_what_it_does(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.usage().startswith(f"usage: reflow {name}")
    assert command.help().startswith(f"usage: reflow {name}")
    assert "  -help\n" in command.help()


def command(**counts: int | None) -> Command:
    flags = [("n", "int", "3", "a number"), ("b", "bool", "false", "yes or no"), ("s", "string", "", "text")]
    return Command("x", "x", "X.", lambda app, arguments: 0, flags=flags, **counts)  # type: ignore[arg-type]


def test_flags_and_words_are_told_apart() -> None:
    arguments = command(max_words=None).parse(["-n=4", "--b", "-s", "t", "w", "-n=5"])
    assert (arguments["n"], arguments["b"], arguments["s"]) == (4, True, "t")
    assert arguments.words == ["w", "-n=5"]


def test_defaults_hold_when_nothing_is_given() -> None:
    arguments = command().parse([])
    assert (arguments["n"], arguments["b"], arguments["s"]) == (3, False, "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-q"], "flag provided but not defined: -q"),
        (["-n"], "flag needs an argument: -n"),
        (["-n=x"], 'invalid value "x" for flag -n: parse error'),
        (["-b=x"], 'invalid boolean value "x" for -b: parse error'),
        (["---x"], "bad flag syntax: ---x"),
    ],
)
def test_bad_flags_are_explained_as_by_go(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        command().parse(words)
    assert str(caught.value) == text


def test_h_asks_for_usage_and_help_is_a_flag() -> None:
    with pytest.raises(HelpRequestedError):
        command().parse(["-h"])
    assert command(min_words=1).parse(["-help"])["help"] is True


@pytest.mark.parametrize(
    ("counts", "words", "text"),
    [
        ({"min_words": 1}, [], "x: got no arguments, want at least 1"),
        ({"max_words": 1}, ["a", "b", "c"], "x: unexpected argument: b c"),
    ],
)
def test_a_wrong_number_of_words_is_a_usage_error(
    counts: dict[str, int], words: list[str], text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        command(**counts).parse(words)
    assert str(caught.value) == text
