"""A bucket for objects: made and made safe if it is not there, else checked and used as it is."""

from __future__ import annotations

import re
from functools import partial

from reflow.core.errors import Kind, ReflowError
from reflow.runtime import setup_pending
from reflow.runtime.setup_call import CallError, Cloud
from reflow.runtime.setup_probe import head, probe
from reflow.runtime.setup_secure import secure, weaknesses

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+(\.\d+){3}")
_DEFAULT_PLACE = "us-east-1"
"""The region whose buckets have no location."""


def ensure_bucket(cloud: Cloud, bucket: str, *, is_secured: bool | None = None) -> None:
    """Make the bucket if it is not there, and see that it can be used. Says what it does.

    A new bucket is secured, one that was there is not touched: unless ``is_secured`` says otherwise. May be
    repeated after any failure. Raises ReflowError.
    """
    check_bucket_name(bucket)
    exists = _exists(cloud, bucket)
    is_ours = not exists or bucket in setup_pending.pending()
    if not exists:
        _make(cloud, bucket, is_unfinished=is_secured is not False)
    elif is_ours:
        cloud.say(f"s3 bucket {bucket} was begun by an earlier setup; going on with it")
    else:
        cloud.say(f"s3 bucket {bucket} already exists; not created")
        _check(cloud, bucket)
    if is_secured or (is_secured is None and is_ours):
        _secure(cloud, bucket, is_resumed=is_ours and exists)
        setup_pending.end(bucket)
    elif is_secured is None:
        _tell_weaknesses(cloud, bucket)
    _probe(cloud, bucket)


def _error(bucket: str, text: str, kind: Kind = Kind.PRECONDITION) -> ReflowError:
    return ReflowError(kind, "s3 bucket", bucket, cause=text)


def check_bucket_name(bucket: str) -> None:
    """Refuse a name that S3 refuses. Raises ReflowError."""
    if not _NAME.fullmatch(bucket) or ".." in bucket:
        rule = "want 3 to 63 lower-case letters, digits, hyphens and dots, a letter or digit first and last"
        raise _error(repr(bucket), f"no name for a bucket: {rule}", Kind.INVALID)
    if _ADDRESS.fullmatch(bucket):
        raise _error(repr(bucket), "no name for a bucket: it looks like an IP address", Kind.INVALID)


def _exists(cloud: Cloud, bucket: str) -> bool:
    """Whether there is such a bucket. Raises ReflowError for one that we may not use, or not from here."""
    try:
        answer = head(partial(cloud.call, "s3"), bucket)
    except CallError as err:
        if err.is_missing:
            return False
        if err.code in ("301", "PermanentRedirect"):
            raise _elsewhere(cloud, bucket, "another region") from err
        if err.code in ("403", "AccessDenied"):
            text = (
                "it is somebody else's, or you have no right to it (s3:ListBucket):"
                " choose another name, or ask for the right"
            )
            raise _error(bucket, text, Kind.NOT_ALLOWED) from err
        raise
    _check_region(cloud, bucket, str(answer.get("BucketRegion") or ""))
    return True


def _check_region(cloud: Cloud, bucket: str, region: str) -> None:
    """Refuse a bucket of another region: every byte would cost. Regions of other servers are just names."""
    if cloud.is_aws("s3") and region and region != cloud.region:
        raise _elsewhere(cloud, bucket, region)


def _elsewhere(cloud: Cloud, bucket: str, region: str) -> ReflowError:
    text = (
        f"it is in {region}, and this session in {cloud.region}:"
        " set AWS_REGION to the bucket's, or choose another bucket"
    )
    return _error(bucket, text)


def _make(cloud: Cloud, bucket: str, *, is_unfinished: bool) -> None:
    cloud.say(f"creating s3 bucket {bucket}")
    if is_unfinished:
        setup_pending.begin(bucket)
    place = {} if cloud.region == _DEFAULT_PLACE else {"LocationConstraint": cloud.region}
    parameters = {"CreateBucketConfiguration": place} if place else {}
    try:
        cloud.call("s3", "create_bucket", Bucket=bucket, **parameters)
    except CallError as err:
        if err.code == "BucketAlreadyOwnedByYou":  # an earlier try whose answer was lost
            cloud.say(f"created s3 bucket {bucket}")
            return
        if not err.is_passing:
            setup_pending.end(bucket)  # it was refused; otherwise it may be there without our knowing
        if err.code == "BucketAlreadyExists":
            text = "the name is taken by somebody else: choose another (names are shared by all of AWS)"
            raise _error(bucket, text, Kind.NOT_ALLOWED) from err
        raise
    cloud.say(f"created s3 bucket {bucket}")


def _check(cloud: Cloud, bucket: str) -> None:
    """Refuse a bucket of another account: whoever owns it would see, and could change, what is stored."""
    try:
        answer = cloud.call("s3", "list_buckets")
    except CallError as err:
        cloud.say(f"note: s3 bucket {bucket}: whose it is could not be found out ({err.code})")
        return
    if not any(each.get("Name") == bucket for each in answer.get("Buckets") or []):
        text = (
            "it belongs to another account, which would see and could change what is stored: choose another"
            " name; or, if that is meant, put the key into the configuration file yourself"
        )
        raise _error(bucket, text, Kind.NOT_ALLOWED)


def _secure(cloud: Cloud, bucket: str, *, is_resumed: bool) -> None:
    try:
        secure(cloud, bucket, is_resumed=is_resumed)
    except CallError as err:
        text = (
            "it is there, but not made safe: run this again when the cause is mended, or with -secure=false"
        )
        raise ReflowError(
            err.kind, "s3 bucket", bucket, cause=ReflowError(err.kind, text, cause=err)
        ) from err


def _tell_weaknesses(cloud: Cloud, bucket: str) -> None:
    found = weaknesses(cloud, bucket)
    if found:
        cloud.say(f"note: s3 bucket {bucket}: {'; '.join(found)} (-secure changes what the server lets it)")


def _probe(cloud: Cloud, bucket: str) -> None:
    try:
        probe(cloud, bucket)
    except CallError as err:
        text = "it cannot be written to and read from: ask for the rights that reflow iam-policy prints"
        raise ReflowError(
            err.kind, "s3 bucket", bucket, cause=ReflowError(err.kind, text, cause=err)
        ) from err
