"""What makes a bucket safe: no public access, encryption, TLS only, no uploads that never end.

Decisions are pure: each looks at what the server says is set, and answers with the calls that bring it to
what is wanted. `secure` carries them out; a setting after which nothing can be written is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from reflow.runtime.setup_call import CallError, Cloud
from reflow.runtime.setup_probe import probe

UPLOAD_DAYS = 7
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_TLS_SID = "ReflowTlsOnly"
_TRIAL_SID = "ReflowTrial"
_RULE_ID = "reflow-incomplete-uploads"
_ABSENT = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)

Document = dict[str, Any]


class Aspect(NamedTuple):
    """One side of a bucket's safety: how it is read, what it lacks, and what sets it.

    ``lacks`` tells whether it is missing, given what is set; ``lack`` says so. ``variants`` has parameters
    of the call that sets it: the best first, then what a server may take that does not take the best.
    ``field`` is the parameter that has the setting, also in the answer of ``get``; ``takes_back`` the call
    that removes the setting.
    """

    name: str
    get: str
    put: str
    lacks: Callable[[Document], bool]
    lack: str
    variants: Callable[[str, str, Document], list[Document]]
    field: str = ""
    takes_back: str = ""


# --------------------------------------------------------------------------------------- public access


def _is_open(now: Document) -> bool:
    blocked = now.get("PublicAccessBlockConfiguration") or {}
    return not all(blocked.get(name) for name in _BLOCKS)


def _blocks(partition: str, bucket: str, now: Document) -> list[Document]:
    """Ceph of 2024 refuses every upload to a bucket that refuses public ACLs."""
    every = dict.fromkeys(_BLOCKS, True)
    return [{"PublicAccessBlockConfiguration": each} for each in (every, {**every, _BLOCKS[0]: False})]


# ------------------------------------------------------------------------------------------ encryption


def _is_unencrypted(now: Document) -> bool:
    return not (now.get("ServerSideEncryptionConfiguration") or {}).get("Rules")


def _encryption(partition: str, bucket: str, now: Document) -> list[Document]:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return [{"ServerSideEncryptionConfiguration": {"Rules": [rule]}}]


# ------------------------------------------------------------------------------------------------ TLS


def tls_statement(bucket: str, partition: str) -> Document:
    """The statement that refuses every request that does not come by TLS."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Sid": _TLS_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def statements(now: Document) -> list[Document]:
    """The statements of a bucket's policy, without one of a trial that did not end."""
    found = json.loads(now.get("Policy") or "{}").get("Statement") or []
    every = [found] if isinstance(found, dict) else list(found)
    return [each for each in every if each.get("Sid") != _TRIAL_SID]


def _allows_plain(now: Document) -> bool:
    for each in statements(now):
        transport = (each.get("Condition") or {}).get("Bool") or {}
        is_plain = str(transport.get("aws:SecureTransport", "")).lower() == "false"
        if each.get("Effect") == "Deny" and is_plain and _is_all(each.get("Action")):
            return False
    return True


def _is_all(action: object) -> bool:
    return str(action[0] if isinstance(action, list) and action else action).lower() in ("s3:*", "*")


def _policy(partition: str, bucket: str, now: Document) -> list[Document]:
    document = json.loads(now.get("Policy") or '{"Version": "2012-10-17"}')
    tls = tls_statement(bucket, partition)
    # Names of actions have no case; servers that overlook conditions (moto) overlook that, too.
    variants = (tls, {**tls, "Action": "S3:*"})
    return [{"Policy": json.dumps({**document, "Statement": [*statements(now), each]})} for each in variants]


# -------------------------------------------------------------------------------------------- uploads


def _keeps_uploads(now: Document) -> bool:
    return not any(
        rule.get("AbortIncompleteMultipartUpload") and rule.get("Status") == "Enabled"
        for rule in now.get("Rules") or []
    )


def _lifecycle(partition: str, bucket: str, now: Document) -> list[Document]:
    rule = {
        "ID": _RULE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
    }
    return [{"LifecycleConfiguration": {"Rules": [*(now.get("Rules") or []), rule]}}]


