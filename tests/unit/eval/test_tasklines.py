from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ProfileEntry
from reflow.core.fileset import File, Fileset
from reflow.eval import tasklines
from reflow.eval.attempt import build_config
from reflow.flow.digest import digest
from reflow.flow.node import ArgRef, Exec, Extern, Intern, Val

X = File(Digest.of(b"x"), 1)
TREE = Fileset({"a": X, "b/c": File(Digest.of(b"y"), 2048)})
NODE = Exec(
    "index.docker.io/library/ubuntu@sha256:0123456789",
    "\n\t\t/usr/bin/sort -k 5%% %s %s |\n\t\t\tuniq > %s\n\n",
    [Val(TREE), Val(TREE)],
    argmap=[ArgRef(0, is_output=False), ArgRef(1, is_output=False), ArgRef(0, is_output=True)],
    arg_names=["{{in}}", "{{in}}", "{{out}}"],
    ident="main.sort",
    pos="main.rf:3:14",
)
SHORT = digest(NODE).short
CONFIG = build_config(NODE, [TREE, TREE], None)
SECOND = timedelta(seconds=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def inspect(**more: object) -> ExecInspect:
    entry = ProfileEntry(2, 1.25, 0, 3, START, START + 63.6 * SECOND)
    mem = ProfileEntry(3 << 30, 1 << 30, 0, 2)
    profile = {"cpu": entry, "mem": mem}
    return ExecInspect(config=CONFIG, created=START, state="complete", profile=profile, **more)  # type: ignore[arg-type]


def test_the_start_of_an_exec() -> None:
    shown = "..io/library/ubuntu@sha256:0123456789 ../sort -k 5% {{in}} {{in}} |.uniq > {{out}}"
    assert len("..io/library/ubuntu@sha256:0123456789") <= tasklines.IMAGE_WIDTH
    image = tasklines.abbreviate_left(NODE.image, 40)
    line = tasklines.start_line(NODE, CONFIG)
    assert line == f" ->  main.sort    {SHORT} exec   exec {image} " + shown.split(" ", 1)[1]


def test_the_start_of_transfers() -> None:
    intern = Intern("s3://bucket/" + "k" * 60, ident="i")
    line = tasklines.start_line(intern, build_config(intern, [], None))
    assert line == f" ->  i            {digest(intern).short} exec intern ..{'k' * 58}"
    extern = Extern("s3://b/k", Val(TREE), ident="e")
    line = tasklines.start_line(extern, build_config(extern, [TREE], None))
    assert line == f" ->  e            {digest(extern).short} exec extern s3://b/k 2.0KiB"


def test_the_end_of_an_exec() -> None:
    value = Fileset(members=[TREE])
    assert tasklines.finish_line(NODE, value, 184.9) == f" <-  main.sort    {SHORT} ok     exec 3m4s 2.0KiB"
    cached = tasklines.finish_line(NODE, value, 0, cached=True)
    assert cached == f"(<-) main.sort    {SHORT} ok     exec 0s 2.0KiB"


START_BLOCK = f"""\
\tmemory/1234
\tindex.docker.io/library/ubuntu@sha256:0123456789
\tcommand:
\t    /usr/bin/sort -k 5% {{{{in}}}} {{{{in}}}} |
\t    \tuniq > {{{{out}}}}
\twhere:
\t    {{{{in}}}} = 
\t        a {X.id} 1B
\t        b/c {Digest.of(b"y")} 2.0KiB"""

PROFILE = """\
\tprofile:
\t    cpu mean=1.2 max=2.0 (N=3, duration=1m4s)
\t    mem mean=1.0GiB max=3.0GiB (N=2, duration=0s)
\t    disk mean=0B max=0B (N=0, duration=0s)
\t    tmp mean=0B max=0B (N=0, duration=0s)"""


def test_the_details_at_the_start() -> None:
    key = Digest.of(b"key")
    text = tasklines.start_details(NODE, CONFIG, [key], "memory/1234")
    head = f"main.sort {SHORT} main.rf:3:14:\n\tresources: {{mem:500.0MiB cpu:1 disk:0B}}\n\t{key}\n"
    assert text == head + START_BLOCK


def test_the_details_at_the_end() -> None:
    value = Fileset(members=[Fileset.of_file(X)])
    report = inspect(stdout=Digest.of(b"out"), stderr_path="/logs/err")
    text = tasklines.finish_details(NODE, CONFIG, [], "memory/1234", value, report)
    head = f"main.sort {SHORT} main.rf:3:14:\n\tresources: {{mem:500.0MiB cpu:1 disk:0B}}\n"
    where = f"\n\tstdout: {Digest.of(b'out')}\n\tstderr location: /logs/err"
    result = f"\n\tresult:\n\t    {{{{out}}}} =\n\t        . {X.id} 1B\n"
    assert text == head + START_BLOCK + where + result + PROFILE


def test_the_details_of_transfers() -> None:
    intern = Intern("s3://b/k", ident="i", pos="main.rf:1:1")
    config = build_config(intern, [], None)
    head = f"i {digest(intern).short} main.rf:1:1:"
    assert tasklines.start_details(intern, config, [], "") == head
    text = tasklines.finish_details(intern, config, [], "", TREE, None)
    assert text.startswith(head + f"\n\tresult:\n\t    a {X.id} 1B\n")
    extern = Extern("s3://b/k", Val(TREE))
    assert tasklines.start_details(extern, config, [], "") == ""


def test_a_failure_shows_command_and_output() -> None:
    error = ReflowError(Kind.DOCKER_EXEC, "exec", "1234", cause="exited with code 3")
    report = inspect(runtime_s=2.0, directory="/tmp/flow/execs/1234")
    text = tasklines.failure(NODE, CONFIG, error, "memory/1234", report, ["out 1", "out 2"], ["err"])
    head = f" <-  main.sort    {SHORT} err    exec 2s 0B\n\terror {error}\n\tmain.rf:3:14\n"
    logs = "\n\tstdout:\n\t    out 1\n\t    out 2\n\tstderr:\n\t    err\n\tdirectory: /tmp/flow/execs/1234\n"
    assert text == head + START_BLOCK + logs + PROFILE


def test_a_failed_transfer_is_three_lines() -> None:
    extern = Extern("s3://b/k", Val(TREE), ident="e", pos="main.rf:1:1")
    text = tasklines.failure(extern, ExecConfig(type="extern"), ReflowError(Kind.NET, "put"), "", None)
    assert text.splitlines()[1:] == ["\terror put: network error", "\tmain.rf:1:1"]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("dd if=/dev/zero of=$tmp/foobar count=1024.sleep 200&.sleep 200&.sleep 200", 10, "dd i.. 200"),
        ("short", 10, "short"),
        ("éééééé", 11, "éé..éé"),
    ],
)
def test_abbreviations_keep_both_ends(text: str, width: int, short: str) -> None:
    assert tasklines.abbreviate(text, width) == short


