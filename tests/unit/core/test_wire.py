from datetime import UTC, datetime
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, InputArg, OutputArg, ProfileEntry
from reflow.core.fileset import File, Fileset
from reflow.core.gojson import dump_json, load_json
from reflow.core.resources import Resources
from reflow.core.wire import (
    exec_config_from_json,
    exec_config_to_json,
    exec_inspect_from_json,
    exec_inspect_to_json,
    exec_result_from_json,
    exec_result_to_json,
)

NOW = datetime(2021, 3, 4, 5, 6, 7, 250000, UTC)
TEST = Fileset({".": File(Digest.of(b"test"), 4)})
CONFIG = ExecConfig(
    type="exec",
    ident="align",
    image="index.docker.io/library/ubuntu@sha256:0",
    original_image="ubuntu",
    cmd=" cp %s %s ",
    args=(InputArg(TEST), OutputArg(0)),
    arg_names=("reads", "out"),
    resources=Resources(mem=524288000, cpu=1, disk=0),
    output_is_dir=(False,),
    position="a.rf:3:5",
)
CONFIG_TEXT = (
    '{"Type":"exec","Ident":"align","URL":"","Image":"index.docker.io/library/ubuntu@sha256:0",'
    '"OriginalImage":"ubuntu","Cmd":" cp %s %s ","Args":[{"Out":false,"Fileset":{"Fileset":{".":{"ID":'
    '"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","Size":4,'
    '"LastModified":"0001-01-01T00:00:00Z","ContentHash":"\\u003czero\\u003e"}}},"Index":0},'
    '{"Out":true,"Index":0}],"Resources":{"cpu":1,"disk":0,"mem":524288000},'
    '"NeedAWSCreds":false,"NeedDockerAccess":false,"OutputIsDir":[false]}'
)
INTERN_TEXT = (
    '{"Type":"intern","Ident":"x","URL":"s3://bucket/k","Image":"","OriginalImage":"","Cmd":"","Args":null,'
    '"Resources":null,"NeedAWSCreds":false,"NeedDockerAccess":false}'
)
FAILED = ReflowError(Kind.DOCKER_EXEC, "exec", Digest.of(b"x"), cause="exited with code 1")


def test_a_configuration_has_the_bytes_of_the_original() -> None:
    assert dump_json(exec_config_to_json(CONFIG)).decode() == CONFIG_TEXT
    intern = ExecConfig(type="intern", ident="x", url="s3://bucket/k")
    assert dump_json(exec_config_to_json(intern)).decode() == INTERN_TEXT


def test_a_configuration_reads_back_with_its_extras() -> None:
    assert exec_config_from_json(exec_config_to_json(CONFIG, with_extras=True)) == CONFIG


def test_names_are_read_whatever_their_case() -> None:
    row = {"type": "exec", "CMD": "true", "args": [{"OUT": True, "index": 2}], "unknown": {}}
    assert exec_config_from_json(row) == ExecConfig(type="exec", cmd="true", args=(OutputArg(2),))


def test_results_are_those_of_the_original() -> None:
    failed = exec_result_to_json(ExecResult(error=FAILED))
    assert dump_json(failed).decode() == (
        f'{{"Fileset":{{}},"Err":{{"Op":"exec","Arg":["{Digest.of(b"x")}"],"Kind":"DockerExec",'
        '"Cause":{"Op":"","Arg":null,"Kind":"","Error":"exited with code 1"},"Error":""}}'
    )
    back = exec_result_from_json(failed)
    assert (back.fileset, str(back.error)) == (Fileset(), str(FAILED))
    done = ExecResult(Fileset(None, [TEST, Fileset()]))
    assert exec_result_from_json(exec_result_to_json(done)) == done


INSPECT = ExecInspect(
    config=CONFIG,
    created=NOW,
    state="complete",
    status="done <ok>",
    profile={"mem": ProfileEntry(2048.0, 1024.5, 3e-5, 3, NOW, NOW), "cpu": ProfileEntry(0, -1, -1, 0)},
    gauges={"tmp": 12.0},
    commands=("bash -c true",),
    runtime_s=61.25,
    stdout=Digest.of(b"out"),
    stderr=Digest.of(b"err"),
)


def test_a_stored_inspection_reads_back() -> None:
    data = dump_json(exec_inspect_to_json(INSPECT, with_extras=True))
    assert b"done \\u003cok\\u003e" in data
    assert b'"Var":0.00003' in data
    assert exec_inspect_from_json(load_json(data)) == INSPECT


def test_the_run_time_is_told_as_docker_does() -> None:
    row = exec_inspect_to_json(INSPECT)
    assert row["Docker"]["State"] == {
        "StartedAt": "2021-03-04T05:06:07.25Z",
        "FinishedAt": "2021-03-04T05:07:08.5Z",
    }
    assert list(row) == ["Created", "Config", "State", "Status", "Profile", "Gauges", "Commands", "Docker"]


@pytest.mark.parametrize(
    ("started", "finished", "runtime_s"),
    [
        ("2021-03-04T05:06:07.000000001Z", "2021-03-04T05:06:09.5Z", 2.5),
        ("2021-03-04T05:06:07Z", "2021-03-04T05:06:06Z", 0.0),
        ("2021-03-04T05:06:07Z", "0001-01-01T00:00:00Z", 0.0),
        ("soon", "later", 0.0),
    ],
)
def test_run_times_of_docker_are_read(started: str, finished: str, runtime_s: float) -> None:
    row = exec_inspect_to_json(INSPECT)
    row["Docker"] = {"State": {"StartedAt": started, "FinishedAt": finished}}
    assert exec_inspect_from_json(load_json(dump_json(row))).runtime_s == runtime_s


def test_errors_of_both_kinds_are_kept_apart() -> None:
    lost = ReflowError(Kind.UNAVAILABLE, "docker", cause="gone")
    inspect = ExecInspect(config=CONFIG, created=NOW, state="complete", error=lost, exec_error=FAILED)
    row = exec_inspect_to_json(inspect, with_extras=True)
    back = exec_inspect_from_json(load_json(dump_json(row)))
    assert (str(back.error), str(back.exec_error)) == (str(lost), str(FAILED))
    assert list(row)[-1] == "ExecError"


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {"Type": "shell"},
        {"Type": "exec", "Args": 1},
        {"Type": "exec", "Args": [1]},
        {"Type": "exec", "Resources": {"mem": "much"}},
        {"Type": "exec", "Args": [{"Fileset": {"Fileset": {"a": {"ID": "zz"}}}}]},
    ],
)
def test_what_is_malformed_is_invalid(row: Any) -> None:
    with pytest.raises(ReflowError) as caught:
        exec_config_from_json(row)
    assert caught.value.kind is Kind.INVALID
