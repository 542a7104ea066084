"""Buckets that setup makes, makes safe, or finds, and what it says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reflow.core.errors import ReflowError
from reflow.runtime import setup_pending
from reflow.runtime.setup import Verb, assoc, taskdb
from reflow.runtime.setup_bucket import ensure_bucket
from reflow.runtime.setup_secure import ASPECTS, tls_statement
from tests.unit.runtime.fakecloud import Answer, FakeCloud, changing, refusal

pytestmark = pytest.mark.usefixtures("own_home")

OURS = {"list_buckets": {"Buckets": [{"Name": "bucket"}]}, "head_bucket": {"BucketRegion": "us-west-2"}}
SAFE = {
    "get_public_access_block": {
        "PublicAccessBlockConfiguration": dict.fromkeys(
            ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True
        )
    },
    "get_bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": [{"any": "rule"}]}},
    "get_bucket_policy": {"Policy": json.dumps({"Statement": tls_statement("bucket", "aws")})},
    "get_bucket_lifecycle_configuration": {
        "Rules": [{"Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]
    },
}


def test_a_new_bucket_is_made_safe() -> None:
    cloud = FakeCloud({"head_bucket": refusal("404", 404)})
    ensure_bucket(cloud, "bucket")
    assert changing(cloud) == ["create_bucket", *[aspect.put for aspect in ASPECTS]]
    assert cloud.said == ["creating s3 bucket bucket", "created s3 bucket bucket"]
    assert setup_pending.pending() == set()


def test_a_bucket_that_exists_is_used_as_it_is_and_what_it_lacks_is_said() -> None:
    cloud = FakeCloud({**OURS, "get_bucket_policy": refusal("NoSuchBucketPolicy", 404)})
    ensure_bucket(cloud, "bucket")
    assert changing(cloud) == []
    assert "public access is not blocked; objects are not encrypted by default" in cloud.said[-1]


def test_a_safe_bucket_is_not_talked_about() -> None:
    cloud = FakeCloud({**OURS, **SAFE})
    ensure_bucket(cloud, "bucket")
    assert cloud.said == ["s3 bucket bucket already exists; not created"]


def test_on_demand_a_bucket_that_exists_is_made_safe_and_its_own_rules_stay() -> None:
    policies: list[dict[str, Any]] = []
    rules: list[dict[str, Any]] = []

    def put_policy(**sent: Any) -> dict[str, Any]:
        policies.extend(json.loads(sent["Policy"])["Statement"])
        return {}

    def put_rules(**sent: Any) -> dict[str, Any]:
        rules.extend(sent["LifecycleConfiguration"]["Rules"])
        return {}

    mine = {"Sid": "Mine", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}
    cloud = FakeCloud(
        {
            **OURS,
            "get_bucket_policy": {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [mine]})},
            "get_bucket_lifecycle_configuration": {"Rules": [{"ID": "mine", "Status": "Enabled"}]},
            "put_bucket_policy": put_policy,
            "put_bucket_lifecycle_configuration": put_rules,
        }
    )
    ensure_bucket(cloud, "bucket", is_secured=True)
    assert policies == [mine, tls_statement("bucket", "aws")]
    assert [rule["ID"] for rule in rules] == ["mine", "reflow-incomplete-uploads"]


def test_nothing_is_made_safe_where_that_is_not_wanted() -> None:
    cloud = FakeCloud({"head_bucket": refusal("404", 404)})
    ensure_bucket(cloud, "bucket", is_secured=False)
    assert changing(cloud) == ["create_bucket"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"head_bucket": refusal("403", 403)}, "it is somebody else's, or you have no right to it"),
        ({"head_bucket": {"BucketRegion": "eu-west-1"}}, "it is in eu-west-1, and this session in us-west-2"),
        ({**OURS, "list_buckets": {"Buckets": []}}, "it belongs to another account"),
        (
            {"head_bucket": refusal("400"), "get_bucket_location": refusal("ExpiredToken")},
            "because (ExpiredToken)",
        ),
        ({**OURS, **SAFE, "put_object": refusal("AccessDenied", 403)}, "it cannot be written to and read"),
        ({**OURS, **SAFE, "head_object": refusal("403", 403)}, "it cannot be written to and read"),
        (
            {"head_bucket": refusal("404", 404), "create_bucket": refusal("BucketAlreadyExists", 409)},
            "the name is taken by somebody else",
        ),
        (
            {"head_bucket": refusal("404", 404), "put_bucket_policy": refusal("AccessDenied", 403)},
            "it is there, but not made safe",
        ),
    ],
)
def test_a_bucket_that_cannot_be_used_is_an_error_that_says_why(answers: dict[str, Any], error: str) -> None:
    with pytest.raises(ReflowError) as caught:
        ensure_bucket(FakeCloud(answers), "bucket")
    assert error in str(caught.value)


@pytest.mark.parametrize("name", ["ab", "Upper", "a_b", "-ab", "a..b", "x" * 64, "a b", "192.168.1.1"])
def test_names_that_no_bucket_can_have_are_refused_before_any_call(name: str) -> None:
    cloud = FakeCloud({})
    with pytest.raises(ReflowError, match="no name for a bucket"):
        ensure_bucket(cloud, name)
    assert cloud.calls == []


def test_of_versions_that_may_not_be_deleted_a_marker_is_left() -> None:
    deleted: list[dict[str, Any]] = []

    def delete(**sent: Any) -> Answer:
        deleted.append(sent)
        return refusal("AccessDenied", 403) if "VersionId" in sent else {}

    answers = {**OURS, **SAFE, "put_object": {"VersionId": "1"}, "delete_object": delete}
    ensure_bucket(FakeCloud(answers), "bucket")
    assert [sent.get("VersionId") for sent in deleted] == ["1", None]


@pytest.mark.parametrize(
    "verb",
    [assoc("ab"), assoc("with blank"), assoc("né-table"), assoc("x" * 256), taskdb("a b", "bucket")],
)
def test_names_that_no_table_can_have_are_refused_before_any_call(verb: Verb) -> None:
    cloud = FakeCloud({})
    with pytest.raises(ReflowError, match="no name for a table: want 3 to 255"):
        verb.make(cloud)
    assert cloud.calls == []


def test_a_record_of_runs_is_not_begun_with_a_bucket_that_cannot_be() -> None:
    cloud = FakeCloud({})
    with pytest.raises(ReflowError, match="no name for a bucket"):
        taskdb("table", "Bad Bucket").make(cloud)
    assert cloud.calls == []


def test_who_may_not_list_buckets_is_told_that_the_owner_is_unknown() -> None:
    cloud = FakeCloud({**OURS, **SAFE, "list_buckets": refusal("AccessDenied", 403)})
    ensure_bucket(cloud, "bucket")
    assert "whose it is could not be found out" in cloud.said[-1]


def test_a_bucket_of_a_setup_that_failed_is_made_safe_by_the_next() -> None:
    failing = FakeCloud(
        {"head_bucket": refusal("404", 404), "put_bucket_policy": refusal("AccessDenied", 403)}
    )
    with pytest.raises(ReflowError):
        ensure_bucket(failing, "bucket")
    cloud = FakeCloud(OURS)
    ensure_bucket(cloud, "bucket")
    assert changing(cloud) == [aspect.put for aspect in ASPECTS]
    assert setup_pending.pending() == set()


def test_other_servers_may_do_without_what_they_do_not_know() -> None:
    cloud = FakeCloud(
        {"head_bucket": refusal("404", 404), "put_bucket_encryption": refusal("NotImplemented", 501)},
        is_aws=False,
    )
    ensure_bucket(cloud, "bucket")
    assert (
        "note: s3 bucket bucket: encryption: this server does not support it (NotImplemented)" in cloud.said
    )


def test_a_setting_that_a_server_takes_too_far_is_taken_back() -> None:
    blocks: list[dict[str, bool]] = []

    def put_block(**sent: Any) -> dict[str, Any]:
        blocks.append(sent["PublicAccessBlockConfiguration"])
        return {}

    def put_object(**_: object) -> Answer:
        return refusal("AccessDenied", 403) if blocks and blocks[-1].get("BlockPublicAcls") else {}

    former = {"BlockPublicPolicy": True}
    answers: dict[str, Any] = {"put_public_access_block": put_block, "put_object": put_object}
    cloud = FakeCloud({"head_bucket": refusal("404", 404), **answers}, is_aws=False)
    ensure_bucket(cloud, "bucket")
    assert [block["BlockPublicAcls"] for block in blocks] == [True, False]
    answers["put_object"] = refusal("AccessDenied", 403)
    answers["get_public_access_block"] = {"PublicAccessBlockConfiguration": former}
    with pytest.raises(ReflowError, match="it cannot be written to"):
        ensure_bucket(FakeCloud({**OURS, **answers}, is_aws=False), "bucket", is_secured=True)
    assert blocks[-1] == former


def test_what_an_earlier_try_left_too_strict_is_mended() -> None:
    policies = [json.dumps({"Statement": tls_statement("bucket", "aws")})]

    def put_policy(**sent: Any) -> dict[str, Any]:
        policies.append(sent["Policy"])
        return {}

    def put_object(**_: object) -> Answer:
        return refusal("AccessDenied", 403) if '"s3:*"' in policies[-1] else {}

    setup_pending.begin("bucket")
    answers = {**OURS, **SAFE, "put_bucket_policy": put_policy, "put_object": put_object}
    answers["get_bucket_policy"] = lambda **_: {"Policy": policies[-1]}
    answers["delete_bucket_policy"] = lambda **_: policies.append("{}") or {}
    ensure_bucket(FakeCloud(answers, is_aws=False), "bucket")
    (statement,) = json.loads(policies[-1])["Statement"]
    assert statement["Action"] == "S3:*"


def test_a_policy_that_would_lock_us_out_is_not_set() -> None:
    policies: list[str] = []

    def put_policy(**sent: Any) -> dict[str, Any]:
        policies.append(sent["Policy"])
        return {}

    cloud = FakeCloud(
        {
            "head_bucket": refusal("404", 404),
            "put_bucket_policy": put_policy,
            "get_bucket_location": refusal("AccessDenied", 403),
        },
        is_aws=False,
    )
    ensure_bucket(cloud, "bucket")
    assert ["s3:*" in policy for policy in policies] == [False]
    assert "delete_bucket_policy" in cloud.calls
    assert "not TLS only: the endpoint in use is plain HTTP" in cloud.said[-1]
