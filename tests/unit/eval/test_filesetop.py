from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.eval.filesetop import collect, group_by


def files(*paths: str) -> Fileset:
    return Fileset({path: File(Digest.of_text(path), len(path)) for path in paths})


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        ("^lane(.)/", [["lane1/a", "lane1/b"], ["lane2/a"]]),
        ("e[0-9](/)", [["lane1/a", "lane1/b", "lane2/a"]]),
        ("lane", []),
        ("(l)(a)", []),
        ("none(.)", []),
    ],
)
def test_group_by_needs_exactly_one_group(pattern: str, groups: list[list[str]]) -> None:
    grouped = group_by(pattern, files("lane2/a", "lane1/b", "lane1/a", "x"))
    assert [member.sorted_paths() for member in grouped.members or ()] == groups


@pytest.mark.parametrize(
    ("pattern", "template", "path", "renamed"),
    [
        (".*", "$0", "a/b", "a/b"),
        ("(.)/(?P<name>.*)", "$2-${name}-$name", "a/b", "b-b-b"),
        ("(.)/(.)", "$1x", "a/b", ""),
        ("(.)/(.)", "${1}x", "a/b", "ax"),
        ("a", "$$", "a/b", "$/b"),
        ("a", "$", "a/b", "$/b"),
        ("a", "${", "a/b", "${/b"),
        ("a", "${9}", "a/b", "/b"),
        ("a*", "<$0>", "baab", "<>b<aa>b<>"),
        ("(x)?a", "[$1]", "a", "[]"),
        ("b", "c", "abb\udcff", "acc\udcff"),
    ],
)
def test_templates_are_those_of_go(pattern: str, template: str, path: str, renamed: str) -> None:
    assert collect(pattern, template, files(path)).sorted_paths() == [renamed]


def test_collect_drops_what_does_not_match_and_the_last_wins() -> None:
    kept = collect("^(.)/.*", "$1", files("a/1", "a/2", "x"))
    assert kept == Fileset({"a": File(Digest.of_text("a/2"), 3)})


def test_a_bad_pattern_is_said() -> None:
    with pytest.raises(
        ReflowError, match=r"groupby '\(': invalid: no regular expression: missing \)"
    ) as caught:
        group_by("(", files("a"))
    assert caught.value.kind is Kind.INVALID
