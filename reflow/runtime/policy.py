"""The least that each role must be allowed to do at AWS, as documents of IAM.

A driver is the machine on which ``reflow run`` is called; a node is one of a cluster's; ``read-only`` is for
people who look at runs and results, or run with ``-cache=read``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reflow.runtime.config import Config, ConfigError

ROLES = ("driver", "node", "read-only")

Statement = dict[str, Any]


class Places(NamedTuple):
    """What the statements are about; empty for what is not used.

    ``inputs`` and ``results`` are buckets of the user's own: read by programs, and written by them.
    """

    repository: str = ""
    assoc: str = ""
    taskdb: str = ""
    taskdb_bucket: str = ""
    inputs: Sequence[str] = ()
    results: Sequence[str] = ()
    has_cluster: bool = False
    instance_profile: str = ""

    @property
    def buckets(self) -> list[str]:
        """The buckets of Reflow itself."""
        return sorted({name for name in (self.repository, self.taskdb_bucket) if name})


def places(config: Config, inputs: Sequence[str] = (), results: Sequence[str] = ()) -> Places:
    """What a configuration uses of AWS. Raises ConfigError when that is nothing."""
    flags = {}
    for key, provider in (("repository", "s3"), ("assoc", "dynamodbassoc"), ("taskdb", "dynamodbtask")):
        choice = config.choice(key)
        flags[key] = choice.flags if choice is not None and choice.provider == provider else {}
    section = config.values.get("ec2cluster") or {}
    found = Places(
        repository=flags["repository"].get("bucket", ""),
        assoc=flags["assoc"].get("table", ""),
        taskdb=flags["taskdb"].get("table", ""),
        taskdb_bucket=flags["taskdb"].get("bucket", ""),
        inputs=tuple(inputs),
        results=tuple(results),
        has_cluster=config.provider("cluster") == "ec2cluster",
        instance_profile=str(section.get("instanceprofile") or "") if isinstance(section, dict) else "",
    )
    if found == Places():
        raise ConfigError(
            "nothing of AWS is configured: set it up first (reflow setup-s3-repository, setup-dynamodb-assoc,"
            " setup-taskdb), or name buckets with -inputs and -results"
        )
    return found


# ---------------------------------------------------------------------------------------- statements

_READ_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket")
_READ_OBJECTS = ("s3:GetObject",)
_WRITE_BUCKET = (*_READ_BUCKET, "s3:ListBucketMultipartUploads")
_WRITE_OBJECTS = (
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
)
_VERSIONS = ("s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:ListBucketVersions")
_READ_TABLE = ("dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query")
_WRITE_TABLE = (
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:DescribeTable",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateItem",
)
_ROW_TABLE = ("dynamodb:DescribeTable", "dynamodb:PutItem", "dynamodb:UpdateItem")
_LAUNCH = (
    "ec2:CancelSpotInstanceRequests",
    "ec2:CreateTags",
    "ec2:RequestSpotInstances",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
)
_LOOK_AT_MACHINES = (
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotInstanceRequests",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:GetSpotPlacementScores",
    "ssm:GetParameter",
)
_PULL = ("ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer")
_GROW_VOLUMES = ("ec2:DescribeVolumes", "ec2:DescribeVolumesModifications", "ec2:ModifyVolume")
_LOG = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogGroups", "logs:PutLogEvents")


def policy(role: str, where: Places, partition: str = "aws") -> dict[str, Any]:
    """The document for a role. Raises ConfigError for an unknown one."""
    makers = {"driver": _driver, "node": _node, "read-only": _reader}
    if role not in makers:
        raise ConfigError(f"unknown role {role}: want one of {', '.join(ROLES)}")
    statements = [each for each in makers[role](where, partition) if each["Resource"]]
    return {"Version": "2012-10-17", "Statement": statements}


def _driver(where: Places, partition: str) -> list[Statement]:
    found = [
        *_own_buckets(where, partition, _WRITE_OBJECTS),
        _statement("Versions", _VERSIONS, _buckets(filter(None, [where.repository]), partition)),
        _tables("Tables", (where.assoc, where.taskdb), partition, _WRITE_TABLE),
        *_users_buckets(where, partition),
    ]
    if where.has_cluster:
        found += [
            _statement("Machines", (*_LAUNCH, *_LOOK_AT_MACHINES, _PULL[1]), ["*"]),
            _pass_role(where, partition),
        ]
    return found


def _node(where: Places, partition: str) -> list[Statement]:
    return [
        *_own_buckets(where, partition, _WRITE_OBJECTS),
        _tables("Tables", (where.taskdb,), partition, _ROW_TABLE),
        *_users_buckets(where, partition),
        _statement("Machine", (*_PULL, *_GROW_VOLUMES, *_LOG), ["*"]),
    ]


def _reader(where: Places, partition: str) -> list[Statement]:
    return [
        *_own_buckets(where, partition, _READ_OBJECTS),
        _tables("Tables", (where.assoc, where.taskdb), partition, _READ_TABLE),
        *_pair("Inputs", [*where.inputs, *where.results], partition, _READ_OBJECTS),
    ]


def _own_buckets(where: Places, partition: str, objects: Sequence[str]) -> list[Statement]:
    return _pair("Own", where.buckets, partition, objects)


def _users_buckets(where: Places, partition: str) -> list[Statement]:
    return [
        *_pair("Inputs", where.inputs, partition, _READ_OBJECTS),
        *_pair("Results", where.results, partition, _WRITE_OBJECTS),
    ]


def _pair(name: str, buckets: Sequence[str], partition: str, objects: Sequence[str]) -> list[Statement]:
    """A statement for buckets, and one for the objects in them."""
    bucket_actions = _WRITE_BUCKET if objects is _WRITE_OBJECTS else _READ_BUCKET
    arns = _buckets(buckets, partition)
    return [
        _statement(f"{name}Buckets", bucket_actions, arns),
        _statement(f"{name}Objects", objects, [f"{arn}/*" for arn in arns]),
    ]


def _buckets(names: Iterable[str], partition: str) -> list[str]:
    return [f"arn:{partition}:s3:::{name}" for name in sorted(set(names))]


def _tables(name: str, tables: Sequence[str], partition: str, actions: Sequence[str]) -> Statement:
    """Tables and their indices, in whatever region and account they are used."""
    arns = [f"arn:{partition}:dynamodb:*:*:table/{table}" for table in sorted({t for t in tables if t})]
    return _statement(name, actions, [each for arn in arns for each in (arn, f"{arn}/index/*")])


def _pass_role(where: Places, partition: str) -> Statement:
    """Needed to launch machines with a profile; only such as EC2 takes over."""
    role = where.instance_profile.rpartition("/")[2] or "*"
    return {
        **_statement("Profile", ("iam:PassRole",), [f"arn:{partition}:iam::*:role/{role}"]),
        "Condition": {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}},
    }


def _statement(sid: str, actions: Sequence[str], resources: list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resources}
