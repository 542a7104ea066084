"""The setup verbs, against imitations of AWS: what they make and write, and that they can be repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.loaders import create_loader

from reflow.aws.session import AwsSession
from reflow.runtime.setup import Verb, assoc, repository, set_up, set_up_ec2, taskdb
from reflow.runtime.setup_call import Cloud
from tests import servers
from tests.awsaccount import client, new_account, random_name, remove_bucket, remove_table
from tests.awsproxy import AwsProxy, aws_proxy
from tests.command import Workspace

ORIGINAL = Path(__file__).parents[1] / "data" / "config" / "original.yaml"
ALL_KILLS = os.environ.get("REFLOW_KILLS") == "all"
SECRETS = ("testing", "secretaccesskey", "PRIVATE KEY", "/tmp/ca.reflow")
INDICES = {
    "ID-index",
    "ID4-ID-index",
    "Date-Keepalive-index",
    "RunID-index",
    "ImgCmdID-SortEnd-index",
    "Ident-SortEnd-index",
}


@dataclass
class Place:
    """Where a test works: servers, names of its own, a home."""

    work: Workspace
    s3: Any
    dynamodb: Any
    bucket: str
    table: str
    other: str

    @property
    def config(self) -> Path:
        return self.work.state / "config.yaml"

    @property
    def document(self) -> dict[str, Any]:
        loaded = yaml.safe_load(self.config.read_text())
        assert isinstance(loaded, dict)
        return loaded

    def policy(self) -> list[dict[str, Any]]:
        statements = json.loads(self.s3.get_bucket_policy(Bucket=self.bucket)["Policy"])["Statement"]
        assert isinstance(statements, list)
        return statements

    def description(self, table: str) -> dict[str, Any]:
        described = self.dynamodb.describe_table(TableName=table)["Table"]
        assert isinstance(described, dict)
        return described


def made_place(tmp_path: Path, s3_url: str, dynamodb_url: str, account: dict[str, str]) -> Iterator[Place]:
    work = Workspace(tmp_path)
    work.env.update(servers.environment(s3=s3_url, dynamodb=dynamodb_url), **account)
    place = Place(
        work,
        client("s3", s3_url, **account),
        client("dynamodb", dynamodb_url, **account),
        *[random_name() for _ in range(3)],
    )
    yield place
    for bucket in (place.bucket, place.other):
        remove_bucket(place.s3, bucket)
    for table in (place.table, place.other):
        remove_table(place.dynamodb, table)


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[Place]:
    """Moto, in an account of the test's own."""
    yield from made_place(tmp_path, servers.MOTO, servers.MOTO, new_account())


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Place]:
    """A real S3 gateway, and dynalite."""
    yield from made_place(tmp_path, servers.S3, servers.DYNAMODB, {})


# What is made, and what is written.


@pytest.mark.aws
def test_s1_a_repository_is_a_safe_bucket(moto: Place) -> None:
    done = moto.work.reflow("setup-s3-repository", moto.bucket).ok()
    assert done.out == ""
    assert moto.document == {"repository": f"s3,bucket={moto.bucket}", "versions": {"s3": 0}}
    assert stat.S_IMODE(moto.config.stat().st_mode) == 0o600
    bucket = {"Bucket": moto.bucket}
    assert set(moto.s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = moto.s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = moto.policy()
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    (rule,) = moto.s3.get_bucket_lifecycle_configuration(**bucket)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert moto.s3.get_bucket_location(**bucket)["LocationConstraint"] == servers.REGION
    assert "Contents" not in moto.s3.list_objects_v2(**bucket)
    moto.s3.put_object(**bucket, Key="objects/x", Body=b"usable")


@pytest.mark.aws
def test_s1_tables_are_paid_by_request_and_can_be_recovered(moto: Place) -> None:
    moto.work.reflow("setup-dynamodb-assoc", "-recovery", moto.table).ok()
    moto.work.reflow("setup-taskdb", moto.other, moto.bucket).ok()
    for table, indices in ((moto.table, {"ID4-ID-index"}), (moto.other, INDICES)):
        described = moto.description(table)
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert {each["IndexName"] for each in described["GlobalSecondaryIndexes"]} == indices
    recovery = [
        moto.dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"][
            "PointInTimeRecoveryDescription"
        ]["PointInTimeRecoveryStatus"]
        for table in (moto.table, moto.other)
    ]
    assert recovery == ["ENABLED", "DISABLED"]
    assert moto.document == {
        "assoc": f"dynamodbassoc,table={moto.table}",
        "taskdb": f"dynamodbtask,table={moto.other},bucket={moto.bucket}",
        "versions": {"dynamodbassoc": 1, "dynamodbtask": 2},
    }


