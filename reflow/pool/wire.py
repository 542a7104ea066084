"""Offers, allocs and what their execs left, as the JSON that agents and their clients exchange.

Readers take members in any case and order, and do without any of them. They raise INVALID.

Source: pool/alloc.go, reflow.go (ExecRunInfo), and Go's net/url for URLs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from reflow.core.digest import Digest, digest_text
from reflow.core.errors import Kind, ReflowError
from reflow.core.gojson import JsonObject, fold, parse_digest, parse_time, time_text
from reflow.core.resources import Resources
from reflow.core.wire import profile_from_json, resources_from_json, resources_to_json
from reflow.pool import AllocInspect, AllocMeta, RunInfo

_T = TypeVar("_T")
NANOSECONDS = 1_000_000_000


def meta_to_json(meta: AllocMeta) -> JsonObject:
    """Who asks for an alloc, and for what."""
    labels = {name: meta.labels[name] for name in sorted(meta.labels)} or None
    return {"Want": resources_to_json(meta.want), "Owner": meta.owner, "Labels": labels}


def meta_from_json(row: Any) -> AllocMeta:
    """Read who asks for an alloc, and for what."""
    return _checked(_read_meta, row, "alloc meta")


def alloc_to_json(alloc: AllocInspect) -> JsonObject:
    """What is known of an alloc."""
    return {
        "ID": alloc.id,
        "TaskDBAllocID": digest_text(alloc.taskdb_id),
        "Resources": resources_to_json(alloc.resources),
        "Meta": meta_to_json(alloc.meta),
        "Created": time_text(alloc.created),
        "LastKeepalive": time_text(alloc.last_keepalive),
        "Expires": time_text(alloc.expires),
    }


def alloc_from_json(row: Any) -> AllocInspect:
    """Read what is known of an alloc; lists and fresh allocs tell id and resources only."""
    return _checked(_read_alloc, row, "alloc inspection")


def offer_from_json(row: Any) -> tuple[str, Resources]:
    """Read an offer: its id, and what can be had."""
    return _checked(_read_offer, row, "offer")


def run_info_from_json(row: Any) -> RunInfo | None:
    """Read what an exec left; None when it has not ended."""
    return _checked(_read_run_info, row, "run info")


def interval_from_json(row: Any) -> float:
    """Read an interval that was granted, in seconds."""
    return _checked(lambda row: int(fold(row).get("interval") or 0) / NANOSECONDS, row, "interval")


def digests_from_json(row: Any) -> list[Digest]:
    """Read a list of digests."""
    return _checked(lambda row: [Digest.parse(text) for text in row or ()], row, "digests")


def url_to_json(url: str) -> JsonObject:
    """A URL as an object. Of user and fragment nothing is sent: repositories have none."""
    parts = urlsplit(url)
    return {
        "Scheme": parts.scheme,
        "Opaque": "",
        "User": None,
        "Host": parts.netloc.rpartition("@")[2],
        "Path": parts.path,
        "Fragment": "",
        "RawQuery": parts.query,
        "RawPath": "",
        "RawFragment": "",
        "ForceQuery": False,
        "OmitHost": False,
    }


def _read_meta(row: Any) -> AllocMeta:
    fields = fold(row)
    want = resources_from_json(fields.get("want"))
    return AllocMeta(want=want, owner=str(fields.get("owner") or ""), labels=dict(fields.get("labels") or {}))


def _read_alloc(row: Any) -> AllocInspect:
    fields = fold(row)
    return AllocInspect(
        id=str(fields.get("id") or ""),
        resources=resources_from_json(fields.get("resources")),
        meta=_read_meta(fields.get("meta")),
        created=parse_time(fields.get("created")),
        last_keepalive=parse_time(fields.get("lastkeepalive")),
        expires=parse_time(fields.get("expires")),
        taskdb_id=parse_digest(fields.get("taskdballocid")),
    )


def _read_offer(row: Any) -> tuple[str, Resources]:
    fields = fold(row)
    return str(fields["id"]), resources_from_json(fields.get("available"))


def _read_run_info(row: Any) -> RunInfo | None:
    fields = fold(row).get("runinfo")
    if fields is None:
        return None
    fields = fold(fields)
    return RunInfo(
        runtime_s=int(fields.get("runtime") or 0) / NANOSECONDS,
        profile=profile_from_json(fields.get("profile")),
        resources=resources_from_json(fields.get("resources")),
        inspect=_stored(fields.get("inspectdigest")),
        stdout=_stored(fields.get("stdout")),
        stderr=_stored(fields.get("stderr")),
    )


def _stored(row: Any) -> Digest | None:
    return parse_digest(fold(row).get("digest"))


def _checked(read: Callable[[Any], _T], row: Any, what: str) -> _T:
    """Read a row, with anything that is wrong in it as INVALID."""
    try:
        return read(row)
    except (ValueError, TypeError, AttributeError, KeyError) as err:
        raise ReflowError(Kind.INVALID, "wire.decode", what, cause=str(err) or repr(err)) from err
