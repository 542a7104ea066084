from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from reflow.runtime.config import Config, ConfigError
from reflow.runtime.policy import ROLES, Places, places, policy

SHARED = Places(repository="cache", assoc="index", taskdb="runs", taskdb_bucket="logs")


def allowed(document: dict[str, Any]) -> dict[str, set[str]]:
    """Actions by what they are allowed on."""
    found: dict[str, set[str]] = {}
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            found.setdefault(resource, set()).update(statement["Action"])
    return found


def test_a_configuration_without_aws_needs_no_policy() -> None:
    with pytest.raises(ConfigError, match="nothing of AWS is configured"):
        places(Config({"repository": "file", "assoc": "sqlite", "taskdb": "sqlite"}))


def test_places_come_from_the_configuration() -> None:
    config = Config(
        {
            "repository": "s3,bucket=cache",
            "assoc": "dynamodbassoc,table=index",
            "taskdb": "dynamodbtask,table=runs,bucket=logs",
            "cluster": "ec2cluster",
            "ec2cluster": {"instanceprofile": "arn:aws:iam::1:instance-profile/worker"},
        }
    )
    assert places(config) == SHARED._replace(
        has_cluster=True, instance_profile="arn:aws:iam::1:instance-profile/worker"
    )


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_on_everything_but_machines(role: str) -> None:
    where = SHARED._replace(has_cluster=True, inputs=("reads",), results=("out",))
    for resource, actions in allowed(policy(role, where)).items():
        assert not any("*" in action for action in actions)
        if resource == "*":
            assert {action.partition(":")[0] for action in actions} <= {"ec2", "ecr", "logs", "ssm"}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_change_buckets_or_tables_themselves(role: str) -> None:
    actions = set().union(*allowed(policy(role, SHARED._replace(has_cluster=True))).values())
    changing = [
        action for action in actions if action.partition(":")[2].startswith(("Delete", "Create", "Put"))
    ]
    assert set(changing) <= {
        "dynamodb:DeleteItem",
        "dynamodb:PutItem",
        "ec2:CreateTags",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:DeleteObject",
        "s3:PutObject",
    }


def test_read_only_writes_nothing() -> None:
    document = policy("read-only", SHARED._replace(inputs=("reads",), results=("out",)))
    actions = set().union(*allowed(document).values())
    verbs = {action.partition(":")[2] for action in actions}
    assert all(verb.startswith(("Get", "List", "Describe", "Query", "BatchGet")) for verb in verbs)


def test_only_who_collects_looks_at_versions_and_only_of_the_repository() -> None:
    wanted = {"s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:ListBucketVersions"}
    having = {
        (role, resource)
        for role in ROLES
        for resource, actions in allowed(policy(role, SHARED)).items()
        if wanted & actions
    }
    assert having == {("driver", "arn:aws:s3:::cache")}
    assert wanted <= allowed(policy("driver", SHARED))["arn:aws:s3:::cache"]


def test_users_inputs_are_read_and_results_written() -> None:
    found = allowed(policy("driver", SHARED._replace(inputs=("reads",), results=("out",))))
    assert found["arn:aws:s3:::reads/*"] == {"s3:GetObject"}
    assert "s3:PutObject" in found["arn:aws:s3:::out/*"]
    assert found["arn:aws:s3:::reads"] == {"s3:GetBucketLocation", "s3:ListBucket"}


def test_tables_are_allowed_with_their_indices_and_only_those() -> None:
    found = allowed(policy("driver", SHARED))
    tables = {resource for resource in found if ":dynamodb:" in resource}
    assert tables == {
        "arn:aws:dynamodb:*:*:table/index",
        "arn:aws:dynamodb:*:*:table/index/index/*",
        "arn:aws:dynamodb:*:*:table/runs",
        "arn:aws:dynamodb:*:*:table/runs/index/*",
    }


def test_a_node_reads_no_cache_index() -> None:
    found = allowed(policy("node", SHARED))
    assert not any("table/index" in resource for resource in found)


def test_a_role_is_handed_on_to_ec2_only() -> None:
    where = SHARED._replace(has_cluster=True, instance_profile="arn:aws:iam::1:instance-profile/worker")
    (passed,) = [each for each in policy("driver", where)["Statement"] if each["Sid"] == "Profile"]
    assert passed["Resource"] == ["arn:aws:iam::*:role/worker"]
    assert passed["Condition"] == {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}}
    assert not [each for each in policy("driver", SHARED)["Statement"] if each["Sid"] == "Profile"]


def test_other_partitions_have_other_names() -> None:
    found = allowed(policy("driver", SHARED, "aws-cn"))
    assert all(resource.startswith("arn:aws-cn:") for resource in found)


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown role king: want one of driver, node, read-only"):
        policy("king", SHARED)


# What the code asks for.

ROOT = Path(__file__).parents[3] / "reflow"
STORES = [
    "assoc",
    "blob",
    "repository",
    "taskdb",
    "runtime/doctor_aws.py",
    "runtime/noncurrent.py",
    "runtime/setup_probe.py",
]
S3_ACTIONS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "copy_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "get_bucket_location": "s3:GetBucketLocation",
    "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
    "get_object": "s3:GetObject",
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_object_versions": "s3:ListBucketVersions",
    "list_objects_v2": "s3:ListBucket",
    "list_parts": "s3:ListMultipartUploadParts",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
}


def operations(service: str) -> dict[str, str]:
    """The IAM actions of a service's operations, by their names in Python."""
    import botocore.session
    from botocore import xform_name

    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name): f"{service}:{name}" for name in model.operation_names}
    return {
        name: S3_ACTIONS.get(name, action) if service == "s3" else action for name, action in names.items()
    }


def words(path: Path) -> set[str]:
    """Names of attributes, and texts, in a module that knows of AWS's clients."""
    text = path.read_text(encoding="utf-8")
    if "aws" not in text and "boto" not in text and "Cloud" not in text:
        return set()
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_a_driver_may_do_whatever_the_stores_do() -> None:
    modules = [
        path for name in STORES for path in ([ROOT / name] if "." in name else (ROOT / name).glob("*.py"))
    ]
    used = set().union(*(words(path) for path in modules))
    known = {**operations("s3"), **operations("dynamodb")}
    asked = {action for name, action in known.items() if name in used}
    assert {"s3:PutObject", "dynamodb:GetItem"} <= asked
    assert asked <= set().union(*allowed(policy("driver", SHARED)).values())
