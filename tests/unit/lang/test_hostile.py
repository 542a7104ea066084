"""Hostile programs through the real command: each ends soon, in little memory, with an answer or one error.

A process has 5 s of CPU and 1 GiB of address space. Whatever happens, there is no traceback.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
DEEP = 10_000
LINES = 50
_CPU_S = 5
_MEMORY_BYTES = 1 << 30


class Outcome(NamedTuple):
    """What a command came to."""

    status: int
    stdout: str
    stderr: str


def reflow(*words: str, cpu_s: int = _CPU_S, **streams: int) -> Outcome:
    """Run the command with limits; it must not be killed by one, nor show a traceback."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))

    done = subprocess.run(
        [sys.executable, "-m", "reflow", *words],
        stdout=streams.get("stdout", subprocess.PIPE),
        stderr=streams.get("stderr", subprocess.PIPE),
        preexec_fn=limit,
        timeout=120,
        check=False,
    )
    stdout, stderr = ((each or b"").decode("utf-8", "replace") for each in (done.stdout, done.stderr))
    assert done.returncode in (0, 1, 11), (done.returncode, stderr[:500])
    for sign in ("Traceback", "internal error", "out of memory"):
        assert sign not in stderr, stderr[-2000:]
    return Outcome(done.returncode, stdout, stderr)


def refused(message: str, *words: str) -> Outcome:
    """Run the command, which must fail and say so."""
    outcome = reflow(*words)
    assert outcome.status == 1
    assert message in outcome.stderr, outcome.stderr[:2000]
    return outcome


def nested(before: str, inner: str, after: str, depth: int = DEEP) -> str:
    return before * depth + inner + after * depth


def chain(start: str, step: str, length: int) -> str:
    """A program in which each value is made of the one before."""
    lines = [f"val x{n} = {step.replace('@', f'x{n - 1}')}" for n in range(1, length + 1)]
    return "\n".join([f"val x0 = {start}", *lines, f"val Main = x{length}"]) + "\n"


def doubled(start: str, step: str, last: str) -> str:
    """A program in which each value is made of the one before, used twice."""
    lines = [
        f"val x0 = {start}",
        *(f"val x{n} = {step.replace('@', f'x{n - 1}')}" for n in range(1, LINES + 1)),
    ]
    return "\n".join([*lines, f"val Main = {last.replace('@', f'x{LINES}')}"]) + "\n"


# ------------------------------------------------------------------------------------------- nesting

EXPRS = {
    "list": nested("[", "1", "]"),
    "tuple": nested("(1, ", "1", ")"),
    "struct": nested("{a: ", "1", "}"),
    "map": nested('["a": ', "1", "]"),
    "block": nested("{ val x = 1; ", "x", "}"),
    "declaration": nested("{ val x = ", "1", "; x}"),
    "if": nested("if true {", "1", "} else {2}"),
    "condition": nested("if ", "true", " {true} else {false}"),
    "else if": nested("if false {1} else ", "{2}", ""),
    "case": nested("switch 1 { case y: ", "1", "}"),
    "switch": nested("switch ", "1", " { case y: y }"),
    "function": nested("func(x int) => ", "1", ""),
    "call": nested("len(", '"a"', ")"),
    "curried": "f" + "(1)" * DEEP,
    "field": "x" + ".a" * DEEP,
    "index": "x" + "[0]" * DEEP,
    "variant": nested("#A(", "1", ")"),
    "not": nested("!", "true", ""),
    "minus": nested("-", "1", ""),
    "operators": "+".join(["1"] * DEEP),
    "right operand": nested("1 + (", "1", ")"),
    "sequence": "~>".join(["delay(1)"] * DEEP),
    "delay": nested("delay(", "1", ")"),
    "source": nested("[x | x <- ", "[1]", "]"),
    "result": nested("[", "1", " | x <- [1]]"),
    "spread": "[1, " + "...[1] " * DEEP + "]",
    "image": nested("exec(image := ", '"x"', ') (o file) {" x "}'),
    "argument of make": nested('make("$/strings", y := ', "1", ")"),
    "interpolation": 'exec(image := "x") (o file) {" {{' + nested("[", "1", "]") + '}} "}',
}
DECLS = {
    "list type": f"func f(x {nested('[', 'int', ']')}) = 1",
    "function type": f"func f(x {nested('func(int) ', 'int', '')}) = 1",
    "tuple type": f"func f(x {nested('(int, ', 'int', ')')}) = 1",
    "sum type": f"func f(x {nested('#A(', 'int', ')')}) = 1",
    "struct type": f"func f(x {nested('{a ', 'int', '}')}) = 1",
    "pattern": f"val {nested('(x, ', 'y', ')')} = 1",
    "annotation": nested("@requires(cpu := 1) ", "val x = 1", ""),
}
PROGRAMS = {**{name: f"val Main = {text}\n" for name, text in EXPRS.items()}, **DECLS}