@pytest.mark.parametrize(("text", "short"), [("helloworld", "..rld"), ("hello", "hello"), ("ok", "ok")])
def test_abbreviations_from_the_left(text: str, short: str) -> None:
    assert tasklines.abbreviate_left(text, 5) == short


def test_white_space_is_collapsed() -> None:
    assert tasklines.collapse_spaces("\t\t\nspace bound \n\t  string\nok\n\n") == "space bound string.ok"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/usr/bin/bwa -foo bar", "../bwa -foo bar"),
        ("/usr/bin/echo", "../echo"),
        ("/some/path/name/", "../name/"),
        ("cat /etc/passwd", "cat /etc/passwd"),
        ("/bin/cat  /etc/x", "../cat  /etc/x"),
        ("/bin/cat /etc/x", "../x"),  # as the original shortens it
        ("//x", "../x"),
        ("/", "../"),
        ("", ""),
    ],
)
def test_leading_paths_are_shortened(text: str, short: str) -> None:
    assert tasklines.trim_path(text) == short


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["", "  one  ", ""], ["one"]),
        (["\t\ta", "", "\t\t\tb", "\t\tc"], ["a", "", "\tb", "c"]),
        (["    a", "  b", "    c"], ["  a", "b", "  c"]),
        (["\ta", "  b"], ["\ta", "  b"]),
        (["", ""], []),
    ],
)
def test_commands_lose_their_indentation(lines: list[str], expected: list[str]) -> None:
    assert tasklines.dedent(lines) == expected


def test_lists_of_filesets_are_shown_with_numbers() -> None:
    lines = list(tasklines.fileset_lines(Fileset(members=[Fileset.of_file(X), Fileset()]), ""))
    assert lines == ["list[0]:", f"  . {X.id} 1B", "list[1]:"]
    assert list(tasklines.fileset_lines(Fileset({"r": File(source="s3://b/k", size=3)}), "")) == [
        "r <zero> 3B"
    ]
