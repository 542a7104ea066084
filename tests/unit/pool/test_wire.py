"""Offers and allocs as JSON, with members in any case, or missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.gojson import dump_json
from reflow.core.resources import NO_RESOURCES, Resources
from reflow.pool import AllocInspect, AllocMeta
from reflow.pool.wire import (
    alloc_from_json,
    alloc_to_json,
    digests_from_json,
    interval_from_json,
    meta_from_json,
    meta_to_json,
    offer_from_json,
    run_info_from_json,
    url_to_json,
)

DIGEST = Digest.of(b"x")
META = AllocMeta(want=Resources(mem=2.0, cpu=1.0), owner="Jo <jo>", labels={"user": "jo", "Name": "r"})
WHEN = datetime(2026, 11, 23, 9, 12, 36, 185700, UTC)


def test_meta() -> None:
    text = b'{"Want":{"cpu":1,"mem":2},"Owner":"Jo \\u003cjo\\u003e","Labels":{"Name":"r","user":"jo"}}'
    assert dump_json(meta_to_json(META)) == text
    assert meta_from_json(meta_to_json(META)) == META
    empty = AllocMeta(want=NO_RESOURCES)
    assert dump_json(meta_to_json(empty)) == b'{"Want":null,"Owner":"","Labels":null}'
    assert meta_from_json(None) == empty


def test_allocs() -> None:
    known = AllocInspect(
        id="a1",
        resources=META.want,
        meta=META,
        created=WHEN,
        last_keepalive=WHEN,
        expires=None,
        taskdb_id=DIGEST,
    )
    row = alloc_to_json(known)
    assert list(row) == ["ID", "TaskDBAllocID", "Resources", "Meta", "Created", "LastKeepalive", "Expires"]
    assert (row["TaskDBAllocID"], row["Created"]) == (str(DIGEST), "2026-11-23T09:12:36.1857Z")
    assert row["Expires"] == "0001-01-01T00:00:00Z"
    assert alloc_from_json(row) == known


def test_names_count_in_any_case_and_others_not() -> None:
    found = alloc_from_json(
        {"expires": "2021-03-04T05:06:07+02:00", "id": "q", "more": 1, "META": {"owner": "o"}}
    )
    assert (found.id, found.meta.owner, found.created, found.resources) == ("q", "o", None, NO_RESOURCES)
    assert found.expires == datetime(2021, 3, 4, 3, 6, 7, tzinfo=UTC)


def test_offers_and_intervals() -> None:
    assert offer_from_json({"ID": "7", "Available": {"cpu": 1.5}}) == ("7", Resources(cpu=1.5))
    assert interval_from_json({"Interval": 120_000_000_000}) == 120.0
    assert interval_from_json({}) == 0.0
    assert digests_from_json([str(DIGEST)]) == [DIGEST]
    assert digests_from_json(None) == []


def test_what_an_exec_left() -> None:
    stored = {"RepoURL": url_to_json("s3://b/"), "Digest": str(DIGEST)}
    row = {
        "RunInfo": {
            "Runtime": 32_538_890,
            "Profile": {"disk": {"Max": 22, "Mean": 21.5, "Var": 0, "N": 1}},
            "Resources": {"cpu": 1},
            "InspectDigest": stored,
            "Stdout": {"RepoURL": None, "Digest": "<zero>"},
        }
    }
    found = run_info_from_json(row)
    assert found is not None
    assert (found.runtime_s, found.inspect, found.stdout, found.stderr) == (0.03253889, DIGEST, None, None)
    assert found.profile["disk"].max == 22.0
    assert found.resources == Resources(cpu=1.0)
    assert run_info_from_json({}) is None


def test_urls() -> None:
    assert dump_json(url_to_json("s3://bucket/")) == (
        b'{"Scheme":"s3","Opaque":"","User":null,"Host":"bucket","Path":"/","Fragment":"","RawQuery":"",'
        b'"RawPath":"","RawFragment":"","ForceQuery":false,"OmitHost":false}'
    )


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (alloc_from_json, [1]),
        (alloc_from_json, {"Expires": "yesterday"}),
        (alloc_from_json, {"TaskDBAllocID": "sha256:zz"}),
        (alloc_from_json, {"Meta": 3}),
        (offer_from_json, {}),
        (offer_from_json, {"ID": "1", "Available": {"cpu": "many"}}),
        (interval_from_json, {"Interval": "soon"}),
        (digests_from_json, ["sha256:zz"]),
        (digests_from_json, 7),
        (meta_from_json, {"Labels": [1]}),
        (run_info_from_json, {"RunInfo": {"Runtime": [1]}}),
    ],
)
def test_what_cannot_be_read_is_invalid(read: Callable[[Any], object], row: Any) -> None:
    with pytest.raises(ReflowError) as caught:
        read(row)
    assert caught.value.kind is Kind.INVALID
