"""Runs whose cache and record are shared: S3 and DynamoDB as real servers, from one machine and another."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from reflow.aws.tables import ASSOC, TASKDB, Table, creation
from tests import servers
from tests.awsaccount import client, random_name, remove_bucket, remove_table
from tests.command import Done, Workspace
from tests.dynamofaults import DynamoFaults
from tests.faultproxy import Fault, served

pytestmark = [pytest.mark.docker, pytest.mark.s3, pytest.mark.dynamodb]

RUN = ("run", "-executor", "docker", "-json")


@dataclass(frozen=True)
class Shared:
    """What machines share, by name; ``data`` is a bucket for what programs read and write."""

    s3: Any
    dynamodb: Any
    cache: str
    data: str
    assoc: str
    taskdb: str

    def config(self, **other: str) -> str:
        """A configuration that uses it; names of keys may be replaced."""
        lines = {
            "repository": f"s3,bucket={self.cache}",
            "assoc": f"dynamodbassoc,table={self.assoc}",
            "taskdb": f"dynamodbtask,table={self.taskdb},bucket={self.cache}",
            **other,
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items())

    def put(self, key: str, data: bytes) -> str:
        """An object for programs to read; its URL."""
        self.s3.put_object(Bucket=self.data, Key=key, Body=data)
        return f"s3://{self.data}/{key}"

    def read(self, key: str) -> bytes:
        data: bytes = self.s3.get_object(Bucket=self.data, Key=key)["Body"].read()
        return data

    def tasks(self) -> int:
        """How many tasks are recorded."""
        items = self.dynamodb.scan(TableName=self.taskdb, ConsistentRead=True)["Items"]
        return [each["Type"]["S"] for each in items].count("task")

    def objects(self) -> dict[str, bytes]:
        """All of the cache's bucket."""
        keys = [each["Key"] for each in self.s3.list_objects_v2(Bucket=self.cache).get("Contents", ())]
        return {key: self.s3.get_object(Bucket=self.cache, Key=key)["Body"].read() for key in keys}


def make_table(dynamodb: Any, kind: Table, name: str) -> str:
    dynamodb.create_table(**{key: value for key, value in creation(kind, name).items() if value})
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return name


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    s3, dynamodb = client("s3", servers.S3), client("dynamodb", servers.DYNAMODB)
    made = Shared(s3, dynamodb, *[random_name("run") for _ in range(4)])
    for bucket in (made.cache, made.data):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": servers.REGION})
    for kind, name in ((ASSOC, made.assoc), (TASKDB, made.taskdb)):
        make_table(dynamodb, kind, name)
    yield made
    for bucket in (made.cache, made.data):
        remove_bucket(s3, bucket)
    for name in (made.assoc, made.taskdb):
        remove_table(dynamodb, name)


Machine = Callable[[], Workspace]


@pytest.fixture
def machine(tmp_path: Path, shared: Shared) -> Machine:
    """Makes machines that share nothing but what is in AWS."""
    made: list[Workspace] = []

    def make() -> Workspace:
        root = tmp_path / str(len(made))
        root.mkdir()
        work = Workspace(root)
        work.env |= servers.environment()
        work.state.mkdir()
        (work.state / "config.yaml").write_text(shared.config())
        made.append(work)
        return work

    return make


def run(work: Workspace, program: str, *flags: str, **env: str) -> Done:
    """Run a program. Its images are looked up at a port where nobody answers, at once."""
    work.write("p.rf", program)
    return work.reflow(*RUN, *flags, "p.rf", REFLOW_REGISTRY="127.0.0.1:1", **env)


def counts(done: Done) -> tuple[int, int]:
    """How many execs ran, and how many were found."""
    row = done.ok().json
    return row["executed"], row["cached"]


def chain() -> str:
    """A program of two execs that nobody has run before."""
    return f"""
val a = exec(image := "ubuntu") (out file) {{" echo {secrets.token_hex(8)} > {{{{out}}}}; echo said >&2 "}}
val Main = exec(image := "ubuntu") (out file) {{" cat {{{{a}}}} {{{{a}}}} > {{{{out}}}} "}}
"""


