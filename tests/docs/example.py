"""Examples of the documentation, run as they stand there.

A ``reflow`` block is a module, or several: ``// file: NAME`` begins a file, and the last ``.rf`` of them is
the program. Comments at the start of a line say what is to happen:

    // run: ARGS           runs the program with these parameters (without such a line it is run without any)
    // prints: VALUE       that is the value of Main
    // type: TYPE          that is the type of Main
    // output: LINE        that is a line of what ``-out`` places; of a directory, ``PATH: LINE``
    // executed: N         so many execs ran
    // traces: TEXT        such a line was traced
    // warning: TEXT       such a warning is given when the program is checked; there are no others
    // error: TEXT         the program ends with an error that says so
    // hint: TEXT          and gives this advice

A block that says nothing of the kind is checked and not run. A program that is to compute something is run by
the real command, with ``-executor process``.

A ``values`` block has an expression a line, an arrow, and its value or ``error: TEXT``. A ``console`` block
has commands after ``$`` with what they print; ``…`` stands for anything. It runs where the files of the block
above it are.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from reflow.core.errors import ReflowError
from reflow.lang.diagnostic import EvalError, SourceError
from reflow.lang.program import UsageError, load
from reflow.lang.session import Session
from tests.adapters.sim import simulate
from tests.command import Workspace
from tests.docs.markdown import Block

_DIRECTIVE = re.compile(r"// (file|run|prints|type|output|executed|traces|warning|error|hint): ?(.*)$")
_ROW = re.compile(r"^(.*?) +→ (.*)$")
_PLACED = "placed"


@dataclass
class Step:
    """Files to write, a program to run, and what is expected of it."""

    files: dict[str, list[str]] = field(default_factory=dict)
    args: str | None = None
    expected: dict[str, list[str]] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether the program is run, not just checked."""
        return self.args is not None or bool(self.expected.keys() - {"warning"})


def steps(block: Block) -> list[Step]:
    """What a ``reflow`` block says, in order."""
    found = [Step()]
    name = "main.rf"
    for line in block.lines:
        directive = _DIRECTIVE.match(line)
        if directive is None:
            if found[-1].expected and line.strip():
                found.append(Step())
            found[-1].files.setdefault(name, []).append(line)
            continue
        word, text = directive.groups()
        if word in ("file", "run") and (found[-1].expected or found[-1].args is not None):
            found.append(Step())
        if word == "file":
            name = text
            found[-1].files[name] = []
        elif word == "run":
            found[-1].args = text
        else:
            found[-1].expected.setdefault(word, []).append(text)
    return found


def write_files(block: Block, workspace: Workspace) -> None:
    """Write the files of a block as they are in the end."""
    for step in steps(block):
        _write(step, workspace)


def _write(step: Step, workspace: Workspace) -> None:
    for name, lines in step.files.items():
        text = "\n".join(lines).strip("\n")
        if text:
            workspace.write(name, text + "\n")


def run_program(block: Block, workspace: Workspace) -> None:
    """Run a ``reflow`` block and compare. The working directory must be that of the workspace."""
    program = "main.rf"
    for step in steps(block):
        _write(step, workspace)
        program = next((name for name in reversed(step.files) if name.endswith(".rf")), program)
        outcome = _checked(program) if step.files else _Outcome()
        if not outcome.error and step.runs:
            _run(outcome, program, step, workspace)
        _compare(step, outcome)


@dataclass
class _Outcome:
    """What became of a program."""

    prints: str = ""
    type: str = ""
    error: str = ""
    output: list[str] = field(default_factory=list)
    executed: str = ""
    traces: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _text(err: Exception) -> str:
    return err.render() if isinstance(err, SourceError | EvalError) else str(err)


def _checked(program: str) -> _Outcome:
    outcome = _Outcome()
    try:
        Session(warn=outcome.warnings.append).open(program)
    except (SourceError, ReflowError) as err:
        outcome.error = _text(err)
    return outcome


