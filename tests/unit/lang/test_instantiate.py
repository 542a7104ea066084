"""Modules made into values: parameters, frames, names and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reflow.flow.digest import digest
from reflow.flow.node import K
from reflow.lang.check import check_module
from reflow.lang.diagnostic import EvalError
from reflow.lang.interp import instantiate
from reflow.lang.parse import parse_module
from reflow.lang.source import Source
from tests.expressions import SystemModules, TracingSession


def _made(
    text: str,
    args: Mapping[str, Any] | None = None,
    flag_values: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    module = parse_module(Source("m.rf", text))
    check_module(module, SystemModules(), "")
    return instantiate(module, TracingSession(), args or {}, flag_values, prefix)


def test_exported_names_are_the_value() -> None:
    made = _made("val a = 1\nval A = a + 1\nval (B, c, Ä) = (A, 2, 3)\n")
    assert made == {"A": 2, "B": 2, "Ä": 3}


def test_a_later_declaration_hides_an_earlier_one() -> None:
    assert _made("val A = 1\nval B = A\nval A = 2\n") == {"A": 2, "B": 1}


def test_defaults_may_use_earlier_parameters() -> None:
    text = "param a int\nparam b = a + 1\nparam c = b * 10\nval C = c\n"
    assert _made(text, {"a": 1}) == {"C": 20}
    assert _made(text, {"a": 1, "b": 7}) == {"C": 70}


def test_defaults_that_are_not_needed_are_not_evaluated() -> None:
    text = "param a = 1 / 0\nval A = a\n"
    assert _made(text, {"a": 1}) == {"A": 1}
    with pytest.raises(EvalError, match=r"m\.rf:1:12: division by zero"):
        _made(text)


def test_given_values_come_before_injected_ones() -> None:
    text = "param a = 1\nparam b = 2\nval A = (a, b)\n"
    assert _made(text, {"a": 10}, {"a": 20, "b": 30}) == {"A": (10, 30)}


def test_a_parameter_may_be_named_like_a_unit() -> None:
    assert _made("param GiB = 5\nval A = GiB\n") == {"A": 5}


def test_unused_declarations_are_evaluated() -> None:
    with pytest.raises(EvalError, match=r"m\.rf:1:10: division by zero"):
        _made("val x = 1 / 0\nval A = 1\n")


def test_values_are_labelled_below_the_module() -> None:
    made = _made(
        "val A = delay(1)\nval B = { x := delay(2); x + 1 }\nval (C, _) = (delay(3), 4)\n", prefix="m"
    )
    assert (made["A"].deps[0].ident, made["B"].deps[0].deps[0].deps[0].ident) == ("m.A", "m.B.x")
    assert made["C"].deps[0].ident == ""


def test_levels_count_a_frame_for_each_declaration_and_default() -> None:
    plain = "val c = delay(true)\nval x = 1\n"
    near = _made(plain + "val A = if c { x } else { 0 }\n")["A"]
    far = _made(plain + "val y = 1\nval A = if c { x } else { 0 }\n")["A"]
    assert isinstance(near, K)
    assert digest(near) != digest(far)


def test_a_long_module_is_looked_up_quickly() -> None:
    lines = [f"val x{i} = x0 + {i}" for i in range(1, 5000)]
    assert _made("val x0 = 1\n" + "\n".join(lines) + "\nval A = x4999\n") == {"A": 5000}
