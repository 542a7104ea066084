"""Batches on one machine, with this machine's own tools, through the real command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import Done, Workspace
from tests.waiting import wait_until

PROG = """
param sample string
param fail = "no"
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.1) (out file) {"
	echo {{sample}} >> LEDGER
	echo {{sample}} > {{out}}
	test {{fail}} = no
"}
"""
SLOW = """
param wait string
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.1) (out file) {"
	echo {{wait}} >> LEDGER
	sleep {{wait}}
	echo {{wait}} > {{out}}
"}
"""
ROWS = "id,sample,fail\n1,alpha,no\n2,beta,yes\n3,gamma,no\n"


class BatchDir(Workspace):
    """A directory with a batch; programs append to ``ledger`` what they do."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.env.update(USER="tester", TZ="UTC")
        self.write("config.json", '{"program": "prog.rf", "runs_file": "samples.csv"}\n')
        self.program(PROG)
        self.write("samples.csv", ROWS)

    def program(self, text: str) -> None:
        self.write("prog.rf", text.replace("LEDGER", str(self.dir / "ledger")))

    def batch(self, *words: str) -> Done:
        return self.reflow("runbatch", "-executor", "process", *words)

    @property
    def ledger(self) -> list[str]:
        """What was done, in order; forgotten when it was asked for."""
        path = self.dir / "ledger"
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def states(self) -> dict[str, str]:
        """Row id -> state, as listbatch tells."""
        lines = self.reflow("listbatch").ok().out.splitlines()
        return {line.split()[0]: line.split(maxsplit=2)[2] for line in lines}


@pytest.fixture
def batch(tmp_path: Path) -> BatchDir:
    return BatchDir(tmp_path)


def test_b1_three_rows_are_three_runs(batch: BatchDir) -> None:
    done = batch.batch().failed("batch program prog.rf runsfile samples.csv")
    assert done.out == ""
    assert "run 1: done: b6a98d9c" in done.err
    assert re.search(r"run 2: error: exec sha256:\w{64}: docker exec: exited with code 1\n", done.err)
    assert "run 3: done: ae9a6306" in done.err
    for name in ("log.1", "log.2", "log.3"):
        assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", (batch.dir / name).read_text())
        assert (batch.dir / name).stat().st_mode & 0o777 == 0o600
    assert "exited with code 1" in (batch.dir / "log.2").read_text()
    listed = json.loads((batch.dir / "state.json").read_text())
    assert listed["ID"].startswith("sha256:")
    for row in listed["Runs"].values():
        name = row["RunID"].removeprefix("sha256:")
        assert json.loads((batch.state / "runs" / f"{name}.json").read_text())["Phase"] == 3


def test_b2_the_command_line_wins_over_the_rows_and_these_over_defaults(batch: BatchDir) -> None:
    batch.batch("--", "-fail=no").ok()
    batch.write("samples.csv", "id,sample\n9,delta\n")
    assert "run 9: done: 673953e0" in batch.batch().ok().err


def test_b3_ids_select_runs(batch: BatchDir) -> None:
    done = batch.batch("-ids", "1,3").ok()
    assert "run 2: " not in done.err
    assert sorted(batch.ledger) == ["alpha", "gamma"]
    assert batch.states()["2"] == "waiting"
    batch.batch("-ids", "1,x").failed("no row has the id x")


def test_b4_parallelism_1_is_sequential_in_the_order_of_the_rows(batch: BatchDir) -> None:
    rows = [f"r{number}" for number in (5, 3, 9, 1)]
    batch.write("samples.csv", "id,sample\n" + "".join([f"{row},{row}\n" for row in rows]))
    batch.batch("-parallelism", "1").ok()
    assert batch.ledger == rows
    assert batch.batch("-parallelism", "0").code == 2


def test_b5_finished_runs_are_told_again_and_not_done_again(batch: BatchDir) -> None:
    batch.batch().failed()
    ids = _run_ids(batch)
    batch.ledger  # noqa: B018  (forgets)
    again = batch.batch().failed("run 1: done: b6a98d9c", "run 2: error: ", "run 3: done: ae9a6306")
    assert "executor" not in again.err
    assert batch.ledger == []
    batch.write("samples.csv", ROWS + "4,delta,no\n")
    batch.batch().failed("run 4: done: 673953e0")
    assert batch.ledger == ["delta"]
    assert {id: run for id, run in _run_ids(batch).items() if id != "4"} == ids


def test_b5_a_row_whose_parameters_changed_is_done_again(batch: BatchDir) -> None:
    batch.batch("-ids", "1,3").ok()
    batch.ledger  # noqa: B018
    batch.write("samples.csv", ROWS.replace("gamma", "omega"))
    batch.batch("-ids", "1,3").ok()
    assert batch.ledger == ["omega"]


def test_b5_all_rows_are_done_again_when_the_program_changed(batch: BatchDir) -> None:
    batch.batch("-ids", "1,3").ok()
    batch.ledger  # noqa: B018
    batch.program(PROG.replace("> {{out}}", "twice > {{out}}"))
    batch.batch("-ids", "1,3").ok()
    assert sorted(batch.ledger) == ["alpha", "gamma"]


def test_b6_reset_does_all_again_and_retry_only_what_failed(batch: BatchDir) -> None:
    batch.batch().failed()
    ids = _run_ids(batch)
    batch.ledger  # noqa: B018
    retried = batch.batch("-retry").failed("retrying run 2")
    assert "retrying run 1" not in retried.err
    assert batch.ledger == ["beta"]
    assert {id for id, run in _run_ids(batch).items() if run != ids[id]} == {"2"}
    batch.batch("-reset", "-invalidate", ".*").failed()
    assert sorted(batch.ledger) == ["alpha", "beta", "gamma"]
    assert not set(_run_ids(batch).values()) & set(ids.values())


def test_b6_reset_of_some_makes_the_others_wait(batch: BatchDir) -> None:
    batch.batch().failed()
    batch.batch("-reset", "-ids", "1").ok()
    assert batch.states() == {"1": "done", "2": "waiting", "3": "waiting"}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("id,sample\n1,a,b\n", "batch file row [[1 a b]] has 3 fields, need 2"),
        ("", "empty batch"),
        ('id,sample\n1,a"b\n', 'parse error on line 2, column 4: bare " in non-quoted-field'),
        ("id,sample\n1,a\n1,b\n", "two rows have the id 1"),
        ("id,sample\na/b,a\n", "cannot be the id of a run"),
        ("id,sample,\n1,a,x\n", "column 3 has no name"),
        ("id,sample,nosuch\n1,a,b\n", "run 1: error: non-existent flag nosuch"),
        ("id,fail\n1,no\n", "run 1: error: missing mandatory flag -sample"),
    ],
)
def test_b7_bad_runs_files(batch: BatchDir, rows: str, text: str) -> None:
    batch.write("samples.csv", rows)
    batch.batch().failed(text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (None, "config.json: no such file or directory"),
        ("{", "not JSON"),
        ("[]", "want an object"),
        ('{"program": "prog.rf"}', "runs_file is not given"),
        ('{"program": 1, "runs_file": "samples.csv"}', "program is 1, want a path"),
        ('{"program": "prog.rf", "runs_file": "no.csv"}', "no.csv: no such file or directory"),
        ('{"program": "no.rf", "runs_file": "samples.csv"}', "no.rf"),
    ],
)
def test_b7_bad_configurations(batch: BatchDir, config: str | None, text: str) -> None:
    (batch.dir / "config.json").unlink()
    if config is not None:
        batch.write("config.json", config)
    batch.batch().failed(text)