def _run(outcome: _Outcome, program: str, step: Step, workspace: Workspace) -> None:
    """Evaluate here what needs no evaluator; leave the rest to the command."""
    session = Session(trace=outcome.traces.append, note=outcome.traces.append)
    argv = shlex.split(step.args or "")
    try:
        made = load(program, argv, session, make_absolute=False)
    except (SourceError, EvalError, ReflowError, UsageError) as err:
        outcome.error = _text(err)
        return
    outcome.type = str(made.main_type)
    if made.is_immediate:
        outcome.prints = made.text(made.main)
        return
    outcome.traces.clear()
    done = workspace.reflow(
        "run", "-executor", "process", "-json", "-out", _PLACED, program, *argv, timeout_s=60
    )
    outcome.error = done.err if done.code else ""
    outcome.traces += done.err.splitlines()
    outcome.prints = str(done.json["result"])
    outcome.executed = str(done.json["executed"])
    outcome.output = list(_lines(workspace.dir / _PLACED)) if not done.code else []


def _lines(placed: Path) -> list[str]:
    """What was placed: the lines of a file, or those of all files below a directory."""
    if placed.is_file():
        return placed.read_text().splitlines()
    found = sorted(path for path in placed.rglob("*") if path.is_file())
    return [f"{path.relative_to(placed)}: {line}" for path in found for line in path.read_text().splitlines()]


def _compare(step: Step, outcome: _Outcome) -> None:
    wanted = step.expected
    for text in wanted.get("error", []) + [f"hint: {text}" for text in wanted.get("hint", [])]:
        assert text in outcome.error, f"{text!r} is not in {outcome.error!r}, printed {outcome.prints}"
    assert bool(outcome.error) == ("error" in wanted), outcome.error
    for key in ("prints", "type", "executed"):
        if key in wanted:
            assert getattr(outcome, key) == wanted[key][0], key
    if "output" in wanted:
        assert outcome.output == wanted["output"]
    for text in wanted.get("traces", []):
        assert any(text in line for line in outcome.traces), f"{text!r} was not traced: {outcome.traces}"
    texts = wanted.get("warning", [])
    assert len(outcome.warnings) == len(texts), outcome.warnings
    for text, warning in zip(texts, outcome.warnings, strict=True):
        assert text in warning


# ------------------------------------------------------------------------------------------- values


def run_values(block: Block) -> None:
    """Evaluate each expression of a ``values`` block and compare, all of them before failing."""
    wrong = []
    for line in block.lines:
        if not line.strip():
            continue
        row = _ROW.match(line)
        assert row is not None, f"no arrow in {line!r}"
        expression, wanted = row[1].strip(), row[2].strip()
        got = value_of(expression)
        matches = wanted.removeprefix("error: ") in got if wanted.startswith("error: ") else got == wanted
        if not matches or got.startswith("error: ") != wanted.startswith("error: "):
            wrong.append(f"{expression} → {got}, the document says {wanted}")
    assert not wrong, "\n" + "\n".join(wrong)


_SYSTEM = "".join(
    f'{name} := make("$/{name}")\n' for name in ("dirs", "files", "path", "regexp", "strings", "test")
)


def value_of(expression: str) -> str:
    """The value of an expression in which the system modules go by their own names."""
    Path("value.rf").write_text(f"{_SYSTEM}val Main = {expression}\n")
    try:
        program = load("value.rf", [], Session(), make_absolute=False)
        if program.is_immediate:
            return program.text(program.main)
    except (SourceError, EvalError, ReflowError) as err:
        return f"error: {_text(err)}"
    outcome = simulate(program)
    return str(outcome["value"]) if "value" in outcome else f"error: {outcome['error']}"


# ------------------------------------------------------------------------------------------ console


def run_console(block: Block, workspace: Workspace) -> None:
    """Run the commands of a ``console`` block and compare what they print."""
    printed: list[str] = []
    for line in block.lines:
        if line.startswith("$ "):
            words = shlex.split(line[2:])
            assert words[0] == "reflow", line
            done = workspace.reflow(*words[1:], timeout_s=60)
            printed += [line, *done.err.splitlines(), *done.out.splitlines()]
    pattern = "".join("(?:.*\n)?" if line.strip() == "…" else _line_pattern(line) for line in block.lines)
    text = "".join(line + "\n" for line in printed)
    assert re.fullmatch(pattern, text, re.DOTALL), text


def _line_pattern(line: str) -> str:
    return "[^\n]*".join(re.escape(part) for part in line.split("…")) + "\n"
