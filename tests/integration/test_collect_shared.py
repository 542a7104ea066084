"""Collecting a bucket and tables on real servers."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reflow.assoc import Kind
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.assoc.dynamoitem import key_of
from reflow.aws.session import AwsSession
from reflow.aws.tables import ASSOC, TASKDB
from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.repository.blobrepo import BlobRepository
from reflow.runtime import wiring
from reflow.runtime.collect import Collector, CollectRequest
from reflow.runtime.collectscope import local_scope, shared_scope
from reflow.runtime.config import Config
from reflow.runtime.log import LEVELS, Log
from reflow.runtime.noncurrent import RULE, tell_noncurrent
from reflow.runtime.setup_call import Cloud
from reflow.taskdb import Run, Task
from reflow.taskdb.dynamodb import DynamoTaskDB
from tests import dynamotable, servers
from tests.awsaccount import client, random_name
from tests.awsproxy import aws_proxy
from tests.command import Workspace

DAY_S = 86400.0
V2 = Kind.FILESET_V2

BOTH = [
    pytest.param(
        (servers.S3, servers.DYNAMODB), marks=[pytest.mark.s3, pytest.mark.dynamodb], id="ceph-dynalite"
    ),
    pytest.param((servers.MOTO, servers.MOTO), marks=pytest.mark.aws, id="moto"),
]


def empty_bucket(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
    s3.delete_bucket(Bucket=bucket)


class Place:
    """Stores with results in them; it is forty days later for whoever collects them."""

    def __init__(self, s3: Any, bucket: str, table: str, runs: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.table = table
        self.now_s = time.time() + 40 * DAY_S
        self.config = Config(
            {
                "repository": f"s3,bucket={bucket}",
                "assoc": f"dynamodbassoc,table={table}",
                "taskdb": f"dynamodbtask,table={runs},bucket={bucket}",
            }
        )
        self.repository: BlobRepository = wiring.bucket_repository(bucket)

    def assoc(self) -> DynamoAssoc:
        assoc = wiring.open_assoc(self.config)
        assert isinstance(assoc, DynamoAssoc)
        return assoc

    async def add(self, name: str, count: int, days: float) -> list[Digest]:
        """Results that were used so many days before we collect; their objects."""
        files = await self.repository.put_bytes_many([b"%s %d" % (name.encode(), n) for n in range(count)])
        filesets = [Fileset({"out": File(file, 9), "log": File(files[0], 9)}) for file in files]
        values = await self.repository.put_bytes_many(map(encode_fileset, filesets))
        assoc = self.assoc()
        await assoc.put_many({(V2, Digest.of_text(f"{name} {n}")): value for n, value in enumerate(values)})
        for number in range(count):
            await assoc._database.call(
                "UpdateItem",
                {
                    "TableName": self.table,
                    "Key": key_of(str(Digest.of_text(f"{name} {number}"))),
                    "UpdateExpression": "SET LastAccessTime = :t",
                    "ExpressionAttributeValues": {":t": {"N": str(int(self.now_s - days * DAY_S))}},
                },
            )
        await assoc.close()
        return [*files, *values]

    async def add_run(self, *, is_alive: bool) -> list[Digest]:
        """The row of a run and of a task of it, and the objects that these refer to."""
        taskdb = wiring.open_taskdb(self.config)
        assert isinstance(taskdb, DynamoTaskDB)
        log, graph = await self.repository.put_bytes_many([b"log", b"graph"])
        (out,) = await taskdb.put_objects([b"stdout"])
        start = datetime.now(UTC) + timedelta(days=20 if is_alive else 0)
        end = None if is_alive else start
        until = datetime.fromtimestamp(self.now_s + 100, UTC) if is_alive else start
        run = Run(
            id=Digest.of_text("run"),
            user="jo",
            program="",
            start=start,
            end=end,
            keepalive=until,
            runlog=log,
            evalgraph=graph,
        )
        task = Task(
            id=Digest.of_text("task"),
            run_id=run.id,
            flow_id=Digest.of_text("flow"),
            start=start,
            end=start,
            stdout=str(out),
            inspect={"Created": "x"},
        )
        before = set(self.keys())
        taskdb.put_run(run)
        taskdb.put_task(task)
        await taskdb.close()
        inspect = [Digest.parse(key.removeprefix("objects/")) for key in set(self.keys()) - before]
        assert len(inspect) == 1
        return [log, graph, out, *inspect]

    def keys(self) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [row["Key"] for page in pages for row in page.get("Contents", [])]

    def has(self, objects: list[Digest]) -> set[bool]:
        keys = set(self.keys())
        return {f"objects/{each}" in keys for each in objects}

    async def collect(self, days: float, *, dry_run: bool = False) -> Collector:
        request = CollectRequest(
            self.now_s - days * DAY_S, lambda labels: False, lambda labels: False, dry_run, rate=10**6
        )
        async with shared_scope(self.config, request, self.now_s) as (scope, _):
            log = Log(LEVELS["error"], lambda text: None)
            collector = Collector(request, scope._replace(settle_s=0), log, self.now_s)
            await collector.scan()
            await collector.collect_objects()
        return collector


@pytest.fixture(params=BOTH)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    s3_url, dynamodb_url = request.param
    servers.use(monkeypatch, s3=s3_url, dynamodb=dynamodb_url)
    monkeypatch.setenv("REFLOW_HOME", str(tmp_path / "state"))
    wiring._session.cache_clear()
    wiring._s3_store.cache_clear()
    s3, bucket = client("s3", s3_url), random_name("collect")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": servers.REGION}) if (
        s3_url == servers.MOTO
    ) else s3.create_bucket(Bucket=bucket)
    try:
        with dynamotable.table(ASSOC) as (_, table), dynamotable.table(TASKDB) as (_, runs):
            yield Place(s3, bucket, table, runs)
    finally:
        await wiring._s3_store().close()
        empty_bucket(s3, bucket)
        s3.close()
        wiring._session.cache_clear()
        wiring._s3_store.cache_clear()


async def test_old_results_go_and_records_stay(place: Place) -> None:
    old, young = await place.add("old", 60, 35), await place.add("young", 40, 5)
    records = await place.add_run(is_alive=False)
    dry = await place.collect(30, dry_run=True)
    assert (dry.entries.scanned, dry.entries.removed, dry.entries.live) == (100, 60, 40)
    assert place.has(old) == {True}
    done = await place.collect(30)
    assert (done.entries.removed, done.entries.live, done.entries.missing) == (60, 40, 0)
    assert (done.objects.objects, done.objects.removed, done.objects.recorded) == (200, 120, 4)
    assert (place.has(old), place.has(young), place.has(records)) == ({False}, {True}, {True})
    again = await place.collect(30)
    assert (again.entries.scanned, again.entries.removed, again.objects.removed) == (40, 0, 0)


async def test_more_than_a_thousand_objects_go(place: Place) -> None:
    await place.repository.put_bytes_many([b"garbage %d" % number for number in range(1100)])
    young = await place.add("young", 3, 5)
    done = await place.collect(30)
    assert (done.objects.objects, done.objects.removed) == (1106, 1100)
    assert place.has(young) == {True}


async def test_a_run_under_way_elsewhere_is_spared(place: Place) -> None:
    before, during = await place.add("before", 3, 35), await place.add("during", 3, 20.5)
    records = await place.add_run(is_alive=True)
    done = await place.collect(10)
    assert (done.entries.removed, done.entries.held) == (3, 3)
    assert (place.has(before), place.has(during), place.has(records)) == ({False}, {True}, {True})


async def test_what_is_looked_up_while_we_collect_stays(place: Place) -> None:
    place.now_s = time.time()
    await place.add("old", 3, 30)
    keys = [(V2, Digest.of_text(f"old {number}")) for number in range(3)]
    assoc, reader, late = place.assoc(), place.assoc(), place.assoc()
    rows = sorted([row async for row in assoc.rows()], key=lambda row: row.key != keys[1][1])
    found = await reader.get_many(keys[1:2])
    assert set(found) == {keys[1]}
    await reader.close()  # its renewal has landed
    read = late._database.batch_get

    async def slow_read(table: str, ids: list[str], **options: Any) -> AsyncIterator[Any]:
        items = [item async for item in read(table, ids, **options)]
        assert await assoc.delete_unused(rows[:2]) == 1
        for item in items:
            yield item

    late._database.batch_get = slow_read  # type: ignore[method-assign]
    assert len(await late.get_many(keys)) == 3
    await late.close()  # one went while it was looked up, and was put back
    began_s = int(time.time()) - 60
    assert {row.key: row.values async for row in assoc.rows(began_s)} == {row.key: row.values for row in rows}
    assert await assoc.delete_unused(rows) == 0
    await assoc.close()


async def test_what_is_put_back_is_what_was_looked_up(place: Place) -> None:
    """Also an old value, which is a list; and never over what somebody else has written meanwhile."""
    place.now_s = time.time()
    await place.add("old", 3, 30)
    assoc = place.assoc()
    keys = [key_of(str(Digest.of_text(f"old {number}"))) for number in range(3)]
    first = {"TableName": place.table, "Key": keys[0]}
    await assoc._database.call(
        "UpdateItem",
        {
            **first,
            "UpdateExpression": "SET #v = :v",
            "ExpressionAttributeNames": {"#v": "Value"},
            "ExpressionAttributeValues": {":v": {"L": [{"S": str(Digest.of(b"v"))}, {"S": "more"}]}},
        },
    )
    before = [await assoc._database.call("GetItem", {**first, "Key": key}) for key in keys]
    warnings: list[str] = []
    reader = place.assoc()
    reader._warn = warnings.append
    is_read = asyncio.Event()
    call = reader._database.call

    async def slow_call(operation: str, request: Any, **options: Any) -> dict[str, Any]:
        if operation == "UpdateItem":
            await is_read.wait()
        return await call(operation, request, **options)

    reader._database.call = slow_call  # type: ignore[method-assign]
    assert len(await reader.get_many([(V2, Digest.of_text(f"old {number}")) for number in range(3)])) == 3
    for key in keys[:2]:
        await assoc._database.call("DeleteItem", {**first, "Key": key})
    await assoc.put_many({(V2, Digest.of_text("old 1")): Digest.of(b"another")})
    is_read.set()
    await reader.close()
    after = [await assoc._database.call("GetItem", {**first, "Key": key}) for key in keys]
    for number, value in ((0, before[0]), (2, before[2])):
        for column in ("Value", "ValueV2", "ID4"):
            assert after[number]["Item"].get(column) == value["Item"].get(column)
    assert after[1]["Item"]["ValueV2"] == {"S": str(Digest.of(b"another"))}
    assert after[2]["Item"]["AccessCount"] == {"N": "1"}
    assert len(warnings) == 1
    await assoc.close()


async def test_what_an_original_renewed_too_late_is_given_back(place: Place) -> None:
    await place.add("old", 2, 30)
    assoc = place.assoc()
    rows = [row async for row in assoc.rows()]
    assert await assoc.delete_unused(rows) == 2
    touch = {
        "TableName": place.table,
        "Key": key_of(str(rows[0].key)),
        "UpdateExpression": "SET LastAccessTime = :time ADD AccessCount :one",
        "ExpressionAttributeValues": {":time": {"N": str(int(time.time()))}, ":one": {"N": "1"}},
    }
    await assoc._database.call("UpdateItem", touch)
    (left,) = [row async for row in assoc.rows(int(time.time()) - 60)]
    assert (left.key, left.values) == (rows[0].key, {})
    assert await assoc.revive(rows) == 1
    (back,) = [row async for row in assoc.rows()]
    assert (back.key, back.values, back.labels) == (rows[0].key, rows[0].values, rows[0].labels)
    await assoc.close()


async def test_copies_of_this_machine_go_by_age_alone(place: Place) -> None:
    young = await place.add("young", 3, 5)
    local = wiring.local_repository(place.config)
    await local.put_bytes_many([b"a copy", b"another"])
    request = CollectRequest(
        place.now_s - 10 * DAY_S, lambda labels: False, lambda labels: False, dry_run=False
    )
    async with local_scope(place.config, [], request, place.now_s) as scope:
        collector = Collector(request, scope, Log(LEVELS["error"], lambda text: None), place.now_s)
        await collector.scan()
        await collector.collect_objects()
    assert (collector.objects.removed, collector.entries.scanned) == (2, 0)
    assert place.has(young) == {True}


async def test_versions_are_told(place: Place) -> None:
    lines: list[str] = []
    cloud = Cloud(AwsSession(), lines.append)
    assert tell_noncurrent(cloud, place.bucket) == []
    place.s3.put_bucket_versioning(Bucket=place.bucket, VersioningConfiguration={"Status": "Enabled"})
    await place.repository.put_bytes_many([b"garbage %d" % number for number in range(20)])
    await place.add("young", 1, 5)
    done = await place.collect(30)
    assert done.objects.removed == 20
    head, advice = tell_noncurrent(cloud, place.bucket)
    assert "holds 20 noncurrent versions (190B)" in head
    assert "no lifecycle rule" in advice
    assert '"NoncurrentDays": 7' in advice
    place.s3.put_bucket_lifecycle_configuration(Bucket=place.bucket, LifecycleConfiguration={"Rules": [RULE]})
    _, rule = tell_noncurrent(cloud, place.bucket)
    assert rule == "its lifecycle rule 'reflow-noncurrent' removes them after 7 days"


VERSIONS = {
    "s3:GetBucketVersioning": "whether it keeps versions of what is removed is not known",
    "s3:ListBucketVersions": "how much it holds of them is not known",
    "s3:GetLifecycleConfiguration": "whether a lifecycle rule removes them is not known",
}


@pytest.mark.parametrize("missing", VERSIONS)
async def test_a_right_that_versions_need_is_named_and_the_rest_is_told(
    place: Place, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.s3.put_bucket_versioning(Bucket=place.bucket, VersioningConfiguration={"Status": "Enabled"})
    with aws_proxy(place.s3.meta.endpoint_url) as (proxy, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        proxy.refuse = lambda action: (403, "AccessDenied") if action[0] == missing else None
        lines = tell_noncurrent(Cloud(AwsSession(), print), place.bucket)
    text = "\n".join(lines)
    assert f"{VERSIONS[missing]}: " in text
    assert f"{missing} is needed, it is in the driver's policy" in text
    if missing == "s3:GetBucketVersioning":
        assert len(lines) == 1
    else:
        assert ("holds 0 noncurrent versions" in text) == (missing != "s3:ListBucketVersions")
        assert ("no lifecycle rule" in text) == (missing != "s3:GetLifecycleConfiguration")


# The command.


@pytest.fixture
def work(tmp_path: Path, place: Place) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.state.mkdir()
    urls = {"s3": place.s3.meta.endpoint_url}
    if urls["s3"] == servers.MOTO:
        urls["dynamodb"] = servers.MOTO
    workspace.env |= servers.environment(**urls)
    lines = [f"{key}: {place.config.values[key]}\n" for key in ("repository", "assoc", "taskdb")]
    (workspace.state / "config.yaml").write_text("".join(lines))
    return workspace


async def test_the_command_is_dry_and_refuses_what_it_cannot_tell(work: Workspace, place: Place) -> None:
    await place.add("young", 3, 41)
    await place.add_run(is_alive=False)
    done = work.reflow("collect", "-threshold=2099-01-01").ok()
    assert "Scanned 3 associations, found 0 live associations, 0 live objects, 0 objects not" in done.err
    assert "6 of 6 objects (100.00%)" in done.err
    assert "3 of 3 associations (100.00%) would have been collected (0 associations matched" in done.err
    assert "of these, 3 associations and 6 objects" in done.err
    assert "4 further objects are of the record of runs: they stay" in done.err
    work.reflow("collect", "-threshold=2099-01-01", "-dry-run=false").ok()
    assert len(place.keys()) == 10
    work.reflow("collect", "-threshold=1d", "-rate=0").failed("invalid -rate 0", code=2)
    config = work.state / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("dynamodbtask", "sqlite #"))
    assert "no shared task database" in work.reflow("collect", "-threshold=1d").ok().err
    refused = work.reflow("collect", "-threshold=1d", "-dry-run=false")
    refused.failed("no shared task database is configured", "-no-taskdb")
    work.reflow("collect", "-threshold=1d", "-dry-run=false", "-no-taskdb").ok()
    config.write_text(text.replace("dynamodbassoc", "sqlite #"))
    work.reflow("collect", "-threshold=1d").failed("the index (assoc: sqlite) is of this machine")


async def test_many_keys_are_forgotten_at_once(work: Workspace, place: Place) -> None:
    await place.add("old", 60, 35)
    keys = [str(Digest.of_text(f"old {number}")) for number in range(50)]
    lines = [*keys[:40], keys[40].removeprefix("sha256:"), keys[41][: 7 + 16], *keys[42:], "zz", "ab" * 32]
    done = work.reflow("-log", "debug", "rmcache", typed="\n".join(lines)).ok()
    assert "removed 50 keys" in done.err
    assert "failed to parse zz" in done.err
    assert f"failed to delete {'ab' * 32}" in done.err
    assoc = place.assoc()
    assert await assoc.count() == 10
    await assoc.close()


TWO = """
val a = exec(image := "ubuntu", mem := 500*MiB, cpu := 1) (out file) {"
	echo hello world > {{out}}
"}
val Main = exec(image := "ubuntu", mem := 500*MiB, cpu := 1) (out dir) {"
	cp {{a}} {{out}}/one
"}
"""


@pytest.mark.docker
async def test_keys_that_are_lacking_are_repaired_and_results_synced(work: Workspace, place: Place) -> None:
    work.write("two.rf", TWO)
    done = work.reflow("run", "-executor", "docker", "two.rf").ok()
    keys = re.findall(r"^\t(sha256:[0-9a-f]{64})$", done.err, re.MULTILINE)
    assert len(keys) >= 4
    assoc = place.assoc()
    count = await assoc.count()
    work.reflow("rmcache", typed=f"{keys[0]}\n{keys[-1]}\n").ok()
    assert await assoc.count() == count - 2
    repaired = work.reflow("repair", "-executor", "docker", "two.rf").ok()
    assert re.search(r"wrote [1-9]\d* new assoc entries", repaired.err)
    assert await assoc.count() == count
    await assoc.close()
    shutil.rmtree(work.state / "repository")
    assert "copying out/one" in work.reflow("sync", keys[-1], "out").ok().err
    assert (work.dir / "out" / "one").read_text() == "hello world\n"
    assert "out/one: up to date" in work.reflow("sync", keys[-1], "out").ok().err
