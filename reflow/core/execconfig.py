"""What an executor is asked to run, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import EMPTY_FILESET, Fileset
from reflow.core.resources import NO_RESOURCES, Resources

ExecType = Literal["exec", "intern", "extern"]


@dataclass(frozen=True, slots=True)
class InputArg:
    """An argument that is replaced by the paths of a fileset's files."""

    fileset: Fileset


@dataclass(frozen=True, slots=True)
class OutputArg:
    """An argument that is replaced by the path of output ``index``."""

    index: int


ExecArg = InputArg | OutputArg


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """One command (or transfer) to run.

    ``cmd`` is printf-style: one ``%s`` per argument, other percent signs doubled. ``image`` has no
    qualifiers; ``original_image`` is as the program wrote it. ``output_is_dir`` has one entry per
    output index. ``output_names`` are the names of the outputs, for messages.
    """

    type: ExecType
    ident: str = ""
    url: str = ""
    image: str = ""
    original_image: str = ""
    cmd: str = ""
    args: tuple[ExecArg, ...] = ()
    arg_names: tuple[str, ...] = ()
    resources: Resources = NO_RESOURCES
    needs_aws_creds: bool = False
    needs_docker_access: bool = False
    output_is_dir: tuple[bool, ...] = ()
    output_names: tuple[str, ...] = ()
    position: str = ""


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """Statistics of one gauge (``cpu`` in cores, the others in bytes); mean is -1 without samples."""

    max: float
    mean: float
    var: float
    n: int
    first: datetime | None = None
    last: datetime | None = None


Profile = Mapping[str, ProfileEntry]


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The outcome of a finished exec: a fileset (a list with one member per output), or its failure.

    ``error`` is the failure of the *program*; trouble of the machinery is raised instead.
    """

    fileset: Fileset = EMPTY_FILESET
    error: ReflowError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecInspect:
    """What is known of an exec, for ``info``, ``ps`` and the task database.

    ``state`` is one of initializing, created, running, complete. ``runtime_s`` is wall time.
    ``stdout_path`` and ``stderr_path`` are where its output is, or "" when there was none;
    ``directory`` is that of a failed exec, which is kept.
    """

    config: ExecConfig
    created: datetime
    state: str
    status: str = ""
    error: ReflowError | None = None
    exec_error: ReflowError | None = None
    profile: Profile = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()
    runtime_s: float = 0.0
    stdout: Digest | None = None
    stderr: Digest | None = None
    stdout_path: str = ""
    stderr_path: str = ""
    directory: str = ""