def test_ten_thousand_levels_are_refused(here: Path) -> None:
    names = [name.replace(" ", "_") + ".rf" for name in PROGRAMS]
    for name, text in zip(names, PROGRAMS.values(), strict=True):
        Path(name).write_text(text)
    outcome = reflow("check", *names, cpu_s=3 * len(names))
    errors = [
        line
        for line in outcome.stderr.splitlines()
        if line.endswith(": nested too deeply: more than 2000 levels")
    ]
    assert [line.split(":")[0] for line in errors] == names
    assert len(outcome.stderr) < 1000 * len(names)


@pytest.mark.parametrize("command", ["check", "run", "doc"])
def test_parentheses_are_no_levels(here: Path, command: str) -> None:
    Path("m.rf").write_text(f"val Main = {nested('(', '1', ')')}\n")
    assert reflow(command, "m.rf").status == 0


@pytest.mark.parametrize("step", ["[@]", "(@, 1)", "{a: @}", "#A(@)", "func(z int) => @"])
def test_types_made_deeper_line_by_line(here: Path, step: str) -> None:
    Path("m.rf").write_text(chain("1", step, 3000))
    refused("type is nested too deeply: more than 1000 levels", "run", "m.rf")


@pytest.mark.parametrize("step", ["@ + 1", "delay(@)", "{ x := @; x }"])
def test_values_made_line_by_line(here: Path, step: str) -> None:
    Path("m.rf").write_text(chain("1", step, 5000))
    assert reflow("run", "-executor", "process", "m.rf").status == 0


# ------------------------------------------------------------------------- what grows at every step

CHECKED = {
    "tuples": doubled("1", "(@, @)", "@ + 1"),
    "structs": doubled("1", "{a: @, b: @}", "@"),
    "functions": doubled("1", "func(a int) => (@, @)", "@"),
    "variants": doubled("1", "#A((@, @))", "@"),
    "aliases": "type x0 int\n"
    + "".join(f"type x{n + 1} (x{n}, x{n})\n" for n in range(LINES))
    + "func f(a x50) = 1\nval Main = 1\n",
}
RUN = {
    "lists": (doubled("1", "[@, @]", "@"), "value is too large"),
    "delayed lists": (doubled("delay(1)", "[@, @]", "@"), "value is too large"),
    "maps": (doubled("1", "[1: @, 2: @]", "@"), "value is too large"),
    "traced": (doubled("1", "[@, @]", "len(trace(@))"), "value is too large"),
    "compared": (doubled("1", "[@, @]", "@ == [@, @][0]"), "values are too large to be compared"),
    "digested": (doubled("1", "[@, @]", "[delay(len(@)): 1][2] + len([@, delay(@)][0])"), ""),
    "strings": (doubled('"a"', "@ + @", "len(@)"), "string of 536870912 bytes is too long"),
    "joined lists": (doubled("[1]", "@ + @", "len(@)"), "list of 33554432 elements is too long"),
    "flattened": (doubled("[1]", "flatten([@, @])", "len(@)"), "list of 33554432 elements is too long"),
    "integers": (doubled("3", "@ * @", "@ == 1"), "bits is too large"),
}


