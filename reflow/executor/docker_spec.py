"""What a container for an exec is made of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime

from reflow.core.errors import Kind, ReflowError
from reflow.executor import credentials, staging
from reflow.executor.docker_api import Bind, ContainerSpec, Overlay
from reflow.executor.localexec import LocalExec


def environment(running: LocalExec) -> list[str]:
    """What a container gets in its environment besides what its image says."""
    words = ["tmp=/tmp", "TMPDIR=/tmp", "HOME=/tmp"]
    if not running.config.output_is_dir:
        words.append("out=/return/default")
    if running.config.needs_aws_creds:
        found = credentials.from_environment(running.id)
        words += [f"{name}={value}" for name, value in found.items()]
    return words


def foreign_binds(directory: str, staged: staging.Staged) -> list[Bind]:
    """Mounts of the user's own files, which the command may not change."""
    binds = []
    for number, (place, path) in enumerate(staged.foreign.items()):
        source = path
        if any("\udc80" <= char <= "\udcff" for char in path):
            # JSON has no words for such bytes, but a link to the file has an ordinary name.
            os.makedirs(f"{directory}/take", exist_ok=True)
            source = f"{directory}/take/bind-{number}"
            os.symlink(path, source)
        binds.append(Bind(source, f"/arg/{place}", is_read_only=True))
    return binds


def make_overlay(directory: str, lowers: Sequence[str]) -> Overlay:
    """What an exec's ``/arg`` is seen through."""
    overlay = Overlay([f"{directory}/arg", *lowers], f"{directory}/upper", f"{directory}/work")
    os.mkdir(overlay.upper)
    os.mkdir(overlay.work)
    return overlay


def remove_overlay(overlay: Overlay) -> None:
    """Remove what an overlay would have had on top."""
    for path in (overlay.upper, overlay.work):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def start_error(running: LocalExec, spec: ContainerSpec, err: ReflowError) -> ReflowError:
    """Say what is wrong with an image that has no bash; other errors as they are."""
    text = str(err.cause)
    if "/bin/bash" in text and ("no such file" in text or "not found" in text):
        detail = "the image has no /bin/bash, which runs the commands of execs: use an image that has it"
        return ReflowError(
            Kind.INVALID,
            "exec",
            running.id,
            f"image {running.config.original_image or spec.image}",
            cause=detail,
        )
    return err


def seconds(text: str | None) -> float:
    """Seconds since the epoch of a time as docker writes it; 0 for none."""
    try:
        when = datetime.fromisoformat((text or "")[:26].rstrip("Z") + "+00:00")
    except ValueError:
        return 0.0
    return max(0.0, when.timestamp())