@pytest.mark.aws
def test_s1_a_cluster_has_a_security_group_and_settings(moto: Place) -> None:
    done = moto.work.reflow("setup-ec2", "-from", "203.0.113.0/24").ok()
    assert done.out == ""
    document = moto.document
    assert document["cluster"] == "ec2cluster"
    assert document["tls"] == f"tls,file={moto.work.state}/reflow.pem"
    assert len(document["ec2cluster"]["instancetypes"]) == 489
    ec2 = client("ec2", servers.MOTO, **moto.work.env)
    (group,) = ec2.describe_security_groups(GroupIds=[document["ec2cluster"]["securitygroup"]])[
        "SecurityGroups"
    ]
    ports = {
        rule.get("FromPort"): [each["CidrIp"] for each in rule["IpRanges"]] for rule in group["IpPermissions"]
    }
    assert (ports[22], ports[9000]) == (["203.0.113.0/24"], ["203.0.113.0/24"])
    assert {tag["Key"]: tag["Value"] for tag in group["Tags"]} == {"Name": "reflow", "reflow-sg": "true"}
    text = moto.config.read_text()
    assert not any(word in text for word in SECRETS)
    again = moto.work.reflow("setup-ec2").ok()
    assert "found existing" not in again.err
    assert moto.config.read_text() == text
    moto.work.reflow("setup-ec2", "-from", "anywhere").failed("invalid -from anywhere", code=2)


@pytest.mark.s3
@pytest.mark.dynamodb
def test_s1_other_servers_will_do_and_what_they_lack_is_said(real: Place) -> None:
    real.work.reflow("setup-s3-repository", real.bucket).ok()
    real.s3.put_object(Bucket=real.bucket, Key="objects/x", Body=b"usable")
    assert real.s3.get_object(Bucket=real.bucket, Key="objects/x")["Body"].read() == b"usable"
    done = real.work.reflow("setup-dynamodb-assoc", "-recovery", real.table).ok()
    assert "this server does not support point-in-time recovery" in done.err
    real.work.reflow("setup-taskdb", real.other, real.bucket).ok()
    assert {each["IndexName"] for each in real.description(real.other)["GlobalSecondaryIndexes"]} == INDICES
    assert real.work.reflow("upgrade").ok().err == ""


@pytest.mark.aws
def test_s1_a_server_may_call_its_region_as_it_likes(moto: Place) -> None:
    moto.work.env |= {"AWS_REGION": "garage", "AWS_DEFAULT_REGION": "elsewhere"}
    moto.work.reflow("setup-s3-repository", moto.bucket).ok()
    assert moto.s3.get_bucket_location(Bucket=moto.bucket)["LocationConstraint"] == "garage"
    assert moto.policy()[0]["Resource"][0] == f"arn:aws:s3:::{moto.bucket}"


# Again.


@pytest.mark.aws
def test_s1_each_verb_can_be_repeated(moto: Place) -> None:
    words = (
        ("setup-s3-repository", moto.bucket),
        ("setup-dynamodb-assoc", moto.table),
        ("setup-taskdb", moto.other, moto.bucket),
    )
    for command in words:
        moto.work.reflow(*command).ok()
    text, stamp = moto.config.read_text(), moto.config.stat().st_mtime_ns
    for command in words:
        assert "already" in moto.work.reflow(*command).ok().err
    assert moto.work.reflow("upgrade").ok().err == ""
    assert (moto.config.read_text(), moto.config.stat().st_mtime_ns) == (text, stamp)