@pytest.mark.parametrize("text", CHECKED.values(), ids=CHECKED.keys())
def test_types_that_double(here: Path, text: str) -> None:
    Path("m.rf").write_text(text)
    outcome = refused("type is too large: it is made of more than 65536 types", "check", "m.rf")
    assert len(outcome.stderr) < 50_000


@pytest.mark.parametrize(("text", "message"), RUN.values(), ids=RUN.keys())
def test_values_that_double(here: Path, text: str, message: str) -> None:
    Path("m.rf").write_text(text)
    outcome = reflow("run", "-executor", "process", "m.rf")
    assert message in outcome.stderr
    assert outcome.status in ((1,) if message else (0, 1))


MESSAGES = {
    "images": 'exec(image := ?) (o file) {" x "}',
    "resources": 'exec(image := "x", mem := ?) (o file) {" x "}',
    "requirements": "{ @requires(cpu := ?) val x = 1; x }",
    "blocks": "{ val x = ?; x }",
    "calls": "(func(x int) => ?)(1)",
    "results": "[? | x <- [1]]",
}


@pytest.mark.parametrize("form", MESSAGES.values(), ids=MESSAGES.keys())
def test_messages_that_quote_messages(here: Path, form: str) -> None:
    before, after = form.split("?")
    Path("m.rf").write_text(f"val Main = {nested(before, 'absent', after, LINES)}\n")
    outcome = refused('identifier "absent" not defined', "check", "m.rf")
    assert len(outcome.stderr) < 500_000


def test_a_switch_whose_rest_doubles_with_every_case(here: Path) -> None:
    cases = ["case (" + ", ".join(["#A" if n == k else "_" for n in range(16)]) + "): 1" for k in range(16)]
    kind = "(" + ", ".join(["#A | #B | #C"] * 16) + ")"
    Path("m.rf").write_text(f"func F(x {kind}) = switch x {{ {' '.join(cases)} case _: 2 }}\n")
    refused("case patterns are too many to be looked through", "check", "m.rf")


def test_a_switch_with_thousands_of_tags(here: Path) -> None:
    tags = [f"#T{n}" for n in range(2000)]
    cases = " ".join([f"case {tag}: 1" for tag in tags])
    Path("m.rf").write_text(f"func F(x {'|'.join(tags)}) = switch x {{ {cases} }}\n")
    assert reflow("check", "m.rf") == (0, "", "")


# ---------------------------------------------------------------------------------------- evaluation

VALUES = {
    "1 << 10000000000": "integer of 10000000001 bits is too large",
    "1 << (1 << 70)": None,
    "1 >> (1 << 70)": None,
    "len(range(0, 1 << 40))": "range of 1099511627776 numbers is too long",
    "range(5, 0 - (1 << 70))": "invalid range",
    "9" * 3_000_000: None,
    "1e99999999999999": "exponent overflow",
    "1e1000000000": None,
    "1 / 0": "division by zero",
    "1 % 0": "division by zero",
    "delay(1) / 0": "division by zero",
    "0.0 / 0.0": "zero cannot be divided by zero",
    "int(1.5)": None,
    "zip([1])": "zip expects two arguments, got 1",
    "{ type T int; 1 }": "types can only be declared at the top level",
    'make("./m.rf").Main': "modules make each other in a circle",
    'exec(image := "i") (o file) {" }} {{o}} "}': "}} before {{ in a template",
    "1 /*": "comment not terminated",
    'make("$/regexp").Match("' + "a" * 30_000 + 'b", "(a*)*(a*)*(a*)*c")': None,
    'make("$/regexp").Match("a", "((a{1,1000}){1,1000}){1,1000}")': "invalid repeat count",
    'make("$/regexp").Match("a", "' + nested("(", "a", ")", 5000) + '")': None,
    'make("$/strings").FromFloat(1e1000000000, 1 << 40)': "digits are too many",
    'file("/dev/zero")': "no regular file",
    'file("a\\x00b")': "",
    'make("$/test").ExecRepeatAndCheck(delay(1), 1 << 40)': "repetitions are too many",
    "[x | x <- [[1]][3]]": "index 3 out of bounds",
}


