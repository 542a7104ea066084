"""Keys that setup writes, and the tables and groups that it makes or finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reflow.aws.tables import ASSOC, TASKDB, Table, creation
from reflow.core.errors import ReflowError
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
from reflow.runtime.setup_call import CallError, Cloud
from reflow.runtime.setup_ec2 import ensure_group, instance_types, section
from reflow.runtime.setup_table import ensure_table, faults, lacking, stranger
from reflow.runtime.setup_upgrade import outdated
from tests.unit.runtime.fakecloud import FakeCloud, changing, refusal

ORIGINAL = Path(__file__).parents[2] / "data" / "config" / "original.yaml"


pytestmark = pytest.mark.usefixtures("own_home")


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
