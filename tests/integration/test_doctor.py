"""``reflow doctor`` and ``reflow iam-policy``, through the real command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reflow.aws.session import AwsSession
from reflow.runtime import setup, setup_call
from tests import servers
from tests.awsaccount import client, new_account, random_name, remove_bucket, remove_table
from tests.awsproxy import aws_proxy
from tests.command import Done, Workspace

LOCAL = ["configuration", "state", "disk", "executor", "registry"]


def findings(done: Done) -> dict[str, dict[str, str]]:
    """What was found, by the name of the check."""
    return {each["name"]: each for each in done.json["checks"]}


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def doctor(work: Workspace, *, timeout: str = "60s", **env: str) -> Done:
    """The findings, with patience: the machine may be busy."""
    return work.reflow("doctor", "-json", "-timeout", timeout, REFLOW_REGISTRY="127.0.0.1:1", **env)


# This machine.


def test_without_aws_this_machine_is_looked_at(work: Workspace) -> None:
    (work.state).mkdir()
    (work.state / "config.yaml").write_text("executor: process\n")
    done = doctor(work)
    assert done.code == 0
    found = findings(done)
    assert list(found) == LOCAL
    assert {found[name]["status"] for name in ("configuration", "state", "executor")} == {"ok"}
    assert found["registry"]["status"] == "warning"
    assert "cannot be reached" in found["registry"]["message"]


def test_nothing_of_aws_is_imported_without_need(work: Workspace) -> None:
    code = (
        "import sys; from reflow.cli.app import run; run(['doctor']);"
        "sys.exit(9 if any(name.startswith('boto') for name in sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=work.env, cwd=work.dir, timeout=120, check=False)
    assert done.returncode == 0


def test_there_is_a_line_for_each_check_and_status_1_if_one_failed(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text("cache: [\n")
    done = work.reflow("doctor")
    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    assert len(lines) == len(LOCAL)
    assert lines[0].startswith("failed   configuration  config ")
    assert "; to mend it: correct the file" in lines[0]


def test_an_executor_that_was_named_must_work(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text("executor: docker\n")
    done = doctor(work, DOCKER_HOST=f"unix://{work.dir}/none.sock")
    assert done.code == 1
    assert "no daemon at" in findings(done)["executor"]["message"]


def test_saved_credentials_are_found_and_not_shown(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text(
        "executor: process\ninstances: {awssession: {credentials: {secretaccesskey: hidden-thing}}}\n"
    )
    done = doctor(work)
    assert "has saved credentials" in findings(done)["configuration"]["message"]
    assert "hidden-thing" not in done.out + done.err


# AWS.


@dataclass
class Cloud:
    """A home that is set up, in an account of moto's of its own."""

    work: Workspace
    s3: Any
    dynamodb: Any
    bucket: str
    assoc: str
    taskdb: str