def test_what_one_machine_has_computed_another_finds(machine: Machine, shared: Shared) -> None:
    program = chain()
    first = run(machine(), program)
    assert counts(first) == (2, 0)
    other = machine()
    again = run(other, program)
    assert counts(again) == (0, 2)
    assert again.json["result"] == first.json["result"]
    assert counts(run(machine(), program, "-eval=bottomup")) == (0, 2)


def test_an_exec_that_can_never_fit_is_refused_before_its_inputs_are_fetched(
    machine: Machine, shared: Shared
) -> None:
    size = 1_234_567
    url = shared.put("large", secrets.token_bytes(size))
    work = machine()
    body = '(out file) {" cat {{f}} > {{out}} "}'
    big = f'val f = file("{url}")\nval Main = exec(image := "ubuntu", cpu := 5000) {body}\n'
    run(work, big).failed("exec p.Main: ", "write cpu := ")
    assert [path for path in work.state.rglob("*") if path.is_file() and path.stat().st_size == size] == []
    run(work, big.replace("5000", "1")).ok()
    assert [path for path in work.state.rglob("*") if path.is_file() and path.stat().st_size == size] != []


def test_what_is_found_needs_no_sdk(machine: Machine) -> None:
    program = chain()
    work = machine()
    assert counts(run(work, program)) == (2, 0)
    done = run(work, program, PYTHONPROFILEIMPORTTIME="1")
    assert counts(done) == (0, 2)
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "reflow.blob.direct" in imported
    assert not imported & {"botocore", "boto3", "docker"}


def test_a_cached_result_can_be_placed_on_another_machine(machine: Machine) -> None:
    program = chain()
    here, there = machine(), machine()
    run(here, program, "-out", "result").ok()
    assert counts(run(there, program, "-out", "result")) == (0, 2)
    text = (there.dir / "result").read_text()
    assert text == (here.dir / "result").read_text()
    assert len(text.split()) == 2


def test_files_and_directories_in_s3_are_read_and_written(machine: Machine, shared: Shared) -> None:
    at = f"in-{secrets.token_hex(4)}"
    one = shared.put(f"{at}/one.txt", b"one\n")
    for name in ("d/a", "d/sub/b", "d/empty"):
        shared.put(f"{at}/{name}", b"" if name.endswith("empty") else name.encode() + b"\n")
    program = f"""
files := make("$/files")
dirs := make("$/dirs")
val base = "s3://{shared.data}/{at}/"
val f = exec(image := "ubuntu") (out file) {{" cat {{{{file("{one}")}}}} > {{{{out}}}} "}}
val d = exec(image := "ubuntu") (out dir) {{" cp -r {{{{dir(base + "d/")}}}}/. {{{{out}}}} "}}
val Main = [files.Copy(f, base + "out/f"), files.Copy(file("{one}"), base + "out/copied")]
val Dirs = dirs.Copy(d, base + "out/d/")
"""
    for wanted in ((2, 0), (0, 1)):
        text = program.replace("val Main", "val Files").replace("val Dirs", "val Main")
        assert counts(run(machine(), text))[0] == (1 if wanted[0] else 0)
    assert {name: shared.read(f"{at}/out/d/{name}") for name in ("a", "sub/b", "empty")} == {
        "a": b"d/a\n",
        "sub/b": b"d/sub/b\n",
        "empty": b"",
    }
    assert counts(run(machine(), program)) == (1, 0)
    assert shared.read(f"{at}/out/f") == shared.read(f"{at}/out/copied") == b"one\n"
    shared.s3.delete_object(Bucket=shared.data, Key=f"{at}/out/f")
    assert counts(run(machine(), program)) == (0, 1)
    assert shared.read(f"{at}/out/f") == b"one\n"


ODD_KEYS = ["with blank", "100%.txt", "a%20b", "plus+and&more", "ü/ж.txt", "quote'd\"", "#?"]


@pytest.mark.parametrize("name", ODD_KEYS)
def test_keys_are_used_as_they_are_written(machine: Machine, shared: Shared, name: str) -> None:
    at = f"odd-{secrets.token_hex(4)}"
    url, out = shared.put(f"{at}/{name}", name.encode()), f"s3://{shared.data}/{at}/out/{name}"
    program = f"""
files := make("$/files")
val in = file({json.dumps(url, ensure_ascii=False)})
val f = exec(image := "ubuntu") (out file) {{" cat {{{{in}}}} > {{{{out}}}} "}}
val Main = files.Copy(f, {json.dumps(out, ensure_ascii=False)})
"""
    assert counts(run(machine(), program)) == (1, 0)
    assert shared.read(f"{at}/out/{name}") == name.encode()
    assert counts(run(machine(), program)) == (0, 1)


