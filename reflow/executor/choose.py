"""Which executor a run uses.

An executor that somebody named is used or is an error; only ``auto`` looks for what there is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.executor import docker_socket
from reflow.executor.machine import find_program
from reflow.imagestore.host import UnsupportedHostError, socket_path

AUTO = "auto"
NAMES = (AUTO, "docker", "sandbox", "process")

_AUTO_TIMEOUT_S = 1.0
_NAMED_TIMEOUT_S = 10.0
_NO_BASH = "bash was not found on PATH, and execs are run by it"

Missing = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]
"""Tells which images cannot be had without a daemon, and why."""


class Choice(NamedTuple):
    """The executor (docker, sandbox or process), why that one, and what its user should know, if anything."""

    name: str
    reason: str
    warning: str = ""


async def choose_executor(
    name: str, *, images: Collection[str] = (), missing: Missing | None = None
) -> Choice:
    """Choose by the name that a flag or the configuration gives; ``auto`` finds out.

    ``images`` are those that the program is known to use; ``missing`` is asked about them when it matters.
    Raises INVALID for an unknown name, PRECONDITION or NOT_SUPPORTED when a named executor cannot be had.
    """
    match name:
        case "auto" | "":
            return await _find(images, missing)
        case "docker":
            return await _docker()
        case "sandbox":
            trouble = await _sandbox_trouble()
            if trouble:
                detail = f"{trouble}; choose another executor with -executor"
                raise ReflowError(Kind.PRECONDITION, "executor", name, cause=detail)
            return Choice("sandbox", "asked for")
        case "process":
            if find_program("bash") is None:
                raise ReflowError(Kind.PRECONDITION, "executor", name, cause=_NO_BASH)
            return Choice("process", "asked for", _ignored(images))
        case _:
            detail = f"unknown executor, want one of {', '.join(NAMES)}"
            raise ReflowError(Kind.INVALID, "executor", name, cause=detail)


async def _find(images: Collection[str], missing: Missing | None) -> Choice:
    trouble = await _docker_trouble(_AUTO_TIMEOUT_S)
    if not trouble:
        return Choice("docker", f"its daemon answers at {socket_path()}")
    reason = f"docker: {trouble}"
    trouble = await _sandbox_trouble()
    if not trouble and missing is not None and images:
        trouble = _absent(await missing(images))
    if not trouble:
        return Choice("sandbox", f"{reason}; bubblewrap works")
    reason = f"{reason}; sandbox: {trouble}"
    if find_program("bash") is None:
        detail = f"nothing can run execs here ({reason}; process: {_NO_BASH})"
        raise ReflowError(Kind.PRECONDITION, "executor", AUTO, cause=detail)
    return Choice("process", reason, _ignored(images))


async def _docker() -> Choice:
    try:
        path = socket_path()
    except UnsupportedHostError as err:
        raise ReflowError(Kind.NOT_SUPPORTED, "executor", "docker", cause=str(err)) from err
    trouble = await docker_socket.ping(path, _NAMED_TIMEOUT_S)
    if trouble:
        detail = f"{trouble}; start the daemon, or choose another executor with -executor"
        raise ReflowError(Kind.PRECONDITION, "executor", "docker", cause=detail)
    return Choice("docker", "asked for")


async def _docker_trouble(timeout_s: float) -> str:
    """Why docker cannot be used; the empty text when it can."""
    try:
        return await docker_socket.ping(socket_path(), timeout_s)
    except UnsupportedHostError as err:
        return str(err)


async def _sandbox_trouble() -> str:
    """Why bubblewrap cannot be used; the empty text when it can."""
    from reflow.disk.blocking import Blocking
    from reflow.executor.sandbox_trial import try_bubblewrap

    calls = Blocking("trial", 1)
    try:
        return (await calls(try_bubblewrap)).trouble
    finally:
        calls.close()


def _absent(missing: Mapping[str, str]) -> str:
    """Say which images cannot be had without a daemon; nothing when there are none."""
    if not missing:
        return ""
    image, why = next(iter(missing.items()))
    return f"image {image} is not unpacked here, and cannot be had ({why})"


def _ignored(images: Collection[str]) -> str:
    """The warning of the process executor."""
    named = sorted({image for image in images if image})
    if not named:
        return "images are ignored: execs run with the programs of this machine"
    shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return f"images are ignored ({shown}): execs run with the programs of this machine"
