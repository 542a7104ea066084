"""The setup verbs: make what a key of the configuration needs, then write the key.

Each may be repeated, also after a failure at any point: what is there is found again, and the file is written
last. Nothing secret is ever written to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reflow.aws.tables import ASSOC, TASKDB
from reflow.runtime.config import ConfigError, mapping, parse_choice, parse_document
from reflow.runtime.provider import KEYS
from reflow.runtime.setup_bucket import check_bucket_name, ensure_bucket
from reflow.runtime.setup_call import Cloud, require_credentials
from reflow.runtime.setup_ec2 import ANYWHERE, ensure_group, section
from reflow.runtime.setup_file import change_file, make_directory, make_private, read_text
from reflow.runtime.setup_table import check_table_name, ensure_table

Document = dict[str, Any]

SHARED_AUTHORITY = "/tmp/ca.reflow"
"""The original's default for certificates: anybody on the machine can put a file there first."""

VERSIONS = {"s3": 0, "dynamodbassoc": ASSOC.version, "dynamodbtask": TASKDB.version, "ec2cluster": 0}
"""Schema versions of providers, as the original records them."""

_NONE = frozenset({"noprepo", "noptaskdb"})


class Verb(NamedTuple):
    """What is to be set: a key, the provider with its flags, and what must be there for it."""

    key: str
    value: str
    make: Callable[[Cloud], None]

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.value.partition(",")[0]


def _named(what: str, name: str) -> str:
    """The name of a bucket or table, as a flag of a provider can have it. Raises ConfigError."""
    if not name or "," in name:
        raise ConfigError(f"{name!r} is no name for a {what}")
    return name


def repository(bucket: str, *, is_secured: bool | None = None) -> Verb:
    """Objects in an S3 bucket."""
    return Verb(
        "repository",
        f"s3,bucket={_named('bucket', bucket)}",
        lambda cloud: ensure_bucket(cloud, bucket, is_secured=is_secured),
    )


def assoc(table: str, *, has_recovery: bool = False) -> Verb:
    """The cache's index in a DynamoDB table."""

    def make(cloud: Cloud) -> None:
        check_table_name(table)
        ensure_table(cloud, ASSOC, table, has_recovery=has_recovery)

    return Verb("assoc", f"dynamodbassoc,table={_named('table', table)}", make)


def taskdb(table: str, bucket: str, *, has_recovery: bool = False, is_secured: bool | None = None) -> Verb:
    """The record of runs in a DynamoDB table, with logs in an S3 bucket."""

    def make(cloud: Cloud) -> None:
        check_table_name(table)
        check_bucket_name(bucket)
        ensure_table(cloud, TASKDB, table, has_recovery=has_recovery)
        ensure_bucket(cloud, bucket, is_secured=is_secured)

    value = f"dynamodbtask,table={_named('table', table)},bucket={_named('bucket', bucket)}"
    return Verb("taskdb", value, make)


def set_up(path: str, verb: Verb, cloud: Cloud) -> None:
    """Make what is needed, then write the key to the file. Raises ReflowError, ConfigError, OSError."""
    make_directory(path)
    document = parse_document(path, read_text(path))
    mapping(path, document, "versions")
    check_key(verb, document, cloud.say)
    require_credentials(cloud.session)
    verb.make(cloud)
    write(path, {verb.key: verb.value}, verb.provider, cloud.say)


def check_key(verb: Verb, document: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Refuse to replace what somebody has set up already, and to use a table for both. Raises ConfigError."""
    _check_table(verb, document)
    present = document.get(verb.key)
    if not present:
        return
    now, wanted = parse_choice(verb.key, present), parse_choice(verb.key, verb.value)
    if now == wanted:
        say(f"{verb.key} already set up; checking it")
    elif now.provider in _NONE or present == KEYS[verb.key].default:
        say(f"replacing {now.provider} with {wanted.provider}")
    elif verb.key == "taskdb":
        _check_taskdb(now.provider, wanted.provider, present, say)
    else:
        said = {
            "repository": f"{present} repository already set up; cannot set up {wanted.provider} repository",
            "assoc": f"assoc already setup: {present}",
        }
        raise ConfigError(f"{said[verb.key]} (to change it, take the line {verb.key}: out of the file first)")


def _check_table(verb: Verb, document: Mapping[str, Any]) -> None:
    table = parse_choice(verb.key, verb.value).flags.get("table")
    for other in ("assoc", "taskdb"):
        present = document.get(other) if other != verb.key else None
        if table and present and parse_choice(other, present).flags.get("table") == table:
            raise ConfigError(f"table {table} is the one of {other}, want another for {verb.key}")


def _check_taskdb(now: str, wanted: str, present: str, say: Callable[[str], None]) -> None:
    if now != wanted:
        raise ConfigError(
            f"taskdb configured, but unexpected provider type '{now}' (must be '{wanted}');"
            " to change it, take the line taskdb: out of the file first"
        )
    say(f"replacing taskdb {present}")


def set_up_ec2(path: str, cloud: Cloud, *, source: str = ANYWHERE) -> None:
    """Make the security group, then write a cluster's settings. Raises as `set_up`."""
    make_directory(path)
    document = parse_document(path, read_text(path))
    present = document.get("cluster")
    if present and present not in ("ec2cluster", KEYS["cluster"].default):
        raise ConfigError(
            f"cluster already setup: {present} (to change it, take the line cluster: out of the file first)"
        )
    mapping(path, document, "versions")
    settings = mapping(path, document, "ec2cluster")
    require_credentials(cloud.session)
    group = settings.get("securitygroup") or ensure_group(cloud, source)
    changes = {"cluster": "ec2cluster", "ec2cluster": section(settings, group)}
    if not document.get("tls"):
        changes["tls"] = own_authority(path)
    write(path, changes, "ec2cluster", cloud.say)


def own_authority(path: str) -> str:
    """The value of ``tls`` for an authority beside the configuration file."""
    return f"tls,file={os.path.join(os.path.dirname(os.path.abspath(path)), 'reflow.pem')}"


# ------------------------------------------------------------------------------------------- the file


def write(path: str, changes: Mapping[str, Any], provider: str, say: Callable[[str], None]) -> None:
    """Write keys, with the version of their provider; and take out what should not be in the file."""

    def decide(document: Document) -> Document:
        versions = {**mapping(path, document, "versions"), provider: VERSIONS[provider]}
        return {**cleaned(path, document, say), **changes, "versions": versions}

    change_file(path, decide)
    make_private(path)


def cleaned(path: str, document: Document, say: Callable[[str], None]) -> Document:
    """The changes that take secrets and what is unsafe out of a file of the original.

    Of saved instances those stay, under keys of their own, that are settings.
    """
    changes: Document = {}
    if "instances" in document:
        changes["instances"] = None
        changes |= {k: v for k, v in settings_of(document["instances"]).items() if k not in document}
        say("saved credentials and keys (instances) are taken out of the configuration file")
    if document.get("tls") == f"tls,file={SHARED_AUTHORITY}":
        changes["tls"] = own_authority(path)
        say(f"tls: {SHARED_AUTHORITY} is open to all users of this machine; using {changes['tls'][9:]}")
    return changes


def settings_of(instances: object) -> Document:
    """Those of the saved instances that are settings, and neither credentials nor keys."""
    if not isinstance(instances, dict):
        return {}
    with_section = {each.name for key in KEYS.values() for each in key.providers if each.has_section}
    return {name: value for name, value in instances.items() if name in with_section and value}
