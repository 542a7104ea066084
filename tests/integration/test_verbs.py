"""Verbs that look at, or tidy up, what is on this machine: through the real command."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Done, Workspace

TWO = """
param who = "world"
val a = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	echo hello {{who}} > {{out}}
"}
val b = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out dir) {"
	cp {{a}} {{out}}/one
	echo two > {{out}}/two
"}
val Main = b
"""
ONE_SHA = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447"
LONG = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.5) (out file) {"
	echo hi > $HOME/greeting
	echo begin
	sleep 600
"}
"""
FAIL = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	echo left > $HOME/behind
	exit 3
"}
"""


class Verbs(Workspace):
    """A working directory with programs, and what to do with them."""

    executor = "process"

    def run(self, *words: str) -> Done:
        return self.reflow("run", "-executor", self.executor, *words)

    def keys(self, *words: str) -> dict[str, list[str]]:
        """The cache keys of each exec, as the log of a run shows them."""
        err = self.run(*words).ok().err
        pattern = r"^reflow: (\w+\.\w+) \w{8} .*\n\tresources: .*\n((?:\tsha256:\w{64}\n)+)"
        blocks = re.findall(pattern, err, re.MULTILINE)
        return {ident: text.split() for ident, text in blocks}

    def sql(self, name: str, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Change, or ask, one of the databases."""
        connection = sqlite3.connect(self.state / name)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def start_long(self) -> tuple[subprocess.Popen[str], str]:
        """A run whose exec has begun, and the name of the exec."""
        process = self.start("run", "-executor", self.executor, "long.rf")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in self.reflow("list", "-a").ok().out.splitlines():
                if line.startswith("exec") and " running " in line:
                    return process, line.split()[-1]
            time.sleep(0.1)
        process.kill()
        raise AssertionError(process.communicate())


@pytest.fixture
def work(tmp_path: Path) -> Verbs:
    made = Verbs(tmp_path)
    made.env.update(USER="tester", TZ="UTC")
    made.write("two.rf", TWO)
    made.write("long.rf", LONG)
    made.write("fail.rf", FAIL)
    return made


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and stderr of a process that ends by itself."""
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, err


# list, kill, shell.


def test_i7_list(work: Verbs) -> None:
    assert work.reflow("list").ok().out == work.reflow("list", "-n").ok().out == ""
    process, name = work.start_long()
    try:
        alloc, _, id = name.partition("/")
        assert re.fullmatch(r"\w{16}", alloc)
        assert re.fullmatch(r"\w{64}", id)
        (row,) = work.reflow("list").ok().out.splitlines()
        assert re.fullmatch(rf"alloc +\d\S+B +\d\S* +\d\S+B +1m\d+s +tester +{alloc}", row)
        offer, row, execution = work.reflow("list", "-a").ok().out.splitlines()
        assert re.fullmatch(r"offer +\S+ +\S+ +\S+ +local", offer)
        assert re.fullmatch(rf"exec +running +500.0MiB +1 +0B +long\.Main +{name}", execution)
        assert work.reflow("list", "-n", "-a").ok().out.split() == ["local", alloc, name]
        for word in (alloc, name, f"{alloc}/{id[:8]}", f"host:9000/{name}"):
            assert "long.Main" in work.reflow("list", word).ok().out
        work.reflow("list", "foo").failed("foo: resource does not exist")
        work.reflow("list", "123").failed("not an alloc or exec 123")
        assert work.reflow("list", "-a", alloc).code == 2
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert work.reflow("list").ok().out == ""


def test_i2_info_of_what_runs(work: Verbs) -> None:
    process, name = work.start_long()
    try:
        alloc = name.partition("/")[0]
        told = work.reflow("info", name).ok().out
        assert told.startswith(f"{name} (exec)\n    state:")
        for label, value in (("state", "running"), ("ident", "long.Main"), ("executor", "process")):
            assert re.search(rf"^    {label}: +{value}$", told, re.MULTILINE)
        assert "sleep 600" in told
        block = work.reflow("info", alloc).ok().out
        assert block.startswith(f"{alloc} (alloc)\n    mem:")
        assert re.search(r"^    expires: +20\d\d-\S+ \(in 1m\d+s\)$", block, re.MULTILINE)
        assert name in block
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)
    work.reflow("info", f"{alloc}/").failed("unable to resolve id")
    work.reflow("info", "foo").failed("alloc foo: resource does not exist")


def test_i8_kill_ends_a_run_in_good_order(work: Verbs) -> None:
    process, _ = work.start_long()
    run = next(iter((work.state / "runs").glob("*.json"))).stem
    assert work.reflow("kill", run[:8]).ok() == Done(0, "", "")
    code, err = ended(process)
    assert code == 1
    assert "cleaning up..." in err
    work.reflow("kill", run[:8]).failed(f"'{run[:8]}' not an alloc")


def test_i8_kill_ends_an_exec(work: Verbs) -> None:
    process, name = work.start_long()
    work.reflow("kill", name).ok()
    code, err = ended(process)
    assert code == 1
    assert "docker exec: killed by reflow kill" in err


def test_i8_kill_ends_all_runs_of_an_alloc(work: Verbs) -> None:
    process, name = work.start_long()
    work.reflow("kill", name.partition("/")[0]).ok()
    assert ended(process)[0] == 1


def test_i8_what_cannot_be_killed_is_told(work: Verbs) -> None:
    done = work.reflow("kill", "foo", "123", "1234abcd", "ec2-1.compute.amazonaws.com")
    done.failed(
        "alloc foo (from arg foo): resource does not exist",
        "invalid argument '123': ",
        "'1234abcd' not an alloc",
        "'ec2-1.compute.amazonaws.com' not an alloc",
    )
    assert len(done.err.splitlines()) == 4


def shell(work: Verbs, name: str, script: str) -> Done:
    done = subprocess.run(
        work.argv("shell", name),
        input=script,
        cwd=work.dir,
        env=work.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_i11_shell_is_where_an_exec_runs(work: Verbs) -> None:
    process, name = work.start_long()
    try:
        done = shell(work, name, "cat $HOME/greeting\necho to-stderr >&2\nexit 7\n")
        assert (done.code, done.out, done.err) == (7, "hi\n", "to-stderr\n")
        assert shell(work, name.partition("/")[2][:8], "cat $tmp/greeting").out == "hi\n"
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_i11_shell_shows_what_a_failed_exec_left(work: Verbs) -> None:
    err = work.run("fail.rf").failed().err
    id = re.search(r"error exec sha256:(\w{64})", err)
    assert id is not None
    done = shell(work, id[1][:12], "cat tmp/behind command\n")
    assert done.code == 0
    assert "left\n" in done.out
    assert "it has ended" in done.err


def test_i11_shell_wants_an_exec(work: Verbs) -> None:
    work.reflow("shell", "foo").failed("foo: not an exec URI")
    work.reflow("shell", "bb97e35db4101030/1234abcd").failed("not an exec URI of something that runs here")
    done = work.reflow("shell", "bb97e35db4101030/xyz").failed("xyz")
    assert "must be one of the following examples" in done.out


@pytest.mark.docker
def test_list_kill_and_shell_with_containers(work: Verbs) -> None:
    work.executor = "docker"
    process, name = work.start_long()
    try:
        done = shell(work, name, "cat /tmp/greeting; ls -d /return\nexit 7\n")
        assert (done.code, done.out) == (7, "hi\n/return\n")
    finally:
        work.reflow("kill", name).ok()
    code, err = ended(process)
    assert code == 1
    assert "docker exec: killed by reflow kill" in err


# rmcache, sync.


def reflow_with_input(work: Verbs, text: str, *words: str) -> Done:
    done = subprocess.run(
        work.argv(*words),
        input=text,
        cwd=work.dir,
        env=work.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_m1_rmcache(work: Verbs) -> None:
    keys = work.keys("two.rf")
    assert set(keys) == {"two.a", "two.b"}
    assert "-> " not in work.run("two.rf").ok().err
    lines = "".join([f"{key}\n" for each in keys.values() for key in each])
    done = reflow_with_input(work, f"{lines}zz\n\n{'12' * 32}\nabcd\n", "rmcache").ok()
    assert done.out == ""
    assert "failed to parse zz: " in done.err
    assert f"failed to delete {'12' * 32}: " in done.err
    assert len(re.findall("failed to", done.err)) == 3
    assert re.findall(r"-> +(\S+)", work.run("two.rf").ok().err) == ["two.a", "two.b"]


def test_m1_rmcache_without_a_cache(work: Verbs) -> None:
    done = reflow_with_input(work, "zz\nabcd\n", "rmcache").ok()
    assert "failed to parse zz" in done.err
    assert "failed to delete abcd" in done.err
    assert not (work.state / "assoc.db").exists()


def test_i10_sync(work: Verbs) -> None:
    keys = work.keys("two.rf")
    dir_key, file_key = keys["two.b"][0], keys["two.a"][0]
    done = work.reflow("sync", dir_key, "out").ok()
    assert done.out == ""
    assert f"copying out/one {ONE_SHA}" in done.err
    assert (work.dir / "out" / "one").read_text() == "hello world\n"
    again = work.reflow("sync", dir_key.removeprefix("sha256:"), "out").ok().err
    assert "out/one: up to date" in again
    assert "out/two: up to date" in again
    work.write("out/one", "changed one\n")
    work.write("out/mine", "mine\n")
    assert "out/one: up to date" in work.reflow("sync", "-sizeonly", dir_key, "out").ok().err
    changed = work.reflow("sync", dir_key, "out").ok().err
    assert "copying out/one" in changed
    assert "out/two: up to date" in changed
    assert (work.dir / "out" / "one").read_text() == "hello world\n"
    assert sorted(os.listdir(work.dir / "out")) == ["mine", "one", "two"]
    work.reflow("sync", "-index", "2", dir_key, "o2").failed("index 2 out of bounds: list is size 1")
    work.reflow("sync", "-index", "-1", dir_key, "o2").failed("index -1 out of bounds")
    work.reflow("sync", file_key, "o3").failed("fileset is singular")
    work.reflow("sync", "12" * 32, "o4").failed("resource does not exist")
    work.reflow("sync", "zz", "o5").failed("parse zz")
    assert not list(work.dir.glob("o[2-5]"))


def test_i10_sync_by_an_abbreviated_id(work: Verbs) -> None:
    flow = work.keys("two.rf")["two.b"][-1]
    assert "copying" in work.reflow("sync", flow.removeprefix("sha256:")[:8], "out").ok().err
    lost = (work.state / "repository" / ONE_SHA[:2] / ONE_SHA[2:]).unlink()
    assert lost is None
    work.reflow("sync", flow, "other").failed("other/one: its contents are not in the repository any more")


def test_i10_an_empty_result(work: Verbs) -> None:
    work.write(
        "none.rf",
        'val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out dir) {" ls {{out}} "}\n',
    )
    key = work.keys("none.rf")["none.Main"][0]
    work.reflow("sync", key, "out").failed("fileset is empty")


# collect, repair.


def age(work: Verbs, days: float) -> None:
    """Have everything in the cache's index used so many days ago."""
    work.sql("assoc.db", "UPDATE assoc SET last_access_s = ?", int(time.time() - days * 86400))


def test_m2_collect_is_dry_by_default(work: Verbs) -> None:
    work.run("two.rf").ok()
    age(work, 30)
    done = work.reflow("collect", "-threshold=15d").ok()
    assert done.out == ""
    assert "Scanned 4 associations, found 0 live associations, 0 live objects" in done.err
    assert "4 of 4 associations (100.00%) would have been collected (0 associations matched" in done.err
    assert "-> " not in work.run("two.rf").ok().err


@pytest.mark.parametrize("threshold", ["15d", "2020-01-01"])
def test_m2_collect_removes_what_is_older(work: Verbs, threshold: str) -> None:
    work.run("two.rf").ok()
    age(work, 30 if threshold == "15d" else 3650)
    work.keys("two.rf", "-who=me")
    done = work.reflow("collect", f"-threshold={threshold}", "-dry-run=false").ok()
    assert "4 of 8 associations (50.00%) were collected (0 associations matched the dead set)" in done.err
    # Objects are younger than a day: they stay until then.
    assert re.search(r"0 of \d+ objects \(0.00%\) and 0 bytes were collected", done.err)
    assert "-> " not in work.run("two.rf", "-who=me").ok().err
    assert re.findall(r"-> +(\S+)", work.run("two.rf").ok().err) == ["two.a", "two.b"]


def test_m2_what_was_used_today_stays(work: Verbs) -> None:
    work.run("two.rf").ok()
    done = work.reflow("collect", "-threshold=2099-01-01", "-dry-run=false").ok()
    assert "0 of 4 associations (0.00%) were collected" in done.err
    assert "what was of use within the last day stays" in done.err
    assert "-> " not in work.run("two.rf").ok().err


@pytest.mark.parametrize(
    ("labels", "keep", "matched"),
    [
        ("user=tester", "", 4),
        ("user=nobody", "", 0),
        ("user=nobody project=x", "", 4),
        ("user=tester,project=y", "", 0),
        ("user=tester,project=x", "", 4),
        ("!project=y", "", 4),
        ("!project", "", 0),
        ("us.r", "project=[xz]", 0),
        ("us.r", "nosuch", 4),
        ("user", "nosuch,project !user", 4),
    ],
)
def test_m2_filters_of_labels(work: Verbs, labels: str, keep: str, matched: int) -> None:
    work.state.mkdir()
    (work.state / "config.yaml").write_text("labels: kv,labels=project=x\n")
    work.run("two.rf").ok()
    words = ["-labels", labels, *(["-keep", keep] if keep else [])]
    done = work.reflow("collect", "-threshold=2000-01-01", *words).ok()
    assert f"would have been collected ({matched} associations matched the dead set)" in done.err
    assert f"{matched} of 4 associations" in done.err


def test_m2_bad_flags_of_collect(work: Verbs) -> None:
    for words in (
        (),
        ("-threshold=bad",),
        ("-threshold=2020-13-01",),
        ("-threshold=1d", "-keep=a("),
        ("-threshold=1d", "x"),
    ):
        assert work.reflow("collect", *words).code == 2


def test_m2_collect_spares_what_a_live_run_uses(work: Verbs) -> None:
    work.write("late.rf", TWO.replace("val Main = b", _SECOND.replace("HERE", str(work.dir))))
    work.run("two.rf").ok()
    age(work, 30)
    process = work.start("run", "-executor", "process", "late.rf")
    try:
        _wait_for(work.dir / "begun")
        done = work.reflow("collect", "-threshold=1d", "-dry-run=false", "-labels", "user").ok()
        # The entry of b was used by the live run; that of a was not, and is a month old.
        assert re.search(r"were collected \(\d associations matched", done.err)
        (work.dir / "go").write_text("")
        code, err = ended(process)
    finally:
        process.kill()
        process.wait()
    assert code == 0, err
    assert "-> " not in work.run("late.rf").ok().err


_SECOND = """
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	touch HERE/begun
	while ! test -e HERE/go; do sleep 0.05; done
	cat {{b}}/one > {{out}}
"}
"""


def test_m3_repair_writes_the_keys_that_are_missing(work: Verbs) -> None:
    work.run("two.rf").ok()
    rows = work.sql("assoc.db", "SELECT key, value_v2 FROM assoc ORDER BY key")
    assert len(rows) == 4
    assert "wrote 0 new assoc entries" in repair(work, "two.rf").err
    for key, _ in rows:
        work.sql("assoc.db", "DELETE FROM assoc WHERE key = ?", key)
        assert "wrote 1 new assoc entries" in repair(work, "two.rf").err
        assert work.sql("assoc.db", "SELECT key, value_v2 FROM assoc ORDER BY key") == rows


def test_m3_repair_of_what_is_not_cached(work: Verbs) -> None:
    work.run("two.rf").ok()
    done = repair(work, "two.rf", "-who=you")
    assert "cannot write back two.a" in done.err
    assert "wrote 0 new assoc entries" in done.err
    assert not list((work.state / "runs").glob("*.lock"))[1:]


def test_m3_repair_in_batches(work: Verbs) -> None:
    for who in ("world", "you"):
        work.run("two.rf", f"-who={who}").ok()
    (key,) = work.sql("assoc.db", "SELECT min(key) FROM assoc")[0]
    work.sql("assoc.db", "DELETE FROM assoc WHERE key = ?", key)
    work.write("samples.csv", "who\nworld\nyou\nme\n")
    done = repair(work, "-batch", "samples.csv", "two.rf")
    assert re.findall(r"repair: two.rf (\S+)", done.err) == ["-who=world", "-who=you", "-who=me"]
    assert "wrote 1 new assoc entries" in done.err


def test_m3_usage_of_repair(work: Verbs) -> None:
    for words in (
        (),
        ("-batch", "x.csv"),
        ("-batch", "x.csv", "two.rf", "-who=x"),
        ("-getconcurrency=0", "two.rf"),
        ("-writebackconcurrency=-1", "two.rf"),
    ):
        assert work.reflow("repair", *words).code == 2
    work.write("bad.csv", 'who\na"b\n')
    work.reflow("repair", "-batch", "bad.csv", "two.rf").failed("bad.csv: parse error on line 2")
    work.reflow("repair", "-executor", "process", "two.rf", "-nosuch=1").failed("nosuch")


def repair(work: Verbs, *words: str) -> Done:
    return work.reflow("repair", "-executor", "process", *words).ok()


# pred, http, upgrade.

BUSY = """
param n = "1"
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	sleep 3.3
	echo {{n}} > {{out}}
"}
"""


def test_i12_pred(work: Verbs) -> None:
    work.reflow("pred", "busy.Main").failed("missing predictor config")
    work.state.mkdir()
    (work.state / "config.yaml").write_text("predictor: testpredictorconfig\n")
    work.reflow("pred", "busy.Main").failed("no data")
    work.write("busy.rf", BUSY)
    work.run("busy.rf").ok()
    out = work.reflow("pred", "busy.Main").ok().out
    assert out.startswith("predictor profiles for arg:  busy.Main\n")
    assert re.search(r"^mem: +i +N +max +mean +var +first +last$", out, re.MULTILINE)
    assert re.search(r"^ +0 +\d+ +\d\S*B +\d\S*B +[\d.]+ +20\d\d-\S+Z +20\d\d-\S+Z$", out, re.MULTILINE)
    mem = work.reflow("pred", "-name", "mem", "busy.Main").ok().out
    assert re.search(r"predicted mem value for arg busy.Main = \S+B \(from 1 samples\)", mem)
    assert "cpu:" not in mem
    duration = work.reflow("pred", "-name=duration", "busy.Main").ok().out
    assert re.search(r"predicted duration value for arg busy.Main = \d+\.\d+ \(from 1 samples\)", duration)
    work.reflow("pred", "nosuch").failed("invalid param nosuch: insufficient tasks (0 < 1)")
    (id,) = work.sql("taskdb.db", "SELECT hex(image_cmd_id) FROM tasks")[0]
    assert "mem:" in work.reflow("pred", f"sha256:{str(id).lower()}").ok().out
    assert work.reflow("pred", "-name=cost", "busy.Main").code == 2
    (work.state / "config.yaml").write_text("predictor: predictorconfig\npredictorconfig: {mindata: 2}\n")
    work.reflow("pred", "busy.Main").failed("insufficient tasks (1 < 2)")


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"bytes \xff\x00 of " + self.path.encode()
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_i13_http_prints_the_body_whatever_the_status(work: Verbs, server: str) -> None:
    for path in ("/found", "/missing"):
        done = subprocess.run(
            work.argv("http", server + path), env=work.env, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == b"bytes \xff\x00 of " + path.encode()


def test_i13_http_shows_what_a_run_does(work: Verbs) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = work.start("-http", f"127.0.0.1:{port}", "run", "-executor", "process", "long.rf")
    try:
        deadline = time.monotonic() + 30
        told: dict[str, object] = {}
        while not told.get("run") and time.monotonic() < deadline:
            done = work.reflow("http", f"http://127.0.0.1:{port}/debug/vars")
            told = json.loads(done.out) if done.code == 0 else {}
        assert str(told["run"]).startswith("sha256:")
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_i13_http_errors(work: Verbs) -> None:
    work.reflow("http", "http://127.0.0.1:1/x").failed('Get "http://127.0.0.1:1/x": ')
    work.reflow("http", "ftp://x").failed("unsupported protocol scheme")
    work.reflow("http", "x").failed("unsupported protocol scheme")
    assert work.reflow("http").code == 2


def test_i13_http_shows_the_client_certificate(work: Verbs, tmp_path: Path) -> None:
    made = subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=infra -days 2 -keyout key.pem -out cert.pem"
        " && cat cert.pem key.pem > both.pem",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "cert.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"

    def answer() -> None:
        with listener, context.wrap_socket(listener.accept()[0], server_side=True) as peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    work.state.mkdir()
    (work.state / "config.yaml").write_text(f"tls: tls,file={tmp_path}/both.pem\n")
    assert work.reflow("http", url).ok().out == "hello"
    thread.join(10)
    (tmp_path / "both.pem").write_text("nonsense")
    work.reflow("http", url).failed("not a certificate with its key")


def test_s2_upgrade_is_idempotent(work: Verbs) -> None:
    assert work.reflow("upgrade").ok() == Done(0, "", "")
    assert not (work.state / "config.yaml").exists()
    work.run("two.rf").ok()
    config = work.state / "config.yaml"
    config.write_text(
        "# mine\ntransferlimit: 20\nreflow: reflowversion,version=old\ninstances:\n"
        "  awssession: {credentials: secret}\n  predictorconfig: {mindata: 2}\n"
    )
    assert work.reflow("upgrade").ok() == Done(0, "", "")
    upgraded = config.read_text()
    assert "secret" not in upgraded
    assert "transferlimit: 20" in upgraded
    assert "predictorconfig:\n  mindata: 2" in upgraded
    assert config.stat().st_mode & 0o777 == 0o600
    stamp = config.stat().st_mtime_ns
    assert work.reflow("upgrade").ok() == Done(0, "", "")
    assert (config.read_text(), config.stat().st_mtime_ns) == (upgraded, stamp)


def test_s2_upgrade_leaves_a_good_file_alone_and_tells_of_a_newer_database(work: Verbs) -> None:
    work.run("two.rf").ok()
    config = work.state / "config.yaml"
    config.write_text("# a comment\ncache: read\n")
    work.reflow("upgrade").ok()
    assert config.read_text() == "# a comment\ncache: read\n"
    work.sql("taskdb.db", "PRAGMA user_version = 99")
    work.reflow("upgrade").failed("written by a newer reflow")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()