def test_a_batch_that_cannot_be_read_loses_no_state(batch: BatchDir) -> None:
    batch.batch("-ids", "1").ok()
    before = (batch.dir / "state.json").read_text()
    batch.program("val Main = 1 +\n")
    batch.batch().failed("prog.rf")
    assert (batch.dir / "state.json").read_text() == before


def test_b8_the_exit_status_tells_of_failed_runs(batch: BatchDir) -> None:
    assert batch.batch().code == 1
    assert batch.batch().code == 1
    batch.write("samples.csv", ROWS.replace("yes", "no"))
    assert batch.batch().code == 0
    assert batch.batch().code == 0


def test_an_immediate_main_needs_no_executor(batch: BatchDir) -> None:
    batch.program('param sample string\nparam fail = "no"\nval Main = (sample, fail)\n')
    done = batch.batch().ok()
    assert 'run 2: done: ("beta", "yes")' in done.err
    assert "executor" not in done.err


def test_an_executor_that_cannot_be_had_ends_the_batch(batch: BatchDir) -> None:
    done = batch.reflow("runbatch", "-executor", "docker", DOCKER_HOST="unix:///nowhere.sock")
    done.failed("docker")
    assert set(batch.states().values()) == {"waiting"}


def test_traces_of_the_program_go_to_the_log_of_the_run(batch: BatchDir) -> None:
    batch.program('param sample string\nparam fail = "no"\nval Main = trace(sample)\n')
    done = batch.batch().ok()
    assert "alpha" not in done.err.replace('done: "alpha"', "")
    assert "alpha" in (batch.dir / "log.1").read_text()
    assert "alpha" not in (batch.dir / "log.3").read_text()