def test_local_inputs_are_where_others_find_them(machine: Machine, shared: Shared) -> None:
    work = machine()
    text = f"mine {secrets.token_hex(8)}"
    work.write("in.txt", text)
    program = 'val Main = exec(image := "ubuntu") (out file) {" wc -c < {{file("in.txt")}} > {{out}} "}\n'
    assert counts(run(work, program)) == (1, 0)
    assert text.encode() in shared.objects().values()
    other = machine()
    other.write("in.txt", text)
    assert counts(run(other, program)) == (0, 1)


def test_a_lost_object_is_a_miss_and_not_a_wrong_answer(machine: Machine, shared: Shared) -> None:
    program = chain()
    first = run(machine(), program)
    shared.s3.delete_object(Bucket=shared.cache, Key=result_key(shared, first))
    again = run(machine(), program)
    assert counts(again) == (1, 1)
    assert again.json["result"] == first.json["result"]
    assert counts(run(machine(), program)) == (0, 2)


def result_key(shared: Shared, done: Done) -> str:
    """Where the only file of a result is."""
    prefix = f"objects/sha256:{done.ok().json['result']}"
    (found,) = shared.s3.list_objects_v2(Bucket=shared.cache, Prefix=prefix)["Contents"]
    key: str = found["Key"]
    return key


def test_an_object_that_is_not_what_its_name_says_is_computed_again(machine: Machine, shared: Shared) -> None:
    program = chain()
    key = result_key(shared, run(machine(), program))
    size = shared.s3.head_object(Bucket=shared.cache, Key=key)["ContentLength"]
    shared.s3.put_object(Bucket=shared.cache, Key=key, Body=b"x" * size)
    work = machine()
    done = run(work, program, "-out", "result").ok()
    assert f"the contents of s3://{shared.cache}/{key} are those of" in done.err
    assert len((work.dir / "result").read_bytes()) == size
    assert key.endswith(sha256((work.dir / "result").read_bytes()).hexdigest())
    replaced = shared.s3.get_object(Bucket=shared.cache, Key=key)["Body"].read()
    assert replaced == (work.dir / "result").read_bytes()