@pytest.mark.aws
def test_s1_other_keys_and_comments_stay_and_secrets_go(moto: Place) -> None:
    moto.work.state.mkdir()
    kept = "\n".join(
        line for line in ORIGINAL.read_text().splitlines() if not line.startswith(("repository:", "assoc:"))
    )
    moto.config.write_text(f"# the lab's\n{kept}\n")
    moto.work.reflow("setup-s3-repository", moto.bucket).ok()
    text = moto.config.read_text()
    assert text.startswith("# the lab's\nawscreds: awscreds\n")
    assert not any(word in text for word in SECRETS)
    assert moto.document["versions"]["dynamodbtask"] == 2
    assert moto.document["transferlimit"] == 20


@pytest.mark.aws
def test_s1_another_name_is_refused_before_anything_is_made(moto: Place) -> None:
    moto.work.reflow("setup-s3-repository", moto.bucket).ok()
    moto.work.reflow("setup-s3-repository", moto.other).failed(
        f"s3,bucket={moto.bucket} repository already set up; cannot set up s3 repository"
    )
    names = [each["Name"] for each in moto.s3.list_buckets()["Buckets"]]
    assert moto.other not in names


@pytest.mark.aws
def test_another_taskdb_is_made(moto: Place) -> None:
    moto.work.reflow("setup-taskdb", moto.table, moto.bucket).ok()
    moto.work.reflow("setup-taskdb", moto.table, moto.other).ok()
    moto.s3.head_bucket(Bucket=moto.other)
    assert moto.document["taskdb"] == f"dynamodbtask,table={moto.table},bucket={moto.other}"


# What is there already.


@pytest.mark.aws
def test_a_bucket_of_ones_own_is_not_touched_unless_asked_for(moto: Place) -> None:
    place = {"LocationConstraint": servers.REGION}
    moto.s3.create_bucket(Bucket=moto.bucket, CreateBucketConfiguration=place)
    done = moto.work.reflow("setup-s3-repository", moto.bucket).ok()
    assert f"s3 bucket {moto.bucket} already exists; not created" in done.err
    assert "public access is not blocked" in done.err
    with pytest.raises(moto.s3.exceptions.ClientError, match="NoSuchBucketPolicy"):
        moto.policy()
    moto.work.reflow("setup-s3-repository", "-secure", moto.bucket).ok()
    assert len(moto.policy()) == 1


@pytest.mark.aws
def test_a_table_of_something_else_is_refused_and_left_alone(moto: Place) -> None:
    key = [{"AttributeName": "Name", "KeyType": "HASH"}]
    kinds = [{"AttributeName": "Name", "AttributeType": "S"}]
    moto.dynamodb.create_table(
        TableName=moto.table, KeySchema=key, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST"
    )
    before = moto.description(moto.table)
    moto.work.reflow("setup-dynamodb-assoc", moto.table).failed(
        "its key is Name, want ID", "choose another name"
    )
    assert moto.description(moto.table) == before
    assert not moto.config.exists()


@pytest.mark.aws
def test_a_table_without_index_as_an_interrupted_original_leaves_it_is_finished(moto: Place) -> None:
    key = [{"AttributeName": "ID", "KeyType": "HASH"}]
    kinds = [{"AttributeName": "ID", "AttributeType": "S"}]
    moto.dynamodb.create_table(
        TableName=moto.table, KeySchema=key, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST"
    )
    done = moto.work.reflow("setup-dynamodb-assoc", moto.table).ok()
    assert f"dynamodb table {moto.table} already exists" in done.err
    assert "created secondary index ID4-ID-index" in done.err


@pytest.mark.aws
def test_upgrade_gives_an_old_record_of_runs_its_new_indices(moto: Place) -> None:
    moto.work.reflow("setup-taskdb", moto.table, moto.bucket).ok()
    for name in ("ImgCmdID-SortEnd-index", "Ident-SortEnd-index"):
        moto.dynamodb.update_table(
            TableName=moto.table, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": name}}]
        )
    moto.config.write_text(moto.config.read_text().replace("dynamodbtask: 2", "dynamodbtask: 1"))
    done = moto.work.reflow("upgrade").ok()
    assert (done.out, "created secondary index Ident-SortEnd-index" in done.err) == ("", True)
    assert {each["IndexName"] for each in moto.description(moto.table)["GlobalSecondaryIndexes"]} == INDICES
    assert moto.document["versions"] == {"dynamodbtask": 2}
    assert moto.work.reflow("upgrade").ok().err == ""