ASPECTS = (
    Aspect(
        "no public access",
        "get_public_access_block",
        "put_public_access_block",
        _is_open,
        "public access is not blocked",
        _blocks,
        field="PublicAccessBlockConfiguration",
        takes_back="delete_public_access_block",
    ),
    Aspect(
        "encryption",
        "get_bucket_encryption",
        "put_bucket_encryption",
        _is_unencrypted,
        "objects are not encrypted by default",
        _encryption,
    ),
    Aspect(
        "TLS only",
        "get_bucket_policy",
        "put_bucket_policy",
        _allows_plain,
        "requests without TLS are accepted",
        _policy,
        field="Policy",
        takes_back="delete_bucket_policy",
    ),
    Aspect(
        "incomplete uploads expire",
        "get_bucket_lifecycle_configuration",
        "put_bucket_lifecycle_configuration",
        _keeps_uploads,
        "incomplete uploads are kept for ever",
        _lifecycle,
    ),
)


# ------------------------------------------------------------------------------------------- in action


def weaknesses(cloud: Cloud, bucket: str) -> list[str]:
    """What a bucket lacks, as far as the server tells."""
    found = []
    for aspect in ASPECTS:
        now = _current(cloud, bucket, aspect)
        if now is not None and aspect.lacks(now):
            found.append(aspect.lack)
    return found


def secure(cloud: Cloud, bucket: str, *, is_resumed: bool) -> None:
    """Bring a bucket to what is wanted; what a server other than AWS cannot do is said. Raises CallError.

    What is set already stays; so a policy or rules of somebody's own get a statement or a rule more. But a
    bucket that an earlier try began may have settings that were not yet found to be too much for the server.
    """
    if is_resumed and not _can_be_written(cloud, bucket):
        for aspect in ASPECTS:
            if aspect.takes_back:
                cloud.call("s3", aspect.takes_back, Bucket=bucket)
    for aspect in ASPECTS:
        now = _current(cloud, bucket, aspect)
        if now is None and cloud.is_aws("s3"):
            now = {}  # we may not read it: perhaps we may set it, and the new bucket has nothing set
        if now is None:
            cloud.say(f"note: s3 bucket {bucket}: {aspect.name}: this server does not support it")
        elif aspect.lacks(now):
            _set(cloud, bucket, aspect, now)


def _current(cloud: Cloud, bucket: str, aspect: Aspect) -> Document | None:
    """What is set; None when the server does not say."""
    try:
        return cloud.call("s3", aspect.get, Bucket=bucket)
    except CallError as err:
        if err.code in _ABSENT:
            return {}
        if err.is_unsupported or err.is_denied:
            return None
        raise


def _set(cloud: Cloud, bucket: str, aspect: Aspect, now: Document) -> None:
    if aspect.put == "put_bucket_policy" and _would_lock_out(cloud, bucket, now):
        cloud.say(f"note: s3 bucket {bucket}: not {aspect.name}: the endpoint in use is plain HTTP")
        return
    for variant in aspect.variants(cloud.partition, bucket, now):
        try:
            cloud.call("s3", aspect.put, Bucket=bucket, **variant)
        except CallError as err:
            if cloud.is_aws("s3"):
                raise
            cloud.say(
                f"note: s3 bucket {bucket}: {aspect.name}: this server does not support it ({err.code})"
            )
            return
        if not aspect.takes_back or _can_be_written(cloud, bucket):
            return
    cloud.say(f"note: s3 bucket {bucket}: not {aspect.name}: with it this server refuses every upload")
    _take_back(cloud, bucket, aspect, now)


def _take_back(cloud: Cloud, bucket: str, aspect: Aspect, former: Document) -> None:
    """Set what was set before, or nothing if there was nothing."""
    if former.get(aspect.field):
        cloud.call("s3", aspect.put, Bucket=bucket, **{aspect.field: former[aspect.field]})
    else:
        cloud.call("s3", aspect.takes_back, Bucket=bucket)


def _can_be_written(cloud: Cloud, bucket: str) -> bool:
    try:
        probe(cloud, bucket)
    except CallError as err:
        if err.is_denied and not cloud.is_aws("s3"):
            return False
        raise
    return True


def _would_lock_out(cloud: Cloud, bucket: str, now: Document) -> bool:
    """Find out, on one harmless call, whether the server would refuse us for not using TLS."""
    if cloud.is_encrypted("s3"):
        return False
    if statements(now):
        return True
    trial = {**tls_statement(bucket, cloud.partition), "Sid": _TRIAL_SID, "Action": "s3:GetBucketLocation"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trial]})
    try:
        cloud.call("s3", "put_bucket_policy", Bucket=bucket, Policy=policy)
        cloud.call("s3", "get_bucket_location", Bucket=bucket)
    except CallError as err:
        if not err.is_denied:
            return False
        cloud.call("s3", "delete_bucket_policy", Bucket=bucket)
        return True
    return False