@pytest.fixture
def cloud(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    account = new_account()
    work.env.update(servers.environment(s3=servers.MOTO, dynamodb=servers.MOTO), **account)
    s3, dynamodb = client("s3", servers.MOTO, **account), client("dynamodb", servers.MOTO, **account)
    made = Cloud(work, s3, dynamodb, *[random_name("doctor") for _ in range(3)])
    with monkeypatch.context() as patch:
        for name in (*account, *servers.environment(), "REFLOW_HOME"):
            patch.setenv(name, work.env.get(name, str(work.state)))
        cloud = setup_call.Cloud(AwsSession(), lambda text: None)
        for verb in (
            setup.repository(made.bucket),
            setup.assoc(made.assoc),
            setup.taskdb(made.taskdb, made.bucket),
        ):
            setup.set_up(str(work.state / "config.yaml"), verb, cloud)
    yield made
    remove_bucket(s3, made.bucket)
    for table in (made.assoc, made.taskdb):
        remove_table(dynamodb, table)


def statuses(done: Done) -> dict[str, str]:
    return {name: each["status"] for name, each in findings(done).items() if name not in LOCAL}


@pytest.mark.aws
def test_what_is_set_up_is_well(cloud: Cloud) -> None:
    done = doctor(cloud.work)
    assert statuses(done) == {
        "credentials": "ok",
        "region": "ok",
        "clock": "ok",
        f"bucket {cloud.bucket}": "ok",
        f"assoc {cloud.assoc}": "ok",
        f"taskdb {cloud.taskdb}": "ok",
    }
    assert "Contents" not in cloud.s3.list_objects_v2(Bucket=cloud.bucket)
    assert cloud.work.env["AWS_SECRET_ACCESS_KEY"] not in done.out
    assert cloud.work.env["AWS_SESSION_TOKEN"] not in done.out


@pytest.mark.aws
def test_what_is_missing_is_named_with_what_to_do(cloud: Cloud) -> None:
    remove_bucket(cloud.s3, cloud.bucket)
    remove_table(cloud.dynamodb, cloud.assoc)
    index = {"Delete": {"IndexName": "RunID-index"}}
    cloud.dynamodb.update_table(TableName=cloud.taskdb, GlobalSecondaryIndexUpdates=[index])
    done = doctor(cloud.work)
    assert done.code == 1
    found = findings(done)
    bucket, assoc = found[f"bucket {cloud.bucket}"], found[f"assoc {cloud.assoc}"]
    assert (bucket["status"], bucket["mend"]) == ("failed", f"reflow setup-s3-repository {cloud.bucket}")
    assert assoc["mend"].startswith(f"reflow setup-dynamodb-assoc {cloud.assoc}")
    assert found[f"taskdb {cloud.taskdb}"]["message"] == "indices are missing: RunID-index"
    cloud.work.reflow("setup-s3-repository", cloud.bucket).ok()
    cloud.work.reflow("setup-dynamodb-assoc", cloud.assoc).ok()
    cloud.work.reflow("setup-taskdb", cloud.taskdb, cloud.bucket).ok()
    assert set(statuses(doctor(cloud.work)).values()) == {"ok"}


@pytest.mark.aws
def test_without_credentials_or_region_that_is_what_is_said(cloud: Cloud) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        del cloud.work.env[name]
    done = doctor(cloud.work)
    assert statuses(done) == {"credentials": "failed", "region": "warning"}
    assert "AWS_PROFILE" in findings(done)["credentials"]["mend"]


@pytest.mark.aws
@pytest.mark.parametrize(
    ("variable", "value", "fault", "mend"),
    [
        ("AWS_PROFILE", "nosuch", "nosuch", "correct AWS_PROFILE"),
        ("AWS_REGION", "us west", "us west", "correct AWS_REGION"),
        ("AWS_ENDPOINT_URL", "nowhere", "nowhere", "correct AWS_ENDPOINT_URL"),
    ],
)
def test_settings_that_cannot_be_used_are_what_is_to_be_mended(
    cloud: Cloud, variable: str, value: str, fault: str, mend: str
) -> None:
    found = findings(doctor(cloud.work, **{variable: value}))["credentials"]
    assert found["status"] == "failed"
    assert fault in found["message"]
    assert found["mend"].startswith(mend)


@pytest.mark.aws
def test_a_server_that_does_not_answer_holds_nobody_up(cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = doctor(cloud.work, timeout="1s", AWS_ENDPOINT_URL_S3=url)
    assert done.code == 1
    found = findings(done)[f"bucket {cloud.bucket}"]
    assert found["message"] == f"no answer from {url.removeprefix('http://')} within 1 s"
    assert "check network, proxies (HTTPS_PROXY) and AWS_ENDPOINT_URL" in found["mend"]


def test_a_registry_and_a_docker_daemon_that_do_not_answer_are_named(work: Workspace) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text("executor: docker\n")
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as daemon:
        path = f"{directory}/docker.sock"  # the path of a socket must be short
        daemon.bind(path)
        daemon.listen()
        with socket.create_server(("127.0.0.1", 0)) as registry:
            address = f"127.0.0.1:{registry.getsockname()[1]}"
            words = ["doctor", "-json", "-timeout", "2s"]
            done = work.reflow(*words, DOCKER_HOST=f"unix://{path}", REFLOW_REGISTRY=address)
    found = findings(done)
    assert found["executor"]["message"] == f"no answer from the docker daemon at {path} within 2 s"
    assert "docker version" in found["executor"]["mend"]
    assert found["registry"]["message"] == f"no answer from {address} within 2 s"
    assert (found["executor"]["status"], found["registry"]["status"]) == ("failed", "warning")


@pytest.mark.aws
def test_a_server_that_is_not_there_is_named_with_what_to_do(cloud: Cloud) -> None:
    found = findings(doctor(cloud.work, AWS_ENDPOINT_URL_S3="http://127.0.0.1:1"))
    bucket, clock = found[f"bucket {cloud.bucket}"], found["clock"]
    assert f"http://127.0.0.1:1/{cloud.bucket}" in bucket["message"]
    assert "AWS_ENDPOINT_URL" in bucket["mend"]
    assert (clock["status"], clock["message"]) == ("warning", "not compared: no server answers")


class _Hotel(BaseHTTPRequestHandler):
    """Answers whatever it is asked with the page at which guests log in."""

    def answer(self) -> None:
        page = b"<html>Welcome</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  (the names that http.server calls)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.aws
def test_a_server_of_another_kind_is_said_to_be_one(cloud: Cloud) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hotel) as hotel:
        threading.Thread(target=hotel.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{hotel.server_port}"
        done = doctor(cloud.work, AWS_ENDPOINT_URL_DYNAMODB=url, AWS_ENDPOINT_URL_S3=url)
        verb = cloud.work.reflow("setup-dynamodb-assoc", cloud.assoc, AWS_ENDPOINT_URL_DYNAMODB=url)
        hotel.shutdown()
    found = findings(done)
    for name in (f"bucket {cloud.bucket}", f"assoc {cloud.assoc}"):
        assert found[name]["status"] == "failed"
        assert "the answer is not one of AWS's" in found[name]["message"]
    verb.failed("the answer is not one of AWS's: this is another server, or a proxy in the way")


@pytest.mark.aws
def test_a_clock_that_is_off_is_found(cloud: Cloud) -> None:
    with aws_proxy() as (proxy, url):
        proxy.headers["Date"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        done = doctor(cloud.work, AWS_ENDPOINT_URL_S3=url)
    clock = findings(done)["clock"]
    assert clock["status"] == "failed"
    assert "ahead of the server's: requests are refused" in clock["message"]


# Policies.


def permits(document: dict[str, Any], action: str, subject: str) -> bool:
    """Whether a policy permits an action on a bucket, ``bucket/key`` or table."""
    kind = "dynamodb:us-west-2:1:table/" if action.startswith("dynamodb:") else "s3:::"
    return any(
        action in statement["Action"]
        and any(
            fnmatchcase(f"arn:aws:{kind}{subject}", resource.replace("*:*:table", "us-west-2:1:table"))
            for resource in statement["Resource"]
        )
        for statement in document["Statement"]
    )


def test_without_aws_there_is_no_policy(work: Workspace) -> None:
    work.reflow("iam-policy").failed("nothing of AWS is configured")
    work.reflow("iam-policy", "king").failed("unknown role king", code=2)
    document = json.loads(work.reflow("iam-policy", "-results", "out", "-inputs", "a,b").ok().out)
    assert [each["Sid"] for each in document["Statement"]] == [
        "InputsBuckets",
        "InputsObjects",
        "ResultsBuckets",
        "ResultsObjects",
    ]


@pytest.mark.aws
def test_a_policy_permits_what_is_asked_of_aws(cloud: Cloud) -> None:
    policies = {
        role: json.loads(cloud.work.reflow("iam-policy", role).ok().out) for role in ("driver", "read-only")
    }
    with aws_proxy() as (proxy, url):
        endpoints = {f"AWS_ENDPOINT_URL{each}": url for each in ("", "_S3", "_DYNAMODB")}
        doctor(cloud.work, **endpoints)
        asked = [each for each in proxy.asked if not each[0].startswith("sts:")]
        assert {each[0] for each in asked} >= {"s3:PutObject", "s3:ListBucket", "dynamodb:DescribeTable"}
        assert [each for each in asked if not permits(policies["driver"], *each)] == []
        proxy.asked.clear()
        config = cloud.work.state / "config.yaml"
        config.write_text(config.read_text() + "cache: read\n")
        done = doctor(cloud.work, **endpoints)
        assert findings(done)[f"bucket {cloud.bucket}"]["message"] == "can be read"
        asked = [each for each in proxy.asked if not each[0].startswith("sts:")]
        assert [each for each in asked if not permits(policies["read-only"], *each)] == []