@pytest.mark.parametrize(
    ("change", "env", "texts"),
    [
        ({}, {"AWS_SECRET_ACCESS_KEY": "wrong"}, ["may not read it"]),
        ({}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, ["no AWS credentials", "AWS_PROFILE"]),
        ({"repository": "s3,bucket=no-such-bucket-here"}, {}, ["no-such-bucket-here", "does not exist"]),
        ({"assoc": "dynamodbassoc,table=no-such-table"}, {}, ["there is no table no-such-table"]),
        ({"taskdb": "dynamodbtask,table=no-such-table,bucket=b"}, {}, ["there is no table no-such-table"]),
        ({"taskdb": "dynamodbtask,table=TASKDB,bucket=no-such-bucket-here"}, {}, ["no-such-bucket-here"]),
        ({"repository": "s3"}, {}, ["repository: s3 has no bucket", "config.yaml"]),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_runs(
    machine: Machine, shared: Shared, change: dict[str, str], env: dict[str, str], texts: list[str]
) -> None:
    work = machine()
    config = shared.config(**change).replace("TASKDB", shared.taskdb)
    (work.state / "config.yaml").write_text(config)
    done = run(work, chain(), **env).failed(*texts)
    assert "wrong" not in done.err
    assert done.json["executed"] == 0


BATCH = """
param sample string
param data file
val Main = exec(image := "ubuntu") (out file) {"
	cat {{data}} > {{out}}
	echo {{sample}} >> {{out}}
"}
"""


def test_runs_of_a_batch_find_what_those_of_another_machine_left(machine: Machine, shared: Shared) -> None:
    nonce = secrets.token_hex(8)
    for executed in (2, 0):
        work = machine()
        work.write("p.rf", BATCH)
        work.write("in.txt", nonce)
        work.write("config.json", '{"program": "p.rf", "runs_file": "samples.csv"}\n')
        work.write("samples.csv", "id,sample,data\n1,a,in.txt\n2,b,in.txt\n")
        before = shared.tasks()
        work.reflow("runbatch", "-executor", "docker", REFLOW_REGISTRY="127.0.0.1:1").ok()
        assert [line.split()[2] for line in work.reflow("listbatch").ok().out.splitlines()] == ["done"] * 2
        assert shared.tasks() - before == executed
    assert {f"{nonce}a\n".encode(), f"{nonce}b\n".encode(), nonce.encode()} <= set(shared.objects().values())


def test_a_server_that_is_not_there_is_an_error_that_may_go_away(machine: Machine) -> None:
    done = run(machine(), chain(), AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")
    done.failed(
        "s3.bucket", "network error", "127.0.0.1:1", "check the network, and AWS_ENDPOINT_URL_S3", code=10
    )


HARM = {
    Fault.THROTTLED: 0.1,
    Fault.INTERNAL: 0.05,
    Fault.INTERNAL_AFTER: 0.05,
    Fault.CUT_BEFORE: 0.05,
    Fault.CUT_AFTER: 0.05,
}


def many() -> str:
    """A program of seven execs that nobody has run before."""
    lines = [
        f'val a{n} = exec(image := "ubuntu") (out file) {{" echo {secrets.token_hex(8)} > {{{{out}}}} "}}'
        for n in range(6)
    ]
    names = " ".join(f"{{{{a{n}}}}}" for n in range(6))
    return "\n".join(
        [*lines, f'val Main = exec(image := "ubuntu") (out file) {{" cat {names} > {{{{out}}}} "}}']
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_dynamodb_that_does_harm_loses_no_entry(machine: Machine, shared: Shared, seed: int) -> None:
    program, before, proxy = many(), shared.tasks(), DynamoFaults(servers.DYNAMODB, seed)
    proxy.rates, proxy.left = HARM, 0.2
    with served(proxy) as url:
        done = run(machine(), program, AWS_ENDPOINT_URL_DYNAMODB=url)
    assert counts(done) == (7, 0)
    assert "Traceback" not in done.err
    assert proxy.done.total() > 0
    assert shared.tasks() - before == 7
    assert max(proxy.calls.values()) < 400
    items = shared.dynamodb.scan(TableName=shared.assoc, ConsistentRead=True)["Items"]
    assert len(items) >= 7
    assert {"objects/" + item["ValueV2"]["S"] for item in items} <= set(shared.objects())
    assert all({"ID", "ID4", "LastAccessTime", "Labels"} <= set(item) for item in items)
    again = run(machine(), program)
    assert counts(again) == (0, 7)
    assert again.json["result"] == done.json["result"]


def test_dynamodb_that_fails_for_good_ends_a_run_that_may_be_begun_again(
    machine: Machine, shared: Shared
) -> None:
    proxy = DynamoFaults(servers.DYNAMODB, 1)
    proxy.plan = lambda what, count: Fault.INTERNAL
    with served(proxy) as url:
        done = run(machine(), chain(), AWS_ENDPOINT_URL_DYNAMODB=url)
    done.failed(f"dynamodb.GetItem {shared.assoc}: unavailable: InternalServerError", code=10)
    assert done.json["error"]["kind"] == "Unavailable"
    assert max(proxy.calls.values()) < 50


def test_a_run_is_looked_at_from_another_machine(machine: Machine) -> None:
    here, there = machine(), machine()
    id = run(here, chain()).ok().json["run"]
    for work in (here, there):
        assert id.removeprefix("sha256:")[:8] in work.reflow("ps", "-a", "-i", "-l").ok().out
        assert sorted(task_ids(work, id)) == ["p.Main", "p.a"]
        assert work.reflow("logs", task_ids(work, id)["p.a"]).ok().out == "said\n"
        assert work.reflow("logs", task_ids(work, id)["p.Main"]).ok().out == ""
        work.reflow("list").ok()
    assert f"run ID: {id.removeprefix('sha256:')[:8]}" in there.reflow("logs", id).ok().out


def task_ids(work: Workspace, run_id: str) -> dict[str, str]:
    """The ids of a run's tasks, by what `info` shows of them."""
    rows = [line.split() for line in work.reflow("info", run_id).ok().out.splitlines()]
    return {row[3]: row[0] for row in rows if len(row) > 3 and row[3].startswith("p.")}