@pytest.mark.parametrize(("text", "message"), VALUES.items(), ids=[each[:30] for each in VALUES])
def test_values_end_or_are_refused(here: Path, text: str, message: str | None) -> None:
    Path("m.rf").write_text(f"val Main = {text}\n")
    outcome = reflow("run", "-executor", "process", "m.rf")
    assert outcome.status == 0 if message is None else outcome.status in (1, 11)
    assert (message or "") in outcome.stderr


# --------------------------------------------------------------------------------- texts and modules


def test_a_long_line_is_shown_around_the_place(here: Path) -> None:
    Path("m.rf").write_text('val Main = "' + "é" * 1_000_000 + '" + absent + "' + "b" * 1_000_000 + '"\n')
    outcome = refused('m.rf:1:1000023: identifier "absent" not defined', "check", "m.rf")
    _, line, caret = outcome.stderr.splitlines()[:3]
    assert len(line) < 200
    assert line[caret.index("^") :].startswith("absent + ")
    assert caret.strip(" |") == "^" * len("absent")
    assert line.startswith("  1 | …é")
    assert line.endswith("b…")


TEXTS: dict[str, tuple[bytes, str]] = {
    "bytes that are no UTF-8": (b'val Main = "\xff\xfe"\n', "illegal UTF-8 encoding"),
    "in a name": (b"val Ma\xffin = 1\n", "syntax error"),
    "a lone surrogate": (b'val Main = "\xed\xa0\x80"\n', "illegal UTF-8 encoding"),
    "its escape": (b'val Main = "\\ud800"\n', "failed to unquote string"),
    "many of them": (b'val Main = "' + b"\xff" * 500_000 + b'"\n', "499900 more characters are illegal"),
    "NUL": (b"val Main\0 = 1\n", "illegal character NUL"),
    "many NULs": (b"\0" * 500_000, "syntax error"),
    "only comments": (b"// a\n" * 300_000, ""),
    "comments without a newline": (b"/* x */" * 300_000, ""),
    "only semicolons": (b";" * 300_000, ""),
    "an open string": (b'"' * 1_000_000, "syntax error"),
    "an open template": (b'{"' * 1_000_000, "template literal not terminated"),
    "open interpolations": (
        b'val A = exec(image := "x") (o file) {"' + b"{{" * 500_000 + b' "}\n',
        "unterminated",
    ),
    "backslashes": (b'val A = "' + b"\\" * 1_000_000, "failed to unquote string"),
    "a long name": (b"val Main = " + b"a" * 1_000_000 + b"\n", "not defined"),
    "names that are not there": (
        b"val Main = [" + b", ".join(b"z%d" % n for n in range(30_000)) + b"]\n",
        "29000 more errors are not shown",
    ),
    "names bound again": (b"val a = 1\n" * 20_000, ""),
    "fields of one name": (b"val A = {" + b", ".join([b"a: 1"] * 20_000) + b"}\n", ""),
    "many parameters": (b"".join(b"param p%d int\n" % n for n in range(DEEP)), ""),
    "many arguments": (
        b"func F(" + b", ".join(b"a%d int" % n for n in range(DEEP)) + b") = 1\n",
        "functions can have at most 128 arguments",
    ),
}


@pytest.mark.parametrize(("source", "message"), TEXTS.values(), ids=TEXTS.keys())
def test_odd_texts(here: Path, source: bytes, message: str) -> None:
    Path("m.rf").write_bytes(source)
    outcome = reflow("check", "m.rf")
    assert message in outcome.stderr
    assert len(outcome.stderr) < max(500_000, 2 * len(source))


