"""Texts of any kind in every mode of the parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow.lang.lexer import KEYWORDS, PUNCTUATION
from tests.fuzz.budget import SEARCH
from tests.fuzz.invariants import check_text, outcome_of_program

WORDS = [
    *sorted(KEYWORDS),
    *sorted(PUNCTUATION),
    *("x", "y", "X", "len", "delay", "map", "1", "010", "0x1", "1.5", "1e", ".5", "99999999999999999999"),
    *('"s"', '"\\x41"', '"\\q"', "`raw`", '{"', '"}', "{{", "}}", "/* c */", "// c\n", "/*", "\n", "\n\n"),
    *("~>", "||", "&&", "<=", ">=", "==", "!=", "<<", ">>", "+", "*", "/", "%", "&", "<", ">"),
    *(
        "é",
        "\udcff",
        "\0",
        "\ufeff",
        "'a'",
        '"',
        "`",
        "\\",
        "$",
        "\r\n",
        "exec(image := ",
        "{{x}}",
        "(o file)",
    ),
]

tokens = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
glued = st.lists(st.sampled_from(WORDS), max_size=15).map("".join)
raw = st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
anything = st.one_of(st.text(max_size=60), raw)

types = st.recursive(
    st.sampled_from(["int", "float", "string", "bool", "file", "dir", "a.T", "#A"]),
    lambda inner: st.one_of(
        inner.map("[{}]".format),
        st.tuples(inner, inner).map("[{0[0]}:{0[1]}]".format),
        st.tuples(inner, inner).map("({0[0]}, {0[1]})".format),
        st.tuples(inner, inner).map("{{a, b {0[0]}, c {0[1]}}}".format),
        st.tuples(inner, inner).map("func(x {0[0]}) {0[1]}".format),
        inner.map("#B | #C({})".format),
        inner.map("module{{x {}}}".format),
    ),
    max_leaves=12,
)
patterns = st.recursive(
    st.sampled_from(["x", "_", "#A", "{a, b}"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("({0[0]}, {0[1]})".format),
        st.tuples(inner, inner).map("[{0[0]}, ...{0[1]}]".format),
        inner.map("[{}, ...]".format),
        inner.map("{{a: {}, b}}".format),
        inner.map("#B({})".format),
    ),
    max_leaves=12,
)


@SEARCH
@given(st.one_of(tokens, glued, anything))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    check_text(text)


@SEARCH
@given(st.one_of(types, patterns))
def test_types_and_patterns_are_printed_as_they_are_read(text: str) -> None:
    check_text(text)


@SEARCH
@given(st.one_of(tokens, glued, anything))
def test_any_text_is_a_program_or_is_refused(text: str) -> None:
    outcome_of_program({"main.rf": text.encode("utf-8", "surrogateescape")})
