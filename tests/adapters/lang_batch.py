"""The batch protocol of conformance/lang: one JSON request a line in, one JSON reply a line out."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from flow_digest import main_digest
from sim import simulate

from reflow.core.errors import ReflowError
from reflow.lang.bundle import write_bundle
from reflow.lang.diagnostic import EvalError, SourceError
from reflow.lang.doc import doc_text, system_modules_text
from reflow.lang.program import UsageError, instantiate, load
from reflow.lang.session import Session


@dataclass
class Reply:
    """What a command printed and how it ended."""

    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    exit: int = 0
    digest: str | None = None
    sim: dict[str, Any] | None = None

    def session(self, *, warns: bool = False) -> Session:
        return Session(warn=self.tell if warns else None, note=self.tell, trace=self.tell)

    def tell(self, line: str) -> None:
        self.err.append(line + "\n")


def _run(reply: Reply, argv: list[str]) -> None:
    program = load(argv[0], argv[1:], reply.session(), make_absolute=True)
    if program.is_immediate:
        reply.out.append(program.text(program.main) + "\n")
    else:
        reply.tell("this program is not immediate")
        reply.exit = 1


def _check(reply: Reply, argv: list[str]) -> None:
    session = reply.session(warns=True)
    for path in [word for word in argv if word != "-w"]:
        try:
            session.open(path)
        except (SourceError, ReflowError) as err:
            _tell_error(reply, err)
            reply.exit = 1
    if "-w" in argv and session.warnings:
        reply.exit = 1


def _doc(reply: Reply, argv: list[str]) -> None:
    session = reply.session()
    reply.out.append(doc_text(session.open(argv[0])) if argv else system_modules_text())


def _images(reply: Reply, argv: list[str]) -> None:
    session = reply.session()
    try:
        instantiate(argv[0], argv[1:], session)
    except UsageError as err:
        _tell_error(reply, err)
        reply.exit = 2
        return
    reply.out += [f"{image}\n" for image in session.images()]


def _bundle(reply: Reply, argv: list[str]) -> None:
    out = None
    if argv[0] == "-o":
        out, argv = argv[1], argv[2:]
    write_bundle(reply.session(warns=True), out, argv[0], argv[1:])


_COMMANDS: dict[str, Callable[[Reply, list[str]], None]] = {
    "run": _run,
    "check": _check,
    "doc": _doc,
    "images": _images,
    "bundle": _bundle,
}


def _tell_error(reply: Reply, err: Exception) -> None:
    reply.tell(err.render() if isinstance(err, SourceError | EvalError) else str(err))
    if isinstance(err, UsageError):
        reply.tell(err.usage)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request in its directory."""
    os.chdir(request["cwd"])
    reply = Reply()
    try:
        if request["op"] == "digest":
            program = load(request["main"], request["args"], reply.session(), make_absolute=False)
            reply.digest = str(main_digest(program))
            reply.sim = simulate(program)
        else:
            command, *argv = request["argv"]
            _COMMANDS[command](reply, argv)
    except (SourceError, EvalError, ReflowError, UsageError) as err:
        _tell_error(reply, err)
        reply.exit = 1
    except Exception:  # noqa: BLE001  (a crash is a result: the runner looks for the traceback)
        reply.tell(traceback.format_exc())
        reply.exit = 2
    return {
        "name": request["name"],
        "stdout": "".join(reply.out),
        "stderr": "".join(reply.err),
        "exit": reply.exit,
        "digest": reply.digest,
        "sim": reply.sim,
    }


def main() -> None:
    sys.setrecursionlimit(10_000)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
