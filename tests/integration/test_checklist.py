"""The acceptance checklist of the command line (groups G, C, R, B, I, M, S), line by line.

A line is checked by the tests that are named after it (``test_g1_…``, in any file of this directory). What
needs a cluster is in `LATER`, and nowhere else.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from reflow.cli.commands import COMMANDS
from tests.command import Done, Workspace

HERE = Path(__file__).parent

LINES = [
    *[f"G{number}" for number in range(1, 16)],
    *[f"C{number}" for number in range(1, 10)],
    *[f"R{number}" for number in range(1, 18)],
    *[f"B{number}" for number in range(1, 9)],
    *[f"I{number}" for number in range(1, 14)],
    *[f"M{number}" for number in range(1, 4)],
    *[f"S{number}" for number in range(1, 4)],
]

LATER = {
    "I6": "ps -p lists the machines of an EC2 cluster: issue 7 and later",
}


@cache
def functions(path: Path) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_checked(line: str) -> None:
    lead = f"test_{line.lower()}_"
    found = [name for path in HERE.glob("test_*.py") for name in functions(path) if name.startswith(lead)]
    assert bool(found) != (line in LATER), f"{line}: {found}"


# The lines that have no test in another file.

IMMEDIATE = """
// Whom to greet.
param x = "hello"
// How often.
param n = 3
val Main = (x, n)
"""
TYPES = """
param s string
param i int
param f float
param b bool
param fi file
param d dir
val Main = (s, i, f, b)
"""
ONE = """
param who = "world"
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out file) {"
	echo {{who}} > {{out}}
"}
"""


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.env.update(USER="tester", TZ="UTC")
    made.write("imm.rf", IMMEDIATE)
    made.write("one.rf", ONE)
    made.write("types.rf", TYPES)
    return made


def run(work: Workspace, *words: str) -> Done:
    return work.reflow("run", "-executor", "process", *words)


def usage(done: Done, *texts: str) -> None:
    """Wrong usage: status 2, nothing on stdout, the usage on stderr."""
    assert (done.code, done.out) == (2, "")
    assert "usage" in done.err.lower()
    for text in texts:
        assert text in done.err


def test_g1_without_arguments_there_is_an_introduction(work: Workspace) -> None:
    done = work.reflow()
    assert (done.code, done.out) == (2, "")
    assert "reflow" in done.err


@pytest.mark.parametrize("flag", ["-help", "-h", "--help"])
def test_g2_help_lists_the_commands(work: Workspace, flag: str) -> None:
    done = work.reflow(flag)
    usage(done, "\trunbatch\n", "\tversion\n", "  -config string")
    assert "batchrun" not in done.err


def test_g3_an_unknown_command_is_wrong_usage(work: Workspace) -> None:
    usage(work.reflow("nosuch"), "unknown command: nosuch")


def test_g4_every_command_has_help(work: Workspace) -> None:
    for name in COMMANDS:
        if name == "batchrun":
            continue
        done = work.reflow(name, "-help")
        assert (done.code, done.out) == (0, ""), name
        assert f"usage: reflow {name}" in done.err
    usage(work.reflow("run", "-h"))


def test_g5_forms_of_flags(work: Workspace) -> None:
    for words in (("-x", "v"), ("-x=v",), ("--x=v",), ("-x=u", "-x", "v")):
        assert work.reflow("run", "imm.rf", *words).ok().out == '("v", 3)\n'
    assert work.reflow("check", "-w=false", "--", "imm.rf").ok().out == ""
    work.reflow("check", "-w", "false", "imm.rf").failed("false")
    work.reflow("run", "imm.rf", "--", "-x=v").failed("unrecognized parameters: -x=v")


def test_g6_bad_flags_are_explained(work: Workspace) -> None:
    for level in ((), ("check",)):
        usage(work.reflow(*level, "-nosuch"), "flag provided but not defined: -nosuch")
        usage(work.reflow(*level, "--=x"), "bad flag syntax: --=x")
    usage(work.reflow("-config"), "flag needs an argument: -config")
    usage(work.reflow("check", "-w=x", "imm.rf"), 'invalid boolean value "x" for -w: ')
    usage(work.reflow("runbatch", "-parallelism=x"), 'invalid value "x" for flag -parallelism: ')
    work.reflow("run", "imm.rf", "-nosuch").failed("flag provided but not defined: -nosuch")


def test_g7_flags_belong_to_where_they_stand(work: Workspace) -> None:
    work.reflow("run", "imm.rf", "-local").failed("flag provided but not defined: -local")
    usage(work.reflow("run", "-cache=off", "imm.rf"), "flag provided but not defined: -cache")


def test_g9_configuration_files(work: Workspace) -> None:
    work.reflow("-config", "missing.yaml", "version").failed("missing.yaml")
    assert work.reflow("version").code == 0
    bad = work.write("bad.yaml", "cache: [\n")
    work.reflow("-config", str(bad), "version").failed(f"config {bad}: ")
    work.state.mkdir()
    (work.state / "config.yaml").write_text("cache: [\n")
    work.reflow("version").failed("config.yaml: ")
    assert work.reflow("-config", "", "version").code == 0


def test_g10_flags_win_over_the_file_and_this_over_defaults(work: Workspace) -> None:
    assert "cache: readwrite\n" in work.reflow("config").ok().out
    work.state.mkdir()
    (work.state / "config.yaml").write_text("cache: read\n")
    assert "cache: read\n" in work.reflow("config").ok().out
    assert "cache: write\n" in work.reflow("-cache=write", "config").ok().out
    assert "cache: read\n" in work.reflow("-cache=", "config").ok().out


def test_g11_off_a_terminal_nothing_is_drawn(work: Workspace) -> None:
    work.write("slow.rf", ONE.replace("echo {{who}}", "sleep 1.5; echo {{who}}"))
    done = run(work, "slow.rf").ok()
    assert re.fullmatch(r"[0-9a-f]{8}\n", done.out)
    assert "\x1b" not in done.err
    assert "elapsed: " not in done.err, "it is shown once a minute at most"


def test_g12_a_busy_port_is_told(work: Workspace) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        work.reflow("-http", address, "version").failed(f"listen tcp {address}: ")


def test_c1_check(work: Workspace) -> None:
    work.write("warn.rf", "val x = 1\nval Main = { val unused = 2; x }\n")
    work.write("wrong.rf", 'val Main = 1 + "x"\n')
    assert work.reflow("check", "imm.rf").ok() == Done(0, "", "")
    assert re.search(r"warn.rf:\d+:\d+: warning: unused", work.reflow("check", "warn.rf").ok().err)
    assert work.reflow("check", "-w", "warn.rf").code == 1
    done = work.reflow("check", "wrong.rf", "imm.rf", "warn.rf").failed("wrong.rf:1:")
    assert "warn.rf:" in done.err


def test_c2_doc(work: Workspace) -> None:
    listed = work.reflow("doc").ok().out
    names = ["dirs", "files", "filesets", "path", "regexp", "strings", "test"]
    assert listed == "Reflow's system modules are:\n" + "".join([f"\t$/{name}\n" for name in names])
    assert "val Copy" in work.reflow("doc", "$/files").ok().out
    own = work.reflow("doc", "imm.rf").ok().out
    assert 'val x string = "hello"\n    Whom to greet.\n' in own
    assert "val Main (string, int)" in own
    usage(work.reflow("doc", "a", "b"))
    work.reflow("doc", "$/nosuch").failed("no system module named nosuch")


def test_c3_bundle(work: Workspace) -> None:
    assert work.reflow("bundle", "imm.rf", "-x=bye").ok().out == ""
    elsewhere = work.dir / "elsewhere"
    elsewhere.mkdir()
    os.rename(work.dir / "imm.rfx", elsewhere / "imm.rfx")
    (work.dir / "imm.rf").unlink()
    assert work.reflow("run", "elsewhere/imm.rfx").ok().out == '("bye", 3)\n'
    assert 'val x string = "bye"' in work.reflow("doc", "elsewhere/imm.rfx").ok().out
    work.reflow("bundle", "elsewhere/imm.rfx").failed("rfx")
    work.reflow("bundle", "-o", "other.rfx", "one.rf").ok()
    assert (work.dir / "other.rfx").exists()


def test_c4_images(work: Workspace) -> None:
    work.write(
        "img.rf",
        'param i string\nval e = func(image string) => exec(image := image) (out file) {" x > {{out}} "}\n'
        'val Main = [e("b"), e(i), e("b")]\n',
    )
    assert work.reflow("images", "img.rf", "-i=a").ok().out == "a\nb\n"
    usage(work.reflow("images", "img.rf"), "missing mandatory flag -i")


def test_c5_config(work: Workspace) -> None:
    out = work.reflow("-cache=off", "config").ok().out
    keys = re.findall(r"^(\w+):", out, re.MULTILINE)
    assert keys == sorted(keys)
    assert 'cache: "off"\n' in out
    assert not {"reflow", "instances"} & set(keys)
    assert "repository: s3,bucket\n" in work.reflow("config", "-help").ok().err


def test_c6_version(work: Workspace) -> None:
    assert len(work.reflow("version").ok().out.splitlines()) == 1
    usage(work.reflow("version", "x"))


def test_c7_genbatch(work: Workspace) -> None:
    work.write("config.json", '{"program": "types.rf", "runs_file": "r.csv"}')
    work.write("r.csv", "id,s,i,f,b,fi,d\nx,a b,1,2.5,true,f.txt,dd/\ny,c,-2,1.0,false,s3://b/k,s3://b/d/\n")
    out = work.reflow("genbatch").ok().out
    assert out.startswith("// ")
    assert out.endswith(
        'val Main = [\n\tmake("types.rf",\n\t\tb := true,\n\t\td := dir("dd/"),\n\t\tf := 2.5,\n'
        '\t\tfi := file("f.txt"),\n\t\ti := 1,\n\t\ts := "a b",\n\t).Main,\n'
        '\tmake("types.rf",\n\t\tb := false,\n\t\td := dir("s3://b/d/"),\n\t\tf := 1.0,\n'
        '\t\tfi := file("s3://b/k"),\n\t\ti := -2,\n\t\ts := "c",\n\t).Main,\n]\n'
    )
    assert work.reflow("genbatch", "-o", "all.rf").ok().out == ""
    assert work.reflow("check", "all.rf").code == 0


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("id,nosuch\nx,a\n", "parameter nosuch is not defined in module types.rf"),
        ("id,l\nx,a\n", "parameter l: unsupported type [int]"),
        ("id\nx\n", "expected at least two header fields"),
        ("id,s,i\nx,a\n", "record on line 2: wrong number of fields"),
        ('id,s\nx,a"b\n', 'parse error on line 2, column 4: bare " in non-quoted-field'),
        ("", "EOF"),
        ("id,i\nx,abc\n", '<stdout>.rf:8:11: identifier "abc" not defined'),
    ],
)
def test_c7_genbatch_errors(work: Workspace, rows: str, text: str) -> None:
    work.write("types.rf", TYPES.replace("val Main", "param l [int]\nval Main"))
    work.write("config.json", '{"program": "types.rf", "runs_file": "r.csv"}')
    work.write("r.csv", rows)
    work.reflow("genbatch").failed(text)


def test_c9_batchrun_was_renamed(work: Workspace) -> None:
    for words in ((), ("-help",), ("x",)):
        work.reflow("batchrun", *words).failed("command batchrun has been renamed runbatch")


def test_r2_parameters_of_every_type(work: Workspace) -> None:
    work.write("f.txt", "x\n")
    work.write("dd/x", "x\n")
    words = ["-s=a b", "-i=16", "-f=2.5", "-b", "-fi=f.txt", "-d=dd/"]
    assert work.reflow("run", "types.rf", *words).ok().out == '("a b", 16, 2.5, true)\n'
    missing = work.reflow("run", "types.rf", *words[1:-1]).failed()
    assert "missing mandatory flag -s" in missing.err
    assert "missing mandatory flag -d" in missing.err
    work.reflow("run", "types.rf", "-i=x").failed('invalid value "x" for flag -i: ')
    work.reflow("run", "types.rf", *words[:4], "-fi=no.txt", "-d=dd/").failed("no.txt")
    work.reflow("run", "imm.rf", "surplus").failed("unrecognized parameters: surplus")
    shown = work.reflow("run", "imm.rf", "-help")
    assert shown.code in (0, 1, 2)
    assert "-x" in shown.err
    assert "Whom to greet." in shown.err


def test_r4_the_transcript(work: Workspace) -> None:
    err = run(work, "one.rf").ok().err
    lines = [
        r"reflow: run ID: \w{8}",
        r"reflow: evaluating program .*/one.rf",
        r"\tparams:",
        r"\t\twho=world",
        r"\t\(no arguments\)",
        r"reflow:  ->  one.Main +\w{8} exec +exec ubuntu echo world > \{\{out\}\}",
        r"reflow:  <-  one.Main +\w{8} ok +exec 0s 6B",
        r"reflow: total n=1 time=\S+",
        r"\tident +n +ncache +runtime\(m\) +cpu +mem\(GiB\) +disk\(GiB\) +tmp\(GiB\) +requested",
        r"\tone.Main 1 +0 +(\S+/\S+/\S+ +){5}\{mem:500.0MiB cpu:1 disk:0B\}",
    ]
    assert re.search(r"(?s)" + r"\n(?:.*\n)?".join(lines), err), err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1", "1"),
        ("1.5", "1.5"),
        (r'"a\"b"', r'"a\"b"'),
        ("[1, 2]", "[1, 2]"),
        ('["k": 1]', '["k": 1]'),
        ('(1, "x")', '(1, "x")'),
        ("{a: 1, b: true}", "{a: 1, b: true}"),
        ("#Some(3)", "#Some(3)"),
        ("#None", "#None"),
    ],
)
def test_r5_values(work: Workspace, value: str, text: str) -> None:
    work.write("v.rf", f"val Main = {value}\n")
    assert work.reflow("run", "v.rf").ok().out == f"{text}\n"


def test_r9_assertion_policies(work: Workspace) -> None:
    for policy in ("never", "exact"):
        assert "-> " not in run(work, "-assert", policy, "one.rf").ok().err or policy == "never"
    usage(run(work, "-assert=nosuch", "one.rf"), "nosuch")


def test_r10_flags_have_effects(work: Workspace) -> None:
    work.write(
        "none.rf", 'val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 1) (out dir) {" ls {{out}} "}\n'
    )
    run(work, "-dotgraph=false", "none.rf").ok()
    runs = work.state / "runs"
    assert not list(runs.glob("*.gv"))
    assert "-> " not in run(work, "none.rf").ok().err
    assert len(list(runs.glob("*.gv"))) == 1
    assert "-> " in run(work, "-recomputeempty", "none.rf").ok().err
    assert "mutate flow " in run(work, "-traceflow", "-recomputeempty", "none.rf").ok().err
    run(work, "-backgroundtimeout=1m", "-postusechecksum", "none.rf").ok()


def test_r11_local_directories(work: Workspace) -> None:
    run(work, "-local", "-localdir", str(work.dir / "a"), "-dir", str(work.dir / "b"), "one.rf").ok()
    assert (work.dir / "b" / ".reflow" / "execs").is_dir()
    assert not (work.dir / "a").exists()
    assert "-> " not in run(work, "-localdir", str(work.dir / "c"), "one.rf").ok().err


def test_r13_statuses(work: Workspace) -> None:
    work.write("wrong.rf", 'val Main = 1 + "x"\n')
    assert run(work, "wrong.rf").code == 1
    assert run(work, "-nosuch", "imm.rf").code == 2
    assert run(work, "-eval=nosuch", "imm.rf").code == 2


def test_r15_a_trace_can_be_loaded(work: Workspace) -> None:
    work.reflow("-tracer=localtracer", "run", "-executor", "process", "one.rf").ok()
    (path,) = (work.state / "runs").glob("*.trace")
    events = json.loads(path.read_text())["traceEvents"]
    assert {"Run", "Exec"} <= {event["cat"] for event in events}
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    assert {event["pid"] for event in events if event["cat"] == "Run"} == {0}


def test_r17_prediction_wants_a_record(work: Workspace) -> None:
    work.state.mkdir(parents=True, exist_ok=True)
    (work.state / "config.yaml").write_text("cache: off\n")
    done = run(work, "-pred", "one.rf")
    assert done.code == 1
    assert "pred" in done.err
    assert "Traceback" not in done.err


def newest_run(work: Workspace) -> str:
    return max((work.state / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns).stem


def test_i1_forms_of_ids(work: Workspace) -> None:
    run(work, "one.rf").ok()
    id = newest_run(work)
    for word in (id[:8], id[:14], id, f"sha256:{id}"):
        assert f"{id} (run)" in work.reflow("info", word).ok().out
    unknown = "ffffffff" if not id.startswith("ffffffff") else "eeeeeeee"
    work.reflow("info", unknown).failed(f"unable to resolve id {unknown}")
    work.reflow("info", "123").failed("parse name 123: ")
    work.reflow("logs", unknown).failed(f"unable to resolve id {unknown}")


def test_i1_an_ambiguous_id_is_told(work: Workspace) -> None:
    run(work, "one.rf").ok()
    id = newest_run(work)
    twin = id[:10] + ("0" * 54 if id[10] != "0" else "1" * 54)
    text = (work.state / "runs" / f"{id}.json").read_text()
    (work.state / "runs" / f"{twin}.json").write_text(text.replace(id, twin))
    assert "more than one run begins so" in work.reflow("info", id[:10]).ok().err


def test_i3_full_shows_ids_in_full(work: Workspace) -> None:
    run(work, "one.rf").ok()
    id = newest_run(work)
    assert f"sha256:{id}" not in work.reflow("info", id[:8]).ok().out
    assert f"sha256:{id}" in work.reflow("info", "-full", id[:8]).ok().out


def test_i4_output_of_finished_tasks(work: Workspace) -> None:
    work.write("say.rf", ONE.replace("echo {{who}}", "echo out; echo err >&2; echo {{who}}"))
    run(work, "say.rf").ok()
    (task,) = re.findall(r"^    (\w{8}) \w{8} 1 +say.Main", work.reflow("ps", "-i").ok().out, re.MULTILINE)
    assert work.reflow("logs", task).ok().out == "err\n"
    assert work.reflow("logs", "-stdout", task).ok().out == "out\n"
    assert work.reflow("logs", "-f", task).ok().out == "err\n"
    work.reflow("logs", "host:9000/bb97e35db4101030").failed("require -reflowlet to be set")


def test_i5_ps(work: Workspace) -> None:
    assert work.reflow("ps").ok().out == work.reflow("ps", "-i").ok().out == ""
    run(work, "one.rf").ok()
    id = newest_run(work)[:8]
    assert id not in work.reflow("ps").ok().out
    for words in (("-i",), ("-i", "-l"), ("-i", "-a"), ("-i", "-u", "tester"), ("-i", "-since", "1h")):
        assert id in work.reflow("ps", *words).ok().out
    assert "hosttype" in work.reflow("ps", "-i", "-l").ok().out
    assert id in work.reflow("ps", "-i", "-since", "2020-01-01").ok().out
    assert id not in work.reflow("ps", "-i", "-until", "1h").ok().out
    assert id not in work.reflow("ps", "-i", "-u", "nobody").ok().out
    usage(work.reflow("ps", "-a", "-u", "x"))
    work.reflow("ps", "-exact_cost").failed("-exact_cost only works with -p")
    work.reflow("ps", "-since", "zz").failed("invalid -since zz: ")


def test_i11_shell_on_a_terminal(work: Workspace) -> None:
    work.write("long.rf", ONE.replace("echo {{who}}", "echo hi > $HOME/greeting; sleep 600; echo {{who}}"))
    process = work.start("run", "-executor", "process", "long.rf")
    try:
        name = ""
        deadline = time.monotonic() + 30
        while not name and time.monotonic() < deadline:
            rows = [line.split() for line in work.reflow("list", "-a").ok().out.splitlines()]
            name = next((row[-1] for row in rows if row[:2] == ["exec", "running"]), "")
        ours, theirs = pty.openpty()
        shell = subprocess.Popen(
            work.argv("shell", name),
            cwd=work.dir,
            env=work.env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.write(ours, b"cat greeting; exit 5\n")
        assert shell.wait(timeout=30) == 5
        assert b"hi" in os.read(ours, 1 << 16)
        os.close(ours)
    finally:
        process.terminate()
        process.communicate()


def test_s3_wrong_numbers_of_arguments(work: Workspace) -> None:
    for words in (
        ("setup-taskdb", "x"),
        ("setup-ec2", "x"),
        ("upgrade", "x"),
        ("rmcache", "x"),
        ("sync", "a"),
    ):
        usage(work.reflow(*words), words[0])