@pytest.mark.aws
def test_a_bucket_of_another_account_is_refused(moto: Place) -> None:
    other = client("s3", servers.MOTO, **new_account())
    other.create_bucket(Bucket=moto.bucket, CreateBucketConfiguration={"LocationConstraint": servers.REGION})
    try:
        moto.work.reflow("setup-s3-repository", moto.bucket).failed("choose another name")
    finally:
        other.delete_bucket(Bucket=moto.bucket)


def test_without_credentials_nothing_is_written(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.env.update(servers.environment())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del work.env[name]
    for words in (["setup-s3-repository", "bucket"], ["setup-dynamodb-assoc", "t"], ["setup-ec2"]):
        work.reflow(*words).failed("no AWS credentials")
    assert not (work.state / "config.yaml").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "The config profile (nosuch) could not be found"), ("[garbage", "Unable to parse config file")],
)
def test_files_of_aws_that_are_wrong_are_said_to_be(tmp_path: Path, text: str, error: str) -> None:
    work = Workspace(tmp_path)
    files = {"AWS_CONFIG_FILE": str(work.write("aws", text)), "AWS_PROFILE": "nosuch"}
    work.reflow("setup-s3-repository", "bucket", **files).failed(error)
    work.state.mkdir(exist_ok=True)
    (work.state / "config.yaml").write_text("executor: process\nrepository: s3,bucket=bucket\n")
    done = work.reflow("doctor", "-timeout", "60s", **files)
    assert (done.code, error in done.out, done.err) == (1, True, "")
    assert error in work.reflow("config", "-marshal", **files).ok().out