def test_carriage_returns_in_a_script_are_kept_and_warned_of_once(here: Path) -> None:
    script = 'exec(image := "i") (o file) {"\r\n\techo > {{o}}\r\n"}'
    Path("m.rf").write_bytes(f"val A = {script}\r\nval B = {script}\r\n".encode())
    line = (
        "m.rf, line 1: warning: lines of scripts end in CRLF: the carriage returns are part of the commands\n"
    )
    assert reflow("check", "m.rf") == (0, "", line)
    assert reflow("check", "-w", "m.rf") == (1, "", line)
    assert "CRLF" not in reflow("doc", "m.rf").stderr


def test_a_source_above_the_limit_is_refused_by_its_size(here: Path) -> None:
    Path("m.rf").write_bytes(b"val A = 1\n" * 500_000)
    refused("module m.rf has 4.8MiB, the limit is 4.0MiB", "check", "m.rf")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _unreadable(path: Path) -> None:
    path.write_text("val A = 1\n")
    path.chmod(0)


ODD_MODULES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (_fifo, "is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "link to itself": (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    "missing": (lambda path: None, "no such file or directory"),
    "unreadable": (_unreadable, "permission denied"),
    "itself": (
        lambda path: path.write_text('val m = make("./m.rf")\n'),
        "modules make each other in a circle",
    ),
}


@pytest.mark.parametrize(("make", "message"), ODD_MODULES.values(), ids=ODD_MODULES.keys())
def test_modules_that_cannot_be_opened(here: Path, make: Callable[[Path], object], message: str) -> None:
    if message == "permission denied" and os.geteuid() == 0:
        message = ""  # nothing is unreadable to root
    make(here / "odd.rf")
    Path("m.rf").write_text('val m = make("./odd.rf")\nval Main = m.A\n')
    outcome = reflow("check", "m.rf")
    assert message in outcome.stderr
    assert outcome.status == (1 if message else 0)


@pytest.mark.parametrize(
    "path", ["../../../../../../../etc/passwd", "/etc/passwd", "", "a\\x00b.rf", "./" + "a" * 5000 + ".rf"]
)
def test_names_of_modules_that_lead_elsewhere(here: Path, path: str) -> None:
    Path("m.rf").write_text(f'val m = make("{path}")\nval Main = 1\n')
    outcome = refused("m.rf:1:13: failed to open module", "check", "m.rf")
    assert "root:" not in outcome.stderr


def test_a_long_chain_of_modules(here: Path) -> None:
    Path("m0.rf").write_text("val V = 1\n")
    for number in range(1, 1500):
        Path(f"m{number}.rf").write_text(f'val V = make("./m{number - 1}.rf").V\nval Main = V\n')
    assert reflow("run", "m200.rf").stdout == "1\n"
    assert len(refused("failed to open module", "run", "m1499.rf").stderr) < 200_000


# --------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("closed", [[1], [2], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize(
    ("words", "writes"), [(["check"], False), (["doc"], True), (["run", "-executor", "process"], True)]
)
def test_streams_that_are_closed(
    here: Path, words: Sequence[str], writes: bool, closed: Sequence[int]
) -> None:
    Path("m.rf").write_text("unused := 1\nval Main = 1\n")

    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(
        [sys.executable, "-m", "reflow", *words, "m.rf"],
        capture_output=True,
        preexec_fn=close,
        timeout=60,
        check=False,
    )
    assert done.returncode == (1 if writes and 1 in closed else 0)
    if writes and closed == [1]:
        assert done.stderr.decode().endswith("reflow: stdout cannot be written: bad file descriptor\n")


def test_a_full_disk_behind_stdout(here: Path) -> None:
    Path("m.rf").write_text("val Main = 1\n")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        outcome = reflow("run", "m.rf", stdout=full)
    finally:
        os.close(full)
    assert outcome == (1, "", "reflow: stdout cannot be written: no space left on device\n")
