"""Verbs that look at, or tidy up, what is cached: through the real command."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.command import Done
from tests.verbs import ONE_SHA, TWO, Verbs, ended, wait_for, workspace


@pytest.fixture
def work(tmp_path: Path) -> Verbs:
    return workspace(tmp_path)


# rmcache, sync.


def test_m1_rmcache(work: Verbs) -> None:
    keys = work.keys("two.rf")
    assert set(keys) == {"two.a", "two.b"}
    assert "-> " not in work.run("two.rf").ok().err
    lines = "".join([f"{key}\n" for each in keys.values() for key in each])
    done = work.reflow("rmcache", typed=f"{lines}zz\n\n{'12' * 32}\nabcd\n").ok()
    assert done.out == ""
    assert "failed to parse zz: " in done.err
    assert f"failed to delete {'12' * 32}: " in done.err
    assert len(re.findall("failed to", done.err)) == 3
    assert re.findall(r"-> +(\S+)", work.run("two.rf").ok().err) == ["two.a", "two.b"]


def test_m1_rmcache_without_a_cache(work: Verbs) -> None:
    done = work.reflow("rmcache", typed="zz\nabcd\n").ok()
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
        wait_for(work.dir / "begun")
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