def test_runs_share_inputs_that_are_read_once(batch: BatchDir) -> None:
    batch.program(
        'param sample string\nparam fail = "no"\nparam ref = file("ref.txt")\n'
        'val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.1) (out file) {"\n'
        "\tcat {{ref}} > {{out}}; echo {{sample}} >> {{out}}\n"
        '"}\n'
    )
    batch.write("ref.txt", "reference\n")
    done = batch.batch().ok()
    assert len(set(re.findall(r"done: (\w{8})", done.err))) == 3


def test_a_batch_elsewhere_is_relative_to_its_configuration(batch: BatchDir) -> None:
    (batch.dir / "sub").mkdir()
    for name in ("config.json", "prog.rf", "samples.csv"):
        os.rename(batch.dir / name, batch.dir / "sub" / name)
    batch.batch("-batchconfig", "sub/config.json", "-ids", "1").ok()
    assert (batch.dir / "sub" / "log.1").exists()
    listed = batch.reflow("listbatch", "-batchconfig", "sub/config.json").ok()
    assert listed.out.split()[2] == "done"
    assert "log:    sub/log.1" in batch.reflow("batchinfo", "-batchconfig", "sub/config.json").ok().out


def test_the_directory_tells_what_happened_when_it_is_copied(batch: BatchDir, tmp_path: Path) -> None:
    batch.batch().failed()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = batch.reflow("listbatch", REFLOW_HOME=str(elsewhere)).ok()
    assert [line.split()[2] for line in listed.out.splitlines()] == ["done", "exec", "done"]
    told = batch.reflow("runbatch", "-executor", "process", REFLOW_HOME=str(elsewhere))
    told.failed("run 1: done: b6a98d9c", "run 2: error: ")


def test_c8_listbatch_and_batchinfo(batch: BatchDir) -> None:
    for command in ("listbatch", "batchinfo"):
        assert batch.reflow(command).ok().out == ""
    batch.batch().failed()
    listed = batch.reflow("listbatch").ok()
    assert re.fullmatch(r"1 +\w{8} done\n2 +\w{8} .*exited with code 1\n3 +\w{8} done\n", listed.out)
    assert "3 runs: 2 done, 1 failed" in listed.err
    info = batch.reflow("batchinfo").ok().out
    ids = _run_ids(batch)
    for id in ("1", "2", "3"):
        assert f"run {id}: {ids[id][:8]}\n{ids[id]} (run)\n" in info
        assert re.search(rf"    log: +log\.{id}\n", info)
    assert re.search(r"    program: +prog\.rf\n", info)
    assert re.search(r"    result: +b6a98d9c\n", info)
    assert re.search(r"    error: .*exited with code 1\n", info)


def test_c8_a_damaged_state_is_told(batch: BatchDir) -> None:
    batch.write("state.json", "{")
    for command in ("listbatch", "batchinfo"):
        batch.reflow(command).failed("state.json is damaged")
    batch.batch().failed("state.json is damaged")
    batch.batch("-reset", "-ids", "1").ok()


