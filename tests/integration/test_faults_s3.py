"""S3 in trouble while a run needs it: a real server behind a proxy that refuses what a test says."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests import servers
from tests.awsaccount import new_bucket
from tests.awsproxy import AwsProxy, aws_proxy
from tests.command import Done, Workspace
from tests.daemons import Gate
from tests.waiting import wait_until

pytestmark = [pytest.mark.s3, pytest.mark.slow]

PROGRAM = """
val source = file("s3://BUCKET/in")
val first = exec(image := "ubuntu", cpu := 1) (out file) {" WAIT; echo first > {{out}} "}
val Main = exec(image := "ubuntu", cpu := 1) (out file) {" cat {{first}} {{source}} > {{out}} "}
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    servers.use(monkeypatch)
    client = boto3.client("s3")
    with new_bucket(client, "faults") as name:
        client.put_object(Bucket=name, Key="in", Body=b"source\n")
        yield name


@pytest.fixture
def proxy() -> Iterator[tuple[AwsProxy, str]]:
    with aws_proxy(servers.S3) as made:
        yield made


@pytest.fixture
def work(tmp_path: Path, bucket: str, proxy: tuple[AwsProxy, str]) -> Workspace:
    made = Workspace(tmp_path)
    made.env |= servers.environment(s3=proxy[1])
    made.write("p.rf", PROGRAM.replace("BUCKET", bucket).replace("WAIT", "true"))
    return made


def run(work: Workspace) -> Done:
    words = ("run", "-executor", "process", "-json", "-out", "result", "p.rf")
    return work.reflow(*words, timeout_s=280)


def entries(work: Workspace) -> int:
    with sqlite3.connect(work.state / "assoc.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM assoc").fetchone()
    return int(count)


@pytest.mark.parametrize(
    "trouble", [(500, "InternalError"), (503, "SlowDown"), (0, "")], ids=["500", "slow-down", "reset"]
)
def test_trouble_that_passes_costs_time_only(
    work: Workspace, proxy: tuple[AwsProxy, str], trouble: tuple[int, str]
) -> None:
    refused = []

    def refuse(action: tuple[str, str]) -> tuple[int, str] | None:
        if len(refused) >= 2:
            return None
        refused.append(action)
        return trouble

    proxy[0].refuse = refuse
    done = run(work).ok()
    assert len(refused) == 2
    assert (work.dir / "result").read_text() == "first\nsource\n"
    assert done.json["executed"] == 2


def test_a_source_that_is_not_there_is_named(work: Workspace, bucket: str) -> None:
    boto3.client("s3").delete_object(Bucket=bucket, Key="in")
    done = run(work).failed(f"s3://{bucket}/in")
    assert done.json["error"]["kind"] == "NotExist"


def test_a_source_that_may_not_be_read_is_named(
    work: Workspace, bucket: str, proxy: tuple[AwsProxy, str]
) -> None:
    proxy[0].refuse = lambda action: (403, "AccessDenied")
    done = run(work).failed(f"s3://{bucket}/in")
    assert done.json["error"]["kind"] == "NotAllowed"


def test_a_source_that_changes_while_the_run_needs_it_never_gives_a_mixture(
    work: Workspace, bucket: str, proxy: tuple[AwsProxy, str]
) -> None:
    gate = Gate()
    work.write("p.rf", PROGRAM.replace("BUCKET", bucket).replace("WAIT", gate.command))
    process = work.start("run", "-executor", "process", "-json", "p.rf")
    gate.wait_for(1)
    wait_until(lambda: ("s3:GetObject", f"{bucket}/in") in proxy[0].asked)
    time.sleep(1)  # it has been looked at by now
    boto3.client("s3").put_object(Bucket=bucket, Key="in", Body=b"changed\n")
    gate.open()
    gate.close()
    out, err = process.communicate(timeout=200)
    assert "Traceback" not in err
    assert process.returncode == 1, out + err
    assert f"s3://{bucket}/in" in err
    assert '"kind": "Precondition"' in out
    assert entries(work) == 2, "only the first exec is cached"
