"""What is printed when a command ends with an exception: never a traceback."""

from __future__ import annotations

import errno
import os
import time
import traceback

from reflow.cli.command import Fatal, UsageError
from reflow.core.errors import ReflowError
from reflow.lang.diagnostic import EvalError, SourceError
from reflow.runtime.config import ConfigError
from reflow.runtime.home import home

EXIT_FAILED, EXIT_USAGE = 1, 2


def explain(error: Exception) -> tuple[str, int]:
    """The text for people, without a final newline, and the exit status."""
    try:
        return _explain(error)
    except MemoryError:
        return "reflow: out of memory", EXIT_FAILED


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, ExceptionGroup):
        return explain(error.exceptions[0])
    if isinstance(error, Fatal):
        return str(error), error.status
    if isinstance(error, SourceError | EvalError):
        return error.render(), EXIT_FAILED
    if isinstance(error, ReflowError | ConfigError | UsageError):
        return f"reflow: {error}", EXIT_FAILED
    if isinstance(error, OSError) and error.filename is not None:
        return f"reflow: {os_error_text(error)}", EXIT_FAILED
    if isinstance(error, RecursionError):
        return "reflow: the program is nested too deeply", EXIT_FAILED
    if isinstance(error, MemoryError):
        return "reflow: out of memory", EXIT_FAILED
    return _parameter_text(error) or (internal_error_text(error), EXIT_FAILED)


def _parameter_text(error: Exception) -> tuple[str, int] | None:
    """For an error about a program's parameters: what is wrong, and which there are.

    The status is that of the original, also for ``-help``: 2 is for the command's own flags.
    """
    from reflow.lang.flags import UsageError as ParameterError

    if not isinstance(error, ParameterError):
        return None
    parts = ("", error.usage) if error.is_help else (error.message, error.usage)
    text = "\n".join([part.rstrip("\n") for part in parts if part])
    return text, EXIT_FAILED


def os_error_text(error: OSError) -> str:
    """The file, what is wrong with it, and what to do if it is one of Reflow's own."""
    path = os.fsdecode(error.filename)
    text = f"{path}: {(error.strerror or str(error)).lower()}"
    is_ours = os.path.abspath(path).startswith(home())
    if is_ours and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
        text += f"\n  hint: {home()} cannot be written; set REFLOW_HOME to a directory that can"
    return text


def internal_error_text(error: BaseException) -> str:
    """One line, and where the traceback is."""
    text = f"reflow: internal error: {type(error).__name__}: {error}".split("\n", 1)[0]
    details = "".join(traceback.format_exception(error))
    path = _write_traceback(details)
    where = f"traceback written to {path} (please report)" if path else "the traceback could not be written"
    return f"{text}; {where}"


def _write_traceback(details: str) -> str | None:
    name = f"reflow-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for directory in (home(), os.environ.get("TMPDIR") or "/tmp"):
        path = os.path.join(directory, name)
        try:
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(details)
        except OSError:
            continue
        return path
    return None