def _start_slow(batch: BatchDir) -> subprocess.Popen[str]:
    """A batch of which one run is done and two are under way."""
    batch.program(SLOW)
    batch.write("samples.csv", "id,wait\na,0\nb,300\nc,301\n")
    process = batch.start("runbatch", "-executor", "process")
    assert process.stderr is not None
    for line in process.stderr:
        if "run a: done" in line:
            break
    wait_until(lambda: len((batch.dir / "ledger").read_text().split()) == 3)
    return process


def test_c8_an_interrupted_batch_goes_on_where_it_was(batch: BatchDir) -> None:
    process = _start_slow(batch)
    assert batch.states() == {"a": "done", "b": "running", "c": "running"}
    batch.batch().failed("another process does this batch now")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "batch failed with error canceled: 1 done, 0 failed, 2 left" in err
    assert "Traceback" not in err
    assert not _running("sleep 300", "sleep 301")
    assert batch.states() == {"a": "done", "b": "canceled: interrupted", "c": "canceled: interrupted"}
    batch.ledger  # noqa: B018
    batch.write("samples.csv", "id,wait\na,0\nb,0.1\nc,0.2\n")
    batch.batch().ok()
    assert sorted(batch.ledger) == ["0.1", "0.2"]


def test_c8_a_batch_whose_process_was_killed_goes_on(batch: BatchDir) -> None:
    process = _start_slow(batch)
    process.kill()
    process.communicate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert batch.states() == {"a": "done", "b": "interrupted", "c": "interrupted"}
    batch.write("samples.csv", "id,wait\na,0\nb,0.1\nc,0.2\n")
    done = batch.batch().ok()
    assert "run a: done" in done.err
    assert batch.states() == dict.fromkeys("abc", "done")


def test_runs_of_a_batch_are_in_the_record(batch: BatchDir) -> None:
    batch.batch().failed()
    ids = _run_ids(batch)
    listed = batch.reflow("ps", "-i").ok().out
    assert all(run[:8] in listed for run in ids.values())
    assert "exited with code 1" in batch.reflow("logs", ids["2"][:8]).ok().out
    assert ids["1"] in batch.reflow("info", ids["1"][:8]).ok().out


def test_kill_of_a_run_of_a_batch_leaves_the_others(batch: BatchDir) -> None:
    process = _start_slow(batch)
    batch.reflow("kill", _run_ids(batch)["b"][:8]).ok()
    assert process.stderr is not None
    line = next(line for line in process.stderr if "run b" in line)
    assert "killed by reflow kill" in line
    assert batch.states()["c"] == "running"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 1


@pytest.mark.slow
def test_many_rows_need_little_memory_and_few_files(batch: BatchDir) -> None:
    count = 1500
    batch.program(PROG.replace("\techo {{sample}} >> LEDGER\n", ""))
    batch.write("samples.csv", "id,sample\n" + "".join([f"s{n},sample-{n}\n" for n in range(count)]))
    process = batch.start("runbatch", "-executor", "process")
    most_kib = most_files = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{process.pid}/status").read_text()
            most_kib = max(most_kib, int(next(re.finditer(r"VmRSS:\s+(\d+)", status))[1]))
            most_files = max(most_files, len(os.listdir(f"/proc/{process.pid}/fd")))
        time.sleep(0.2)
    _, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    assert f"batch: {count} done, 0 failed" in err
    # 10 000 rows take 112 MiB: what grows with the rows is some 5 KiB for each.
    assert most_kib < 150 * 1024
    assert most_files < 250


@pytest.mark.docker
def test_a_batch_in_containers(batch: BatchDir) -> None:
    batch.program(PROG.replace("\techo {{sample}} >> LEDGER\n", ""))
    done = batch.reflow("runbatch", "-executor", "docker")
    done.failed("run 1: done: b6a98d9c", "exited with code 1", "run 3: done: ae9a6306")


def _run_ids(batch: BatchDir) -> dict[str, str]:
    rows = json.loads((batch.dir / "state.json").read_text())["Runs"]
    return {id: row["RunID"].removeprefix("sha256:") for id, row in rows.items()}


def _running(*commands: str) -> list[str]:
    """Those of some command lines that still run."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line in commands]
