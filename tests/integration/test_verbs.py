"""Verbs that look at, or tidy up, what is on this machine: through the real command."""

from __future__ import annotations

import http.server
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Done
from tests.verbs import Verbs, ended, workspace


@pytest.fixture
def work(tmp_path: Path) -> Verbs:
    return workspace(tmp_path)


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


def test_i11_shell_is_where_an_exec_runs(work: Verbs) -> None:
    process, name = work.start_long()
    try:
        done = work.reflow("shell", name, typed="cat $HOME/greeting\necho to-stderr >&2\nexit 7\n")
        assert (done.code, done.out, done.err) == (7, "hi\n", "to-stderr\n")
        assert work.reflow("shell", name.partition("/")[2][:8], typed="cat $tmp/greeting").out == "hi\n"
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_i11_shell_shows_what_a_failed_exec_left(work: Verbs) -> None:
    err = work.run("fail.rf").failed().err
    id = re.search(r"error exec sha256:(\w{64})", err)
    assert id is not None
    done = work.reflow("shell", id[1][:12], typed="cat tmp/behind command\n")
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
        done = work.reflow("shell", name, typed="cat /tmp/greeting; ls -d /return\nexit 7\n")
        assert (done.code, done.out) == (7, "hi\n/return\n")
    finally:
        work.reflow("kill", name).ok()
    code, err = ended(process)
    assert code == 1
    assert "docker exec: killed by reflow kill" in err


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
