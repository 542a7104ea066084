"""Runs the real command in a process of its own, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that ``-json`` prints as the last line."""
        loaded = json.loads(self.out.splitlines()[-1])
        assert isinstance(loaded, dict)
        return loaded

    def ok(self) -> Done:
        """Itself, when it succeeded; else the failure with all that was printed."""
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self

    def failed(self, *texts: str, code: int = 1) -> Done:
        """Itself, when it failed as it should: with this status, these texts and no traceback."""
        assert self.code == code, f"exit {self.code}, want {code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err, self.err
        assert "internal error" not in self.err, self.err
        for text in texts:
            assert text in self.err, f"{text!r} is not in\n{self.err}"
        return self


class Workspace:
    """A working directory and a home of its own."""

    def __init__(self, root: Path) -> None:
        self.dir = root / "work"
        self.home = root / "home"
        self.dir.mkdir()
        self.home.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("REFLOW_", "AWS_"))}
        self.env = {**kept, "HOME": str(self.home), "TERM": "dumb"}

    @property
    def state(self) -> Path:
        """Where reflow keeps its state."""
        return self.home / ".reflow"

    def write(self, name: str, text: str) -> Path:
        """Write a file of the working directory."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def argv(self, *words: str) -> list[str]:
        """The command line of ``reflow WORDS``."""
        return [sys.executable, "-m", "reflow", *words]

    def reflow(self, *words: str, timeout_s: float = 120, typed: str | None = None, **env: str) -> Done:
        """Run ``reflow WORDS`` to its end, with what is ``typed`` on stdin."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}
        done = subprocess.run(
            self.argv(*words),
            cwd=self.dir,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            **given,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start ``reflow WORDS`` in a session of its own; the caller ends it."""
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.dir,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
