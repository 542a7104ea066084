"""Checks of what the configuration uses of AWS: credentials, region, clock, buckets, tables, cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from reflow.aws.session import AwsSession
from reflow.aws.settings import SettingsError
from reflow.aws.tables import ASSOC, TASKDB, Table
from reflow.core.errors import ReflowError
from reflow.runtime.config import Config
from reflow.runtime.doctor import Check, Finding, Status, server
from reflow.runtime.policy import Places, places
from reflow.runtime.setup_call import CallError, Cloud, call_once
from reflow.runtime.setup_probe import head, probe_with
from reflow.runtime.setup_table import faults, is_busy, lacking

_SKEW_WARNING_S, _SKEW_FAILED_S = 30.0, 300.0
"""AWS refuses requests that are more than 5 minutes off (S3: 15)."""

_RIGHTS = "ask for the rights that reflow iam-policy prints"
_NETWORK = "check network, proxies (HTTPS_PROXY) and AWS_ENDPOINT_URL"
_SOURCES = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_LOG_IN = "renew them (aws sso login, or a new key), or set AWS_PROFILE to others"


class Asked:
    """Whom a check asks just now, for when no answer comes."""

    def __init__(self, whom: str = "") -> None:
        self.whom = whom

    def service(self, session: AwsSession, service: str) -> None:
        """It asks a service of AWS, or a server that stands for that."""
        self.whom = server(str(session.client(service).meta.endpoint_url))


def used(config: Config) -> Places | None:
    """What the configuration uses of AWS; None for nothing."""
    providers = {config.provider(key) for key in ("repository", "assoc", "taskdb", "cluster")}
    if not providers & {"s3", "dynamodbassoc", "dynamodbtask", "ec2cluster"}:
        return None
    return places(config)


def identity_checks(session: AwsSession, where: Places) -> list[Check]:
    """The checks that the others stand on."""
    asked = Asked("where credentials come from (SSO, instance metadata at 169.254.169.254:80)")
    return [
        Check(
            "credentials",
            lambda: check_credentials(session, where, asked),
            mend=f"{_SOURCES}; {_NETWORK}",
            asks=lambda: asked.whom,
        ),
        Check("region", lambda: check_region(session), mend=_SOURCES),
    ]


def service_checks(session: AwsSession, config: Config, where: Places) -> list[Check]:
    """The checks of buckets, tables and the cluster, and of the clock by what these answer."""
    checks = [_check("clock", session, _clock_of(where), lambda: check_clock(session, where), late="warning")]
    for bucket in where.buckets:
        checks.append(_bucket(session, bucket, is_written=config.cache != "read"))
    if where.assoc:
        mend = f"reflow setup-dynamodb-assoc {where.assoc}"
        checks.append(_table(session, "assoc", ASSOC, where.assoc, mend))
    if where.taskdb:
        mend = f"reflow setup-taskdb {where.taskdb} {where.taskdb_bucket}"
        checks.append(_table(session, "taskdb", TASKDB, where.taskdb, mend))
    if where.has_cluster:
        section = config.values.get("ec2cluster") or {}
        checks.append(_check("cluster", session, "ec2", lambda: check_cluster(session, section)))
    return checks


def _check(
    name: str, session: AwsSession, service: str, check: Callable[[], Finding], *, late: Status = "failed"
) -> Check:
    """A check that asks a service."""
    asked = Asked()

    def run() -> Finding:
        asked.service(session, service)
        return check()

    return Check(name, run, late=late, mend=_NETWORK, asks=lambda: asked.whom)


def services(where: Places) -> list[str]:
    """The services that these places need."""
    used = {"s3": where.buckets, "dynamodb": where.assoc or where.taskdb, "ec2": where.has_cluster}
    return [name for name, is_used in used.items() if is_used]


# ----------------------------------------------------------------------------- credentials, region, clock


def check_credentials(session: AwsSession, where: Places, asked: Asked) -> Finding:
    """Whether there are credentials, and whether AWS takes them."""
    try:
        source = str(session.credentials().method)
        return _check_source(session, where, source, asked)
    except SettingsError as err:
        return Finding("credentials", "failed", err.fault, err.advice)
    except ReflowError as err:
        return Finding("credentials", "failed", "none were found", str(err.cause).partition(": ")[2])


def _check_source(session: AwsSession, where: Places, source: str, asked: Asked) -> Finding:
    name = "credentials"
    cloud = Cloud(session, lambda text: None)
    if cloud.is_aws("sts") and not any(cloud.is_aws(service) for service in services(where)):
        return Finding(name, "ok", f"from {source} (not tried: the servers in use are not AWS's)")
    asked.service(session, "sts")
    try:
        who = call_once(session, "sts", "get_caller_identity")
    except CallError as err:
        if err.is_denied:
            return Finding(name, "failed", f"from {source}: AWS refuses them ({err.code})", _LOG_IN)
        if any(word in err.code for word in ("Credential", "SSO", "Token")):
            return Finding(name, "failed", f"from {source}: {err.cause}", _LOG_IN)
        return Finding(name, "warning", f"from {source}: could not be tried ({err.code})", _NETWORK)
    return Finding(name, "ok", f"from {source}: {who.get('Arn', 'unknown')}")


def check_region(session: AwsSession) -> Finding:
    """Whether a region is configured."""
    if session.setting("region"):
        return Finding("region", "ok", session.region)
    return Finding("region", "warning", f"none is configured, using {session.region}", "set AWS_REGION")


def check_clock(session: AwsSession, where: Places) -> Finding:
    """How far this machine's clock is from a server's."""
    match _clock_of(where):
        case "s3":
            date = _date(session, "s3", "head_bucket", Bucket=where.buckets[0])
        case "dynamodb":
            date = _date(session, "dynamodb", "describe_table", TableName=where.assoc or where.taskdb)
        case _:
            date = _date(session, "ec2", "describe_vpcs", MaxResults=5)
    if date is None:
        return Finding("clock", "warning", "not compared: no server answers", _NETWORK)
    if not date:
        return Finding("clock", "ok", "the server does not tell the time")
    return clock_finding(time.time() - parsedate_to_datetime(date).timestamp())


def _clock_of(where: Places) -> str:
    """The service whose clock is looked at."""
    return next(iter(services(where)), "ec2")


def clock_finding(skew_s: float) -> Finding:
    """What to make of a difference; positive: our clock is ahead."""
    size = abs(skew_s)
    if size < _SKEW_WARNING_S:
        return Finding("clock", "ok", f"within {_SKEW_WARNING_S:g} s of the server's")
    message = f"{size:.0f} s {'ahead of' if skew_s > 0 else 'behind'} the server's"
    mend = "set the clock by NTP (timedatectl set-ntp true)"
    if size > _SKEW_FAILED_S:
        return Finding("clock", "failed", f"{message}: requests are refused", mend)
    return Finding("clock", "warning", message, mend)


def _date(session: AwsSession, service: str, operation: str, **parameters: Any) -> str | None:
    """The time in an answer, whatever it says; None without an answer."""
    try:
        answer = call_once(session, service, operation, **parameters)
    except CallError as err:
        return err.date if err.is_answer else None
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date") or "")


# ------------------------------------------------------------------------------------------- buckets


def _bucket(session: AwsSession, bucket: str, *, is_written: bool) -> Check:
    name = f"bucket {bucket}"
    return _check(
        name,
        session,
        "s3",
        lambda: _refined(name, lambda: check_bucket(session, bucket, is_written=is_written)),
    )


def check_bucket(session: AwsSession, bucket: str, *, is_written: bool) -> Finding:
    """Whether a bucket is there and can be used. Raises CallError."""
    name = f"bucket {bucket}"
    call = partial(call_once, session, "s3")
    try:
        answer = head(call, bucket)
    except CallError as err:
        if err.is_missing:
            return Finding(
                name, "failed", "there is none of this name", f"reflow setup-s3-repository {bucket}"
            )
        raise
    if is_written:
        probe_with(call, bucket)
    region = str(answer.get("BucketRegion") or "")
    if Cloud(session, lambda text: None).is_aws("s3") and region and region != session.region:
        mend = f"set AWS_REGION={region}, unless this is meant"
        return Finding(
            name, "warning", f"is in {region}, this session in {session.region}: slow and costly", mend
        )
    return Finding(name, "ok", "can be read and written" if is_written else "can be read")


# -------------------------------------------------------------------------------------------- tables


def _table(session: AwsSession, key: str, table: Table, name: str, mend: str) -> Check:
    label = f"{key} {name}"
    return _check(
        label,
        session,
        "dynamodb",
        lambda: _refined(label, lambda: check_table(session, label, table, name, mend)),
    )


def check_table(session: AwsSession, label: str, table: Table, name: str, mend: str) -> Finding:
    """Whether a table is there with its indices, and can be read. Raises CallError."""
    try:
        now = call_once(session, "dynamodb", "describe_table", TableName=name)["Table"]
    except CallError as err:
        if err.is_missing:
            message = f"there is none of this name in {session.region}"
            return Finding(label, "failed", message, f"{mend} (or set AWS_REGION to that of the table)")
        raise
    wrong = faults(table, now)
    if wrong:
        return Finding(label, "failed", "; ".join(wrong), "use another table")
    missing = [index.name for index in lacking(table, now)]
    if missing:
        return Finding(label, "failed", f"indices are missing: {', '.join(missing)}", mend)
    call_once(session, "dynamodb", "get_item", TableName=name, Key={"ID": {"S": "sha256:"}})
    busy = is_busy(now)
    if busy:
        return Finding(label, "warning", f"waits for {busy}", "call reflow doctor again in some minutes")
    return Finding(label, "ok", f"can be read; {_count(len(table.indices))}")


def _count(number: int) -> str:
    return "1 index" if number == 1 else f"{number} indices"


def _refined(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds; a call that fails is told in terms of rights and network."""
    try:
        return check()
    except CallError as err:
        mend = _RIGHTS if err.is_denied else _NETWORK
        return Finding(name, "failed", err.fault, mend)


# ------------------------------------------------------------------------------------------- cluster


def check_cluster(session: AwsSession, section: Any) -> Finding:
    """Whether the security group of a cluster is there."""
    group = str(section.get("securitygroup") or "") if isinstance(section, dict) else ""
    if not group:
        return Finding("cluster", "failed", "no security group is configured", "reflow setup-ec2")

    def check() -> Finding:
        call_once(session, "ec2", "describe_security_groups", GroupIds=[group])
        return Finding("cluster", "ok", f"security group {group}")

    found = _refined("cluster", check)
    if "InvalidGroup" in found.message:
        mend = "take securitygroup: and cluster: out of the configuration file, then reflow setup-ec2"
        return Finding("cluster", "failed", f"security group {group} is not in {session.region}", mend)
    return found


def load_models(session: AwsSession, where: Places) -> None:
    """Read botocore's descriptions of services beforehand: that takes a while, and is no fault of theirs."""
    from botocore.exceptions import BotoCoreError

    with contextlib.suppress(BotoCoreError):  # files of AWS's that are wrong: checks say so
        for name in ("sts", *services(where)):
            session.botocore.get_service_model(name)
