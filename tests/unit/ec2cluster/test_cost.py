"""Prices, the status line, and the memory to count on."""

from __future__ import annotations

import json

from reflow.core.resources import Resources
from reflow.ec2cluster.catalog import Catalog, read_catalog
from reflow.ec2cluster.cost import UNKNOWN_COST, Cost, on_demand_cost
from reflow.ec2cluster.status import Demand, status_text

GIB = 1 << 30


def a_catalog() -> Catalog:
    rows = [
        {
            "type": "big",
            "vcpu": 4,
            "mem_gib": 16,
            "cpu_features": ["intel_avx"],
            "verified": {"us-west-2": {"expected_mem_bytes": 15 * GIB}},
            "price": {"us-west-2": 0.5},
        },
        {"type": "untried", "vcpu": 2, "mem_gib": 4, "price": {"us-west-2": 0.25}},
    ]
    return read_catalog([*[json.dumps(row) for row in rows], ""])


def test_memory_seen_elsewhere_counts_where_nothing_was_seen() -> None:
    big = a_catalog()["big"]
    assert big.mem_bytes("eu-west-1") == 15 * GIB
    assert a_catalog()["untried"].mem_bytes("us-west-2") == 4


def test_costs() -> None:
    catalog = a_catalog()
    assert str(on_demand_cost(catalog, "big", "us-west-2", 7200)) == "<1.0000"
    assert on_demand_cost(catalog, "big", "eu-west-1", 7200) == UNKNOWN_COST
    assert str(on_demand_cost(catalog, "none", "us-west-2", 7200)) == "<unknown>"


def test_sums_are_exact_when_all_is() -> None:
    exact, most = Cost(1.0, is_exact=True), Cost(2.0)
    assert str(exact.plus(exact)) == "2.0000"
    assert str(exact.plus(most)) == "<3.0000"
    assert exact.plus(UNKNOWN_COST) == exact
    assert UNKNOWN_COST.plus(most) == most
    assert most.times(0.5) == Cost(1.0)
    assert UNKNOWN_COST.times(2.0) == UNKNOWN_COST


def test_the_status_line() -> None:
    demand = Demand(Resources(cpu=1.0), Resources())
    text = status_text(a_catalog(), ["big", "untried", "big", "gone"], "us-west-2", 10, demand)
    assert text == (
        "4 instances: big:2,gone:1,untried:1 (<=$1.2/hr), "
        "total{mem:30.0GiB cpu:10 disk:30.0GiB intel_avx:8}, waiting{mem:0B cpu:1 disk:0B}, pending{}"
    )
