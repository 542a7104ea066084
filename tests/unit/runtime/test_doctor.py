from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from reflow.runtime.config import Config
from reflow.runtime.doctor import Check, Finding, document, examine, is_well, server, text
from reflow.runtime.doctor_aws import clock_finding, used
from reflow.runtime.doctor_local import check_configuration, check_disk, check_state

PATIENCE_S = 60.0


def found(name: str, status: str = "ok") -> Check:
    return Check(name, lambda: Finding(name, status, "seen"))  # type: ignore[arg-type]


def test_findings_are_in_the_order_of_the_checks() -> None:
    first_may_end = threading.Event()

    def last() -> Finding:
        first_may_end.set()
        return Finding("last", "ok", "seen")

    def first() -> Finding:
        assert first_may_end.wait(PATIENCE_S)
        return Finding("first", "ok", "seen")

    names = [each.name for each in examine([Check("first", first), Check("last", last)], PATIENCE_S)]
    assert names == ["first", "last"]


def test_a_check_that_hangs_is_left_behind() -> None:
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        return Finding("hangs", "ok", "seen")

    checks = [Check("hangs", hang, mend="do"), Check("late", hang, late="warning")]
    hung, late = examine(checks, 0.05)
    assert hung == Finding("hangs", "failed", "no answer within 0.05 s", "do")
    assert late.status == "warning"
    never.set()


def test_who_does_not_answer_is_named() -> None:
    never, asked = threading.Event(), ["nobody"]

    def hang() -> Finding:
        asked[0] = "b.example:443"
        never.wait()
        return Finding("hangs", "ok", "seen")

    (hung,) = examine([Check("hangs", hang, mend="do", asks=lambda: asked[0])], 0.5)
    assert hung == Finding("hangs", "failed", "no answer from b.example:443 within 0.5 s", "do")
    never.set()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://a.example/v2/", "a.example:443 by way of the proxy proxy.example:3128"),
        ("http://a.example:8890", "a.example:8890"),
        ("https://inside.example", "inside.example:443"),
    ],
)
def test_servers_are_named_by_host_and_port_without_passwords(
    monkeypatch: pytest.MonkeyPatch, url: str, named: str
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://king:hidden@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert server(url) == named


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> Finding:
        raise OSError("no\n\tway")

    (finding,) = examine([Check("broken", broken, mend="do")], PATIENCE_S)
    assert finding == Finding("broken", "failed", "no way", "do")


def test_there_is_a_line_for_each_with_what_to_do() -> None:
    findings = [Finding("disk", "ok", "much"), Finding("credentials", "failed", "none\nat all", "get some")]
    assert text(findings) == (
        "ok       disk         much\nfailed   credentials  none at all; to mend it: get some"
    )


def test_warnings_are_no_failure() -> None:
    findings = examine([found("a"), found("b", "warning")], PATIENCE_S)
    assert is_well(findings)
    assert document(findings)["ok"] is True
    assert not is_well([*findings, Finding("c", "failed", "")])
    assert document(findings)["checks"][1] == {
        "name": "b",
        "status": "warning",
        "message": "seen",
        "mend": "",
    }


@pytest.mark.parametrize(
    ("skew_s", "status", "message"),
    [
        (0, "ok", "within 30 s of the server's"),
        (-29, "ok", "within 30 s of the server's"),
        (45, "warning", "45 s ahead of the server's"),
        (-400, "failed", "400 s behind the server's: requests are refused"),
    ],
)
def test_clocks_may_differ_a_little(skew_s: float, status: str, message: str) -> None:
    finding = clock_finding(skew_s)
    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ("cache: read\ntransferlimit: 20\nversions: {s3: 0}\n", "ok", ""),
        ("cashe: off\n", "warning", "has an unknown key cashe, which is ignored"),
        (
            "instances: {awssession: {credentials: {secretaccesskey: hidden}}}\n",
            "warning",
            "has saved credentials",
        ),
        ("instances: {predictorconfig: {mindata: 1}}\n", "ok", ""),
        (
            "cluster: ec2cluster\ntls: tls,file=/tmp/ca.reflow\n",
            "warning",
            "/tmp/ca.reflow is open to all users",
        ),
        ("tls: tls,file=/tmp/ca.reflow\n", "ok", ""),
    ],
)
def test_what_is_odd_about_a_file_is_said_and_nothing_secret(
    tmp_path: Path, content: str, status: str, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    finding = check_configuration(str(path))
    assert (finding.status, message in finding.message) == (status, True)
    assert "hidden" not in text([finding])


def test_a_file_that_cannot_be_used_has_failed(tmp_path: Path) -> None:
    assert check_configuration(str(tmp_path / "c"), "config c: line 1").status == "failed"
    assert check_configuration(str(tmp_path / "c")).status == "ok"
    assert check_configuration("").status == "ok"


def test_state_can_be_where_nothing_is_yet(tmp_path: Path) -> None:
    assert check_state(str(tmp_path / "a" / "b")).message.endswith("(not made yet)")
    (tmp_path / "file").write_text("")
    assert check_state(str(tmp_path)).status == "ok"


def test_state_that_cannot_be_written_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = check_state("/proc/reflow")
    assert finding.status == "failed"
    assert "set REFLOW_HOME" in finding.mend


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("free", "status"), [(1 << 39, "ok"), (40 << 30, "warning"), (1 << 29, "warning"), (1 << 20, "failed")]
)
def test_little_room_is_said(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, free))
    assert check_disk(["/", "/tmp"]).status == status


def test_aws_is_looked_at_only_when_it_is_used() -> None:
    assert used(Config({"repository": "file", "assoc": "sqlite"})) is None
    where = used(Config({"repository": "s3,bucket=b"}))
    assert where is not None
    assert where.buckets == ["b"]
