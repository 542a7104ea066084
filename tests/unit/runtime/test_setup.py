from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reflow.aws.tables import ASSOC, TASKDB, Table, creation
from reflow.core.errors import ReflowError
from reflow.runtime import setup_pending
from reflow.runtime.config import Config, ConfigError, load_config
from reflow.runtime.setup import (
    Verb,
    assoc,
    check_key,
    cleaned,
    repository,
    set_up,
    set_up_ec2,
    taskdb,
    write,
)
from reflow.runtime.setup_bucket import ensure_bucket
from reflow.runtime.setup_call import CallError, Cloud
from reflow.runtime.setup_ec2 import ensure_group, instance_types, section
from reflow.runtime.setup_secure import ASPECTS, tls_statement
from reflow.runtime.setup_table import ensure_table, faults, lacking, stranger
from reflow.runtime.setup_upgrade import outdated
from tests.unit.runtime.fakecloud import Answer, FakeCloud, refusal

ORIGINAL = Path(__file__).parents[2] / "data" / "config" / "original.yaml"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# Keys.


@pytest.mark.parametrize("present", [None, "", "noprepo", "file", "s3,bucket=b"])
def test_what_is_unset_built_in_or_the_same_may_be_set(present: str | None) -> None:
    check_key(repository("b"), {"repository": present}, lambda text: None)


@pytest.mark.parametrize(
    ("verb", "present", "error"),
    [
        (
            repository("b"),
            "s3,bucket=a",
            "s3,bucket=a repository already set up; cannot set up s3 repository",
        ),
        (repository("b"), "file,dir=/x", "file,dir=/x repository already set up"),
        (assoc("b"), "dynamodbassoc,table=a", "assoc already setup: dynamodbassoc,table=a"),
        (taskdb("t", "b"), "sqlite,file=/x", "unexpected provider type 'sqlite' (must be 'dynamodbtask')"),
    ],
)
def test_what_somebody_has_set_up_is_not_replaced(verb: Verb, present: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_key(verb, {verb.key: present}, lambda text: None)
    assert error in str(caught.value)


def test_another_taskdb_replaces_the_first_and_says_so() -> None:
    said: list[str] = []
    check_key(taskdb("t", "b"), {"taskdb": "dynamodbtask,table=t,bucket=a"}, said.append)
    assert said == ["replacing taskdb dynamodbtask,table=t,bucket=a"]


def test_one_table_cannot_be_both() -> None:
    with pytest.raises(ConfigError, match="table t is the one of assoc"):
        check_key(taskdb("t", "b"), {"assoc": "dynamodbassoc,table=t"}, lambda text: None)


@pytest.mark.parametrize("make", [repository, assoc, lambda name: taskdb("t", name)])
@pytest.mark.parametrize("name", ["", "a,b"])
def test_names_that_a_value_cannot_hold_are_refused(make: Callable[[str], Verb], name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a"):
        make(name)


# The file of the original.


def test_a_file_of_the_original_is_read() -> None:
    config = load_config(str(ORIGINAL))
    assert config.choice("repository") == ("s3", {"bucket": "lab-cache"})
    assert config.choice("taskdb") == ("dynamodbtask", {"bucket": "lab-cache", "table": "lab-runs"})
    assert config.provider("cluster") == "ec2cluster"
    assert config.values["ec2cluster"]["securitygroup"] == "sg-0123456789"
    assert outdated(config) == []


def test_secrets_of_the_original_go_and_everything_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(ORIGINAL.read_text())
    said: list[str] = []
    write(str(path), {"assoc": "dynamodbassoc,table=other"}, "dynamodbassoc", said.append)
    before, after = yaml.safe_load(ORIGINAL.read_text()), yaml.safe_load(path.read_text())
    for word in ("AKIAEXAMPLE", "secretaccesskey", "PRIVATE KEY", "/tmp/ca.reflow"):
        assert word not in path.read_text()
    assert after.pop("assoc") == "dynamodbassoc,table=other"
    assert after.pop("tls") == f"tls,file={tmp_path}/reflow.pem"
    assert after.pop("predictorconfig") == {"mindata": 7}
    assert after.pop("reflowletconfig") == before["instances"]["reflowletconfig"]
    for key in ("assoc", "tls", "instances"):
        del before[key]
    assert after == before
    assert len(said) == 2


def test_an_authority_of_ones_own_stays() -> None:
    assert cleaned("/x/config.yaml", {"tls": "tls,file=/home/ann/ca.pem"}, print) == {}


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        (None, ["repository", "assoc", "taskdb"]),
        ({"s3": 0, "dynamodbassoc": 1, "dynamodbtask": 1}, ["taskdb"]),
        ({"s3": 0, "dynamodbassoc": 1, "dynamodbtask": 3}, []),
        ("nonsense", ["repository", "assoc", "taskdb"]),
    ],
)
def test_old_and_unrecorded_versions_are_brought_up(versions: object, wanted: list[str]) -> None:
    values = {
        "repository": "s3,bucket=b",
        "assoc": "dynamodbassoc,table=t",
        "taskdb": "dynamodbtask,table=u,bucket=b",
        "cluster": "localcluster",
        "versions": versions,
    }
    assert outdated(Config(values)) == wanted


