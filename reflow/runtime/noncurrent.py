"""What a bucket that keeps versions still holds of objects that were removed, and what would let it go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from reflow.core.units import format_size
from reflow.runtime.setup_call import CallError, Cloud

_PREFIX = "objects/"
_NAMED = f"{_PREFIX}sha256:"
PAGES = 50
"""Pages of a thousand versions that are looked at; of more, their number is estimated."""

RULE = {
    "ID": "reflow-noncurrent",
    "Status": "Enabled",
    "Filter": {"Prefix": _PREFIX},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
    "Expiration": {"ExpiredObjectDeleteMarker": True},
}


_HIDDEN = "removed objects are hidden, not gone"


class Noncurrent(NamedTuple):
    """Versions that are no more the newest, their bytes, and delete markers.

    ``part`` is how much of the bucket was looked at; digests are evenly spread, so the rest is like it.
    """

    versions: int
    size: int
    markers: int
    part: float


def tell_noncurrent(cloud: Cloud, bucket: str) -> list[str]:
    """Lines about versions that a bucket keeps; none when it keeps none. Blocks; raises nothing of S3."""
    about = f"s3 bucket {bucket}"
    try:
        if not cloud.call("s3", "get_bucket_versioning", Bucket=bucket).get("Status"):
            return []
    except CallError as err:
        kept = _unknown("whether it keeps versions of what is removed", err, "s3:GetBucketVersioning")
        return [f"{about}: {kept}"]
    return [f"{about} keeps versions: {_HIDDEN}; {_held(cloud, bucket)}", _let_go(cloud, bucket)]


def _held(cloud: Cloud, bucket: str) -> str:
    """What it holds of them."""
    try:
        found = _count(cloud, bucket)
    except CallError as err:
        return _unknown("how much it holds of them", err, "s3:ListBucketVersions")
    about, whole = ("", 1.0) if found.part >= 1 else ("about ", found.part)
    return (
        f"now it holds {about}{found.versions / whole:.0f} noncurrent versions"
        f" ({about}{format_size(int(found.size / whole))})"
        f" and {about}{found.markers / whole:.0f} delete markers below {_PREFIX}"
    )


def _let_go(cloud: Cloud, bucket: str) -> str:
    """What removes them, or would."""
    try:
        rule = _rule(cloud, bucket)
    except CallError as err:
        return _unknown("whether a lifecycle rule removes them", err, "s3:GetLifecycleConfiguration")
    if rule is None:
        return (
            "no lifecycle rule removes noncurrent versions: this one, added to the bucket's, would:"
            f" {json.dumps(RULE)}"
        )
    days = rule["NoncurrentVersionExpiration"].get("NoncurrentDays")
    return f"its lifecycle rule {rule.get('ID', '')!r} removes them after {days} days"


def _unknown(what: str, err: CallError, action: str) -> str:
    advice = (
        f"; {action} is needed, it is in the driver's policy (reflow iam-policy)" if err.is_denied else ""
    )
    return f"{what} is not known: {err}{advice}"


def _count(cloud: Cloud, bucket: str) -> Noncurrent:
    versions = size = markers = 0
    after: dict[str, str] = {}
    for _ in range(PAGES):
        page = cloud.call("s3", "list_object_versions", Bucket=bucket, Prefix=_PREFIX, **after)
        old = [each for each in page.get("Versions") or [] if not each["IsLatest"]]
        versions += len(old)
        size += sum([each["Size"] for each in old])
        markers += len(page.get("DeleteMarkers") or [])
        if not page.get("IsTruncated"):
            return Noncurrent(versions, size, markers, 1.0)
        after = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            after["VersionIdMarker"] = page["NextVersionIdMarker"]
    return Noncurrent(versions, size, markers, _part(after["KeyMarker"]))


def _part(key: str) -> float:
    """How much of the digests comes before a key, as far as it says; all when it does not."""
    try:
        return max(int(key.removeprefix(_NAMED)[:8], 16), 1) / 2**32
    except ValueError:
        return 1.0


def _rule(cloud: Cloud, bucket: str) -> Mapping[str, Any] | None:
    """An enabled rule that removes noncurrent versions of all objects."""
    try:
        rules = cloud.call("s3", "get_bucket_lifecycle_configuration", Bucket=bucket).get("Rules") or []
    except CallError as err:
        if err.code == "NoSuchLifecycleConfiguration":
            return None
        raise
    return next((rule for rule in rules if _removes(rule)), None)


def _removes(rule: Mapping[str, Any]) -> bool:
    if rule.get("Status") != "Enabled" or not rule.get("NoncurrentVersionExpiration"):
        return False
    chosen = rule.get("Filter") or {}
    if set(chosen) - {"Prefix"}:
        return False  # some of them only: by tag or size
    return _PREFIX.startswith(chosen.get("Prefix", rule.get("Prefix", "")))
