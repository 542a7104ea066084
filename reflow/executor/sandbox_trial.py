"""Whether bubblewrap works on this machine, found out by running it; and what to do where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from reflow.executor.machine import find_program
from reflow.executor.sandbox_words import Program, User, sandbox_words

PROGRAM = "bwrap"

_TIMEOUT_S = 10.0
_BANS = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns is 1",
    ),
)
_UNKNOWN = "Unknown option"
_NAMESPACE_WORDS = ("namespace", "uid map", "not permitted", "permission denied", "no space left")


class Trial(NamedTuple):
    """The program, who commands run as without overlays, and why it does not work (empty: it does)."""

    program: Program
    user: User
    trouble: str


def try_bubblewrap() -> Trial:
    """Run nothing in a sandbox made of this machine's own root file system. Blocks for milliseconds."""
    user = User(os.getuid(), os.getgid(), os.geteuid() != 0)
    path = find_program(PROGRAM)
    if sys.platform != "linux":
        return Trial(Program(""), user, "it is for Linux")
    if path is None:
        return Trial(Program(""), user, f"bubblewrap ({PROGRAM}) was not found on PATH")
    program = Program(path)
    said = _run(program, user)
    if _UNKNOWN in said:
        program = Program(path, is_old=True)
        said = _run(program, user)
    if said and not user.needs_namespace:
        # Root in a container that may not mount: perhaps it may make user namespaces.
        inside = user._replace(needs_namespace=True)
        if not _run(program, inside):
            return Trial(program, inside, "")
    return Trial(program, user, _explained(said) if said else "")


def _run(program: Program, user: User) -> str:
    """Run bubblewrap; what it says when it fails."""
    fd = os.open(os.devnull, os.O_RDWR)
    root = ["--ro-bind", "/", "/"]
    try:
        done = subprocess.run(
            sandbox_words(program, root, user, [], "/", ["/bin/sh", "-c", ":"], status_fd=fd),
            stdin=fd,
            stdout=fd,
            stderr=subprocess.PIPE,
            pass_fds=[fd],
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {_TIMEOUT_S:g} s"
    except OSError as err:
        return (err.strerror or str(err)).lower()
    finally:
        os.close(fd)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("bwrap: ") if lines else f"status {done.returncode}"


def _explained(said: str) -> str:
    """Say what stands in the way, and who can change it."""
    text = f"bubblewrap does not work here: {said}"
    if _UNKNOWN in said:
        return f"{text}: it is too old"
    if not any(word in said.lower() for word in _NAMESPACE_WORDS):
        return text
    for path, value, meaning in _BANS:
        if _read(path) == value:
            return f"{text} (user namespaces are banned: {meaning}; an administrator can allow them)"
    return f"{text} (making namespaces is not allowed, as in a container without the right to)"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