@pytest.mark.parametrize("text", ["versions: all\n", "versions: [s3]\n"])
def test_versions_that_are_none_are_refused_before_anything_is_made(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    cloud = FakeCloud({})
    with pytest.raises(ConfigError, match=r"versions: got (text|a list) \(.*\), want a mapping"):
        set_up(str(path), repository("bucket"), cloud)
    assert (cloud.calls, path.read_text()) == ([], text)


def test_settings_of_a_cluster_that_are_none_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("ec2cluster: big\n")
    cloud = FakeCloud({})
    with pytest.raises(ConfigError, match=r"ec2cluster: got text \(big\), want a mapping"):
        set_up_ec2(str(path), cloud)
    assert cloud.calls == []


# Buckets.

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


def changing(cloud: FakeCloud) -> list[str]:
    """The calls that change something, those of the probe aside."""
    return [name for name in cloud.calls if name.startswith(("put_bucket", "put_public", "create", "update"))]


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


# Tables.


def described(table: Table, **changes: Any) -> dict[str, Any]:
    made = creation(table, "t")
    indices = [{**each, "IndexStatus": "ACTIVE"} for each in made["GlobalSecondaryIndexes"]]
    return {**made, "TableStatus": "ACTIVE", "GlobalSecondaryIndexes": indices, **changes}


@pytest.mark.parametrize("table", [ASSOC, TASKDB])
def test_a_table_that_we_make_is_right(table: Table) -> None:
    assert faults(table, described(table)) == []
    assert lacking(table, described(table)) == []


def test_a_table_with_another_key_is_wrong() -> None:
    key = [{"AttributeName": "Name", "KeyType": "HASH"}, {"AttributeName": "When", "KeyType": "RANGE"}]
    assert faults(ASSOC, described(ASSOC, KeySchema=key)) == ["its key is Name, When, want ID (a string)"]
    kinds = [{"AttributeName": "ID", "AttributeType": "N"}]
    assert faults(ASSOC, described(ASSOC, AttributeDefinitions=kinds)) == [
        "its key is ID, want ID (a string)"
    ]


def test_an_index_of_the_right_name_must_be_the_right_index() -> None:
    index = {**described(ASSOC)["GlobalSecondaryIndexes"][0]}
    keys_only = {**index, "Projection": {"ProjectionType": "KEYS_ONLY"}}
    assert faults(ASSOC, described(ASSOC, GlobalSecondaryIndexes=[keys_only])) == [
        "its index ID4-ID-index has not all attributes that are wanted"
    ]
    other = {**index, "KeySchema": [{"AttributeName": "ID4", "KeyType": "HASH"}]}
    assert "is by ID4, want ID4, ID" in faults(ASSOC, described(ASSOC, GlobalSecondaryIndexes=[other]))[0]


def test_what_an_index_includes_beyond_what_is_wanted_does_no_harm() -> None:
    everything = [
        {**each, "Projection": {"ProjectionType": "ALL"}}
        for each in described(TASKDB)["GlobalSecondaryIndexes"]
    ]
    assert faults(TASKDB, described(TASKDB, GlobalSecondaryIndexes=everything)) == []


ROW = {"ID": {"S": "sha256:00"}, "Type": {"S": "run"}}
ENTRY = {"ID": {"S": "sha256:00"}, "ValueV2": {"S": "sha256:11"}}


def test_items_tell_whose_a_table_is() -> None:
    assert stranger(ASSOC, []) == ""
    assert stranger(ASSOC, [ENTRY]) == ""
    assert stranger(TASKDB, [ROW]) == ""
    assert stranger(TASKDB, [{**ROW, "ID": {"S": "<zero>"}}]) == ""
    assert stranger(ASSOC, [ROW]) == "it holds the record of runs, want the cache's index"
    assert stranger(TASKDB, [ENTRY]) == "it holds the cache's index, want the record of runs"
    assert stranger(ASSOC, [{"ID": {"S": "order-17"}}]) == "it holds other data"


def test_a_new_table_gets_all_its_indices_at_once_and_is_waited_for() -> None:
    states: list[dict[str, Any] | CallError] = [
        refusal("ResourceNotFoundException"),
        {"Table": described(TASKDB, TableStatus="CREATING")},
    ]

    def describe(**_: object) -> dict[str, Any] | CallError:
        return states.pop(0) if states else {"Table": described(TASKDB)}

    cloud = FakeCloud({"describe_table": describe})
    ensure_table(cloud, TASKDB, "t")
    assert changing(cloud) == ["create_table"]
    assert cloud.said[:3] == [
        "creating DynamoDB table t",
        "created DynamoDB table t",
        "created secondary index ID-index",
    ]
    assert len(cloud.said) == 8


def test_a_table_that_lacks_indices_gets_them_one_by_one_and_that_is_said() -> None:
    indices = described(TASKDB)["GlobalSecondaryIndexes"]
    have = indices[:2]

    def update(**sent: Any) -> dict[str, Any]:
        (change,) = sent["GlobalSecondaryIndexUpdates"]
        have.append({**change["Create"], "IndexStatus": "ACTIVE"})
        return {}

    cloud = FakeCloud(
        {
            "describe_table": lambda **_: {"Table": described(TASKDB, GlobalSecondaryIndexes=list(have))},
            "update_table": update,
        }
    )
    ensure_table(cloud, TASKDB, "t")
    assert changing(cloud) == ["update_table"] * 4
    assert [each["IndexName"] for each in have] == [each["IndexName"] for each in indices]
    assert cloud.said[1].startswith("dynamodb indexes existing: [ID-index,ID4-ID-index], missing: [Date-")


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"describe_table": {"Table": described(ASSOC, KeySchema=[])}}, "its key is unknown, want ID"),
        ({"describe_table": {"Table": described(ASSOC, TableStatus="DELETING")}}, "it is being deleted"),
        (
            {"describe_table": {"Table": described(ASSOC)}, "scan": {"Items": [ROW]}},
            "it holds the record of runs",
        ),
        ({"describe_table": refusal("AccessDeniedException")}, "access denied"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_and_left_alone(answers: dict[str, Any], error: str) -> None:
    cloud = FakeCloud(answers)
    with pytest.raises(ReflowError) as caught:
        ensure_table(cloud, ASSOC, "t")
    assert error in str(caught.value)
    assert changing(cloud) == []


def test_recovery_is_turned_on_once() -> None:
    off = {
        "ContinuousBackupsDescription": {"PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "X"}}
    }
    cloud = FakeCloud({"describe_table": {"Table": described(ASSOC)}, "describe_continuous_backups": off})
    ensure_table(cloud, ASSOC, "t", has_recovery=True)
    assert cloud.said[-1] == "dynamodb table t: point-in-time recovery is on"
    on = json.loads(json.dumps(off).replace('"X"', '"ENABLED"'))
    cloud = FakeCloud({"describe_table": {"Table": described(ASSOC)}, "describe_continuous_backups": on})
    ensure_table(cloud, ASSOC, "t", has_recovery=True)
    assert changing(cloud) == []


# EC2.


def test_settings_that_are_there_stay_and_the_others_get_their_defaults() -> None:
    filled = section({"maxpendinginstances": 9, "spot": True, "instancetypes": ["c5.large"]}, "sg-1")
    assert filled["maxpendinginstances"] == 9
    assert filled["spot"] is True
    assert filled["instancetypes"] == ["c5.large"]
    assert filled["securitygroup"] == "sg-1"
    assert (filled["maxhourlycostusd"], filled["disktype"], filled["diskslices"]) == (10, "gp3", 0)
    assert set(filled["instancesizetodiskspace"].values()) == {300}
    assert len(filled["instancesizetodiskspace"]) == 19
    assert len(instance_types()) == 489


def test_a_group_that_lets_nothing_in_gets_the_rules() -> None:
    cloud = FakeCloud(
        {
            "describe_security_groups": {"SecurityGroups": [{"GroupId": "sg-1", "VpcId": "vpc-1"}]},
            "describe_vpcs": {"Vpcs": [{"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/16"}]},
        }
    )
    assert ensure_group(cloud, "203.0.113.0/24") == "sg-1"
    assert "authorize_security_group_ingress" in cloud.calls


def test_a_group_with_rules_of_its_own_is_used_if_workers_can_be_reached() -> None:
    rules = [{"IpProtocol": "tcp", "FromPort": 9000, "ToPort": 9001}]
    group = {"GroupId": "sg-1", "VpcId": "vpc-1", "IpPermissions": rules, "Description": "mine"}
    cloud = FakeCloud({"describe_security_groups": {"SecurityGroups": [group]}})
    assert ensure_group(cloud) == "sg-1"
    assert cloud.calls == ["describe_security_groups"]
    group["IpPermissions"] = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}]
    with pytest.raises(ReflowError, match="no rule lets tcp port 9000 in"):
        ensure_group(cloud)


