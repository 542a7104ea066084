from __future__ import annotations

from pathlib import Path

from reflow.cli.outcome import error_object, failure_text
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.flow.node import Exec
from reflow.lang.diagnostic import EvalError
from reflow.lang.source import Pos, Source
from reflow.runtime.config import ConfigError
from reflow.runtime.outcome import RunOutcome, as_run_error
from reflow.runtime.report import Failure

TASK = Digest.of(b"task")
POS = Pos(Source("m.rf", "val Main = exec(...)\n"), 15, 11, 15)


def failed(*failures: Failure, error: ReflowError | None = None) -> RunOutcome:
    outcome = RunOutcome(Digest.of(b"run"))
    outcome.error = error or failures[0].error
    outcome.failures = failures
    return outcome


def failure(ident: str, stderr: str = "", kind: Kind = Kind.DOCKER_EXEC) -> Failure:
    flow = Exec("img", "\n\techo 100%%\n\texit 3\n", ident=ident, pos=POS)
    return Failure(flow, TASK, ReflowError(kind, "exec", TASK, cause="exited with code 3"), stderr)


def test_a_failed_exec_is_shown_with_command_output_and_the_way_to_more(tmp_path: Path) -> None:
    (tmp_path / "err").write_text("".join(f"line {n}\n" for n in range(30)))
    lines = failure_text(failed(failure("m.a", str(tmp_path / "err")))).split("\n")
    assert lines[:7] == [
        f"exec {TASK}: docker exec: exited with code 3",
        "  in m.a, at m.rf:1:16",
        "  1 | val Main = exec(...)",
        "    |            ^^^^",
        "  command:",
        "      echo 100%",
        "      exit 3",
    ]
    assert lines[7:9] == ["  end of stderr:", "      line 10"]
    assert lines[-2:] == [
        "      line 29",
        f"  all of it: reflow logs {TASK.short}  (-stdout: the other stream)",
    ]


def test_further_failures_are_named() -> None:
    text = failure_text(failed(*[failure(f"m.{n}") for n in range(13)]))
    assert f"\n  also failed: m.1 (reflow logs {TASK.short})\n" in text
    assert text.endswith("\n  and 2 more")


def test_what_was_ended_for_another_reason_is_not_blamed() -> None:
    canceled = ReflowError(Kind.CANCELED, cause="interrupted")
    assert failure_text(failed(failure("m.a", kind=Kind.CANCELED), error=canceled)) == "canceled: interrupted"


def test_an_error_of_the_program_has_its_caret() -> None:
    outcome = failed(error=as_run_error(EvalError("panic: boom", POS)))
    assert failure_text(outcome).split("\n")[:2] == [
        "evaluation error: m.rf:1:16: panic: boom",
        "  1 | val Main = exec(...)",
    ]


def test_kinds_of_errors_in_the_object() -> None:
    assert error_object(ReflowError(Kind.NET, "get", "x"), None) == {
        "kind": "Net",
        "message": "get x: network error",
        "position": None,
    }
    assert error_object(EvalError("x\udcff", POS), "m.rf:1:16")["message"] == "m.rf:1:16: x\ufffd"
    kinds = [
        error_object(err, None)["kind"] for err in (EvalError("x"), KeyboardInterrupt(), ConfigError("x"))
    ]
    assert kinds == ["Eval", "Canceled", "Invalid"]
