"""Operational errors: what went wrong in the world, as opposed to in the user's program.

An error has a `Kind` (which decides retries, exit codes and HTTP status), the operation that failed,
its arguments, and its cause. Its text is that of the original: ``op arg: kind:`` and the cause on
the next line. Errors of the user's program are `ProgramError`s instead (see `reflow.lang.diagnostic`).
"""

from __future__ import annotations

import enum
from typing import Any


class Kind(enum.Enum):
    """Kinds of operational error; the value is the name used on the wire."""

    OTHER = "Other"
    CANCELED = "Canceled"
    TIMEOUT = "Timeout"
    TEMPORARY = "Temporary"
    NOT_EXIST = "NotExist"
    NOT_ALLOWED = "NotAllowed"
    NOT_SUPPORTED = "NotSupported"
    TOO_MANY_TRIES = "TooManyTries"
    INTEGRITY = "Integrity"
    RESOURCES_EXHAUSTED = "ResourcesExhausted"
    EVAL = "Eval"
    UNAVAILABLE = "Unavailable"
    FATAL = "Fatal"
    INVALID = "Invalid"
    NET = "Net"
    PRECONDITION = "Precondition"
    OOM = "OOM"
    MODULE = "Module"
    DOCKER_EXEC = "DockerExec"


KIND_TEXT: dict[Kind, str] = {
    Kind.OTHER: "",
    Kind.CANCELED: "canceled",
    Kind.TIMEOUT: "timeout",
    Kind.TEMPORARY: "temporary",
    Kind.NOT_EXIST: "resource does not exist",
    Kind.NOT_ALLOWED: "access denied",
    Kind.NOT_SUPPORTED: "operation not supported",
    Kind.TOO_MANY_TRIES: "too many tries",
    Kind.INTEGRITY: "integrity error",
    Kind.RESOURCES_EXHAUSTED: "resources exhausted",
    Kind.EVAL: "evaluation error",
    Kind.UNAVAILABLE: "unavailable",
    Kind.FATAL: "fatal",
    Kind.INVALID: "invalid",
    Kind.NET: "network error",
    Kind.PRECONDITION: "precondition was not met",
    Kind.OOM: "OOM error",
    Kind.MODULE: "module",
    Kind.DOCKER_EXEC: "docker exec",
}

_TRANSIENT = frozenset({Kind.TIMEOUT, Kind.TEMPORARY, Kind.TOO_MANY_TRIES, Kind.UNAVAILABLE})
_NON_RETRYABLE = frozenset(
    {Kind.NOT_SUPPORTED, Kind.INVALID, Kind.NOT_EXIST, Kind.FATAL, Kind.MODULE, Kind.DOCKER_EXEC}
)
_NEVER_RESTART = frozenset(
    {Kind.CANCELED, Kind.FATAL, Kind.NOT_SUPPORTED, Kind.NOT_ALLOWED, Kind.MODULE, Kind.DOCKER_EXEC}
)


class ProgramError(Exception):
    """An error of the user's program. The language has the concrete ones, which know positions."""


class ReflowError(Exception):
    """An operational error.

    ``op`` is the operation (may be empty), ``args`` the things it was about, ``cause`` what made it
    fail: another `ReflowError`, any other exception, or a text.
    """

    def __init__(
        self,
        kind: Kind,
        op: str = "",
        *subjects: object,
        cause: BaseException | str | None = None,
    ) -> None:
        self.kind = kind
        self.op = op
        self.subjects = tuple(str(subject) for subject in subjects)
        self.cause = cause
        if isinstance(cause, ReflowError):
            self._hoist(cause)
        super().__init__(kind, op, *self.subjects)

    def _hoist(self, cause: ReflowError) -> None:
        """Take over the cause's kind when this error has none of its own, and print it once."""
        if self.kind is Kind.OTHER:
            self.kind = cause.kind
        if self.kind is cause.kind and cause.kind is not Kind.OTHER:
            cause = cause.without_kind()
        if not cause.op and cause.kind is Kind.OTHER and cause.cause is not None:
            self.cause = cause.cause
        else:
            self.cause = cause

    def without_kind(self) -> ReflowError:
        """A copy of kind OTHER, for a parent that already shows the kind."""
        copy = ReflowError(Kind.OTHER, self.op, *self.subjects)
        copy.cause = self.cause
        return copy

    def text(self, separator: str = ":\n\t") -> str:
        """The whole chain as text; causes that are Reflow errors are joined by ``separator``."""
        parts = " ".join([word for word in (self.op, *self.subjects) if word])
        if self.kind is not Kind.OTHER:
            parts = f"{parts}: {KIND_TEXT[self.kind]}" if parts else KIND_TEXT[self.kind]
        if self.cause is None:
            return parts
        if isinstance(self.cause, ReflowError):
            return f"{parts}{separator}{self.cause.text(separator)}" if parts else self.cause.text(separator)
        return f"{parts}: {self.cause}" if parts else str(self.cause)

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, Any]:
        """The error as it is stored and sent: Op, Arg, Kind, Cause, Error."""
        if isinstance(self.cause, ReflowError):
            cause: dict[str, Any] | None = self.cause.to_json()
        elif self.cause is not None:
            cause = {"Op": "", "Arg": None, "Kind": "", "Error": str(self.cause)}
        else:
            cause = None
        row: dict[str, Any] = {"Op": self.op, "Arg": list(self.subjects) or None, "Kind": self.kind.value}
        if cause is not None:
            row["Cause"] = cause
        row["Error"] = ""
        return row


def error_from_json(row: dict[str, Any]) -> ReflowError:
    """Read an error written by `ReflowError.to_json`; unknown kinds become OTHER."""
    cause: BaseException | str | None = None
    inner = row.get("Cause")
    if inner:
        cause = inner["Error"] if inner.get("Error") else error_from_json(inner)
    if row.get("Error"):
        return ReflowError(Kind.OTHER, cause=row["Error"])
    try:
        kind = Kind(row.get("Kind") or "Other")
    except ValueError:
        kind = Kind.OTHER
    return ReflowError(kind, row.get("Op") or "", *(row.get("Arg") or ()), cause=cause)


def kind_of(error: BaseException | None) -> Kind:
    """The first kind that says something, walking down the causes; OTHER when none does."""
    while isinstance(error, ReflowError):
        if error.kind is not Kind.OTHER:
            return error.kind
        error = error.cause if isinstance(error.cause, BaseException) else None
    return Kind.OTHER


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again soon can help."""
    return kind_of(error) in _TRANSIENT


def is_non_retryable(error: BaseException) -> bool:
    """Tell whether trying the same step again cannot help."""
    return kind_of(error) in _NON_RETRYABLE


def is_restartable(error: BaseException | None) -> bool:
    """Tell whether the whole run may be tried again: some transient or network error in the chain."""
    while isinstance(error, ReflowError):
        if error.kind in _NEVER_RESTART:
            return False
        if error.kind in _TRANSIENT or error.kind is Kind.NET:
            return True
        error = error.cause if isinstance(error.cause, BaseException) else None
    return False