@pytest.mark.parametrize("count", [0, 2])
def test_without_one_default_network_there_is_no_group(count: int) -> None:
    cloud = FakeCloud({"describe_security_groups": {}, "describe_vpcs": {"Vpcs": [{}] * count}})
    with pytest.raises(ReflowError, match=f"the account has {count or 'no'} default VPCs"):
        ensure_group(cloud)


# Calls.


class _Client:
    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors

    def head_bucket(self, **_: object) -> dict[str, Any]:
        if self.errors:
            raise self.errors.pop(0)
        return {"well": True}


def _client_error(code: str, status: int) -> Exception:
    from botocore.exceptions import ClientError

    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "HeadBucket")


class _Session:
    def __init__(self, errors: list[Exception]) -> None:
        self.made = _Client(errors)

    def client(self, service: str) -> _Client:
        return self.made


@pytest.mark.parametrize(
    ("errors", "waits"),
    [
        ([], 0),
        ([_client_error("SlowDown", 503), _client_error("500", 500)], 2),
    ],
)
def test_what_may_pass_is_tried_again(errors: list[Exception], waits: int) -> None:
    slept: list[float] = []
    cloud = Cloud(_Session(list(errors)), print, slept.append)  # type: ignore[arg-type]
    assert cloud.call("s3", "head_bucket", Bucket="b") == {"well": True}
    assert len(slept) == waits


@pytest.mark.parametrize(
    ("error", "times", "kind"),
    [("SlowDown", 4, "s3.head_bucket: no (SlowDown)"), ("AccessDenied", 1, "access denied")],
)
def test_tries_end(error: str, times: int, kind: str) -> None:
    slept: list[float] = []
    cloud = Cloud(_Session([_client_error(error, 503 if times > 1 else 403)] * 9), print, slept.append)  # type: ignore[arg-type]
    with pytest.raises(CallError) as caught:
        cloud.call("s3", "head_bucket", Bucket="b")
    assert kind in str(caught.value)
    assert len(slept) == times - 1
