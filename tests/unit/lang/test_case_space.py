from __future__ import annotations

import pytest

from reflow.lang.case_space import (
    NOTHING,
    Effort,
    Space,
    complement,
    intersection,
    is_met,
    space_of,
    space_text,
    without,
)
from reflow.lang.source import NO_POS
from reflow.lang.syntax import (
    IdentPattern,
    IgnorePattern,
    ListPattern,
    Pattern,
    StructPattern,
    TuplePattern,
    VariantPattern,
)
from reflow.lang.types import (
    BOOL,
    INT,
    STRING,
    Field,
    Type,
    VariantType,
    list_of,
    struct_of,
    sum_of,
    tuple_of,
)

SUM = sum_of([VariantType("A"), VariantType("B", INT), VariantType("C", STRING)])
PAIR = tuple_of([Field("", SUM), Field("", INT)])
LIST = list_of(SUM)
STRUCT = struct_of([Field("a", SUM), Field("b", SUM), Field("c", BOOL)])

X = IdentPattern(NO_POS, "x")
ANYTHING = IgnorePattern(NO_POS)
A = VariantPattern(NO_POS, "A", None)
B = VariantPattern(NO_POS, "B", X)


def tup(*items: Pattern) -> Pattern:
    return TuplePattern(NO_POS, items)


def lst(*items: Pattern, tail: Pattern | None = None) -> Pattern:
    return ListPattern(NO_POS, items, tail)


def struct(**items: Pattern) -> Pattern:
    return StructPattern(NO_POS, tuple(items.items()))


def text(spaces: list[Space], type: Type) -> str:
    return " ".join([space_text(each, type) for each in spaces])


@pytest.mark.parametrize(
    ("pattern", "type", "left"),
    [
        (X, SUM, ""),
        (ANYTHING, LIST, ""),
        (A, SUM, "#B(_) #C(_)"),
        (B, SUM, "#A #C(_)"),
        (tup(X, X), PAIR, ""),
        (tup(A, X), PAIR, "(#B(_), _) (#C(_), _)"),
        (lst(), LIST, "[_, ...]"),
        (lst(X), LIST, "[] [_, _, ...]"),
        (lst(tail=X), LIST, ""),
        (lst(X, tail=ANYTHING), LIST, "[]"),
        (lst(X, tail=lst(X)), LIST, "[] [_] [_, _, _, ...]"),
        (lst(A), LIST, "[] [#B(_)] [#C(_)] [_, _, ...]"),
        (struct(a=A), STRUCT, "{a: #B(_)} {a: #C(_)}"),
        (struct(c=X), STRUCT, ""),
    ],
)
def test_what_a_pattern_does_not_match(pattern: Pattern, type: Type, left: str) -> None:
    assert text(complement(pattern, type, Effort()), type) == left


@pytest.mark.parametrize(
    ("type", "one", "two", "both"),
    [
        (SUM, X, A, "#A"),
        (SUM, A, ANYTHING, "#A"),
        (SUM, A, B, None),
        (SUM, B, VariantPattern(NO_POS, "B", ANYTHING), "#B(_)"),
        (PAIR, tup(A, X), tup(ANYTHING, X), "(#A, _)"),
        (PAIR, tup(A, X), tup(B, X), None),
        (LIST, lst(X), lst(X, X), None),
        (LIST, lst(A, tail=X), lst(X, X), "[#A, _]"),
        (LIST, lst(tail=lst(A, tail=X)), lst(X, tail=X), "[#A, ...]"),
        (LIST, lst(A, tail=X), lst(B), None),
        (STRUCT, struct(a=A), struct(b=B), "{a: #A, b: #B(_)}"),
        (STRUCT, struct(a=A), struct(a=B), None),
        (PAIR, tup(X, X), lst(X), None),
    ],
)
def test_what_two_patterns_both_match(type: Type, one: Pattern, two: Pattern, both: str | None) -> None:
    found = intersection(space_of(one), space_of(two), Effort())
    assert (None if found is NOTHING else space_text(found, type)) == both
    assert intersection(space_of(two), space_of(one), Effort()) == found


def test_longer_lists_count_as_handled_by_an_element_before_a_tail() -> None:
    # So it is in the original: [#A, ...] leaves only lists of one element with another tag.
    unhandled = without([None], lst(A, tail=ANYTHING), LIST, Effort())
    assert text(unhandled, LIST) == "[] [#B(_)] [#C(_)]"


def test_the_cases_of_a_sum_use_it_up_one_by_one() -> None:
    unhandled: list[Space] = [None]
    for tag in ("A", "B", "C"):
        pattern = VariantPattern(NO_POS, tag, None if tag == "A" else ANYTHING)
        assert is_met(unhandled, space_of(pattern), Effort())
        unhandled = without(unhandled, pattern, SUM, Effort())
        assert not is_met(unhandled, space_of(pattern), Effort())
    assert unhandled == []


def test_spaces_inside_of_others_are_dropped() -> None:
    type = tuple_of([Field("", SUM)] * 4)
    unhandled: list[Space] = [None]
    for tags in (
        "AABC",
        "ABCA",
        "BACA",
        "CABA",
        "ACBB",
        "BBCA",
        "CCAA",
        "CABC",
        "AAAA",
        "BCBC",
        "CBCB",
        "ABAB",
    ):
        patterns = [VariantPattern(NO_POS, tag, None if tag == "A" else ANYTHING) for tag in tags]
        assert is_met(unhandled, space_of(tup(*patterns)), Effort())
        unhandled = without(unhandled, tup(*patterns), type, Effort())
    assert len(unhandled) < 100


def test_a_switch_over_many_tags_is_not_slow() -> None:
    tags = [f"T{number}" for number in range(300)]
    type = sum_of([VariantType(tag) for tag in tags])
    unhandled: list[Space] = [None]
    for tag in tags:
        unhandled = without(unhandled, VariantPattern(NO_POS, tag, None), type, Effort())
    assert unhandled == []
