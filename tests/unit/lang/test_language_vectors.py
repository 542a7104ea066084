"""Golden vectors: expression, value and flow digests that were observed with the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reflow.flow.digest import digest
from reflow.flow.node import Flow
from reflow.lang.digest_expr import expr_digest
from reflow.lang.digest_value import value_digest
from reflow.lang.env import base_env
from reflow.lang.force import force
from reflow.lang.interp import evaluate
from reflow.lang.print_value import show
from tests.expressions import TracingSession, checked, work_off

_PATH = Path(__file__).parents[2] / "golden" / "language_vectors.jsonl"
VECTORS: list[dict[str, str]] = [json.loads(line) for line in _PATH.read_text("utf-8").splitlines()]


def _value(vector: dict[str, str]) -> tuple[Any, Any]:
    expr, type_ = checked(vector["expr"])
    return evaluate(TracingSession(), base_env(), expr, ""), type_


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 72


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["expr"])
def test_expression_has_the_originals_digest(vector: dict[str, str]) -> None:
    expr, _ = checked(vector["expr"])
    assert expr_digest(expr, base_env()).hex() == vector["expr_digest"]


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS if "value" in each], ids=lambda vector: vector["expr"]
)
def test_value_has_the_originals_text_and_digest(vector: dict[str, str]) -> None:
    value, type_ = _value(vector)
    value = work_off(force(value, type_))
    assert str(type_) == vector["type"]
    assert show(value, type_) == vector["value"]
    assert value_digest(value, type_).hex() == vector["value_digest"]


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS if "op" in each], ids=lambda vector: vector["expr"]
)
def test_flow_has_the_originals_digest_before_and_after_forcing(vector: dict[str, str]) -> None:
    value, type_ = _value(vector)
    if vector["op"] == "-":
        assert not isinstance(value, Flow)
    else:
        assert (value.op, digest(value).hex()) == (vector["op"], vector["flow"])
    assert digest(force(value, type_)).hex() == vector["forced"]


@pytest.mark.parametrize(
    "vector", [each for each in VECTORS if "op" not in each], ids=lambda vector: vector["expr"]
)
def test_what_hangs_on_no_flow_is_immediate(vector: dict[str, str]) -> None:
    value, type_ = _value(vector)
    assert not isinstance(force(value, type_), Flow)