def test_without_a_file_to_write_nothing_is_made(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.reflow("-config", "", "setup-s3-repository", "bucket").failed(
        "there is no configuration file to write"
    )


# Failures half-way.


class Killed(BaseException):
    """The end of a process, as far as the code can tell."""


class Failing(Cloud):
    """Ends everything before, or right after, the call of some number."""

    def __init__(self, session: AwsSession, number: int, when: str) -> None:
        super().__init__(session, lambda text: None, lambda seconds: None)
        self.number = number
        self.when = when
        self.count = 0

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        if self.count == self.number and self.when == "before":
            raise Killed
        try:
            return super().call(service, operation, **parameters)
        finally:
            if self.count == self.number:
                raise Killed


class Scene:
    """Runs a verb over and over in accounts of its own, and looks at what there is."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.monkeypatch = monkeypatch
        self.bucket, self.table = random_name(), random_name()
        self.config = ""
        self.loader = create_loader()  # reading EC2's description takes longer than anything else here

    def fresh(self) -> AwsSession:
        """A home and an account where nothing is yet."""
        servers.use(self.monkeypatch, s3=servers.MOTO, dynamodb=servers.MOTO)
        for name, value in new_account().items():
            self.monkeypatch.setenv(name, value)
        home = self.root / "home"
        shutil.rmtree(home, ignore_errors=True)
        self.monkeypatch.setenv("REFLOW_HOME", str(home))
        self.config = str(home / "config.yaml")
        session = AwsSession()
        session.botocore.register_component("data_loader", self.loader)
        return session

    def verb(self, name: str) -> Verb:
        match name:
            case "repository":
                return repository(self.bucket)
            case "assoc":
                return assoc(self.table, has_recovery=True)
            case _:
                return taskdb(self.table, self.bucket)

    def run(self, name: str, cloud: Cloud) -> None:
        if name == "ec2":
            set_up_ec2(self.config, cloud)
        else:
            set_up(self.config, self.verb(name), cloud)

    def state(self, session: AwsSession) -> dict[str, Any]:
        """All that there is: the file, what is in the home, the bucket, the table, the group."""
        s3, dynamodb, ec2 = (session.client(name) for name in ("s3", "dynamodb", "ec2"))
        found: dict[str, Any] = {"home": sorted(os.listdir(os.path.dirname(self.config)))}
        found["file"] = Path(self.config).read_text()
        for bucket in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
            for name in (
                "public_access_block",
                "bucket_encryption",
                "bucket_policy",
                "bucket_lifecycle_configuration",
            ):
                found[name] = getattr(s3, f"get_{name}")(Bucket=bucket)
            found["objects"] = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
        for table in dynamodb.list_tables()["TableNames"]:
            found["table"] = dynamodb.describe_table(TableName=table)["Table"]
            found["backups"] = str(dynamodb.describe_continuous_backups(TableName=table)).count("ENABLED")
        groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["reflow"]}])
        found["groups"] = [[each["IpPermissions"], each.get("Tags")] for each in groups["SecurityGroups"]]
        return _comparable(found)

    def clean(self, session: AwsSession) -> None:
        remove_bucket(session.client("s3"), self.bucket)
        remove_table(session.client("dynamodb"), self.table)


_VOLATILE = {
    "CreationDateTime",
    "TableArn",
    "TableId",
    "IndexArn",
    "ResponseMetadata",
    "Date",
    "GroupId",
    "VpcId",
}


def _comparable(value: Any) -> Any:
    """Without what is another each time; security groups by what they say, tags in order."""
    if isinstance(value, dict):
        return {key: _comparable(each) for key, each in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return sorted([_comparable(each) for each in value], key=repr)
    if isinstance(value, str):
        return "\n".join(line for line in value.splitlines() if "securitygroup: sg-" not in line)
    return value


@pytest.mark.aws
@pytest.mark.parametrize("name", ["repository", "assoc", "taskdb", "ec2"])
def test_s1_whatever_call_a_verb_ends_at_the_next_one_comes_to_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``REFLOW_KILLS=all`` ends it at every call; otherwise at some."""
    scene = Scene(tmp_path, monkeypatch)
    session = scene.fresh()
    whole = Failing(session, 0, "never")
    scene.run(name, whole)
    wanted = scene.state(session)
    scene.clean(session)
    assert whole.count >= 4
    points = [(number, when) for number in range(1, whole.count + 1) for when in ("before", "after")]
    for number, when in points if ALL_KILLS else points[1::9]:
        session = scene.fresh()
        with pytest.raises(Killed):
            scene.run(name, Failing(session, number, when))
        scene.run(name, Failing(session, 0, "never"))
        assert scene.state(session) == wanted, f"killed {when} call {number}"
        scene.clean(session)


def _kill_at(proxy: AwsProxy, process: list[subprocess.Popen[str]], number: int) -> None:
    def kill(count: int) -> None:
        if count == number:
            process[0].send_signal(signal.SIGKILL)
            process[0].wait()

    proxy.after = kill


@pytest.mark.aws
def test_s1_a_process_that_is_killed_can_be_followed_by_another(tmp_path: Path) -> None:
    """``REFLOW_KILLS=all`` kills at every request; otherwise at some."""
    for number in range(1, 60) if ALL_KILLS else (2, 5):
        (tmp_path / str(number)).mkdir()
        places = made_place(tmp_path / str(number), servers.MOTO, servers.MOTO, new_account())
        place = next(places)
        with aws_proxy() as (proxy, url):
            endpoints = {
                "AWS_ENDPOINT_URL": url,
                "AWS_ENDPOINT_URL_S3": url,
                "AWS_ENDPOINT_URL_DYNAMODB": url,
            }
            words = ("setup-taskdb", place.table, place.bucket)
            process: list[subprocess.Popen[str]] = []
            _kill_at(proxy, process, number)
            process.append(place.work.start(*words, **endpoints))
            process[0].communicate(timeout=120)
            was_killed = process[0].returncode == -signal.SIGKILL
            assert place.config.exists() != was_killed
            place.work.reflow(*words).ok()
        assert len(place.policy()) == 1
        assert {
            each["IndexName"] for each in place.description(place.table)["GlobalSecondaryIndexes"]
        } == INDICES
        assert place.document["versions"] == {"dynamodbtask": 2}
        assert sorted(os.listdir(place.work.state)) == ["config.yaml"]
        next(places, None)
        if not was_killed:
            break
