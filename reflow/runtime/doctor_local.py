"""Checks of this machine: configuration file, state directory, disk, executor, registry."""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from reflow.core.errors import ReflowError
from reflow.core.units import format_size
from reflow.imagestore.host import UnsupportedHostError, socket_path
from reflow.runtime.config import Config, parse_document
from reflow.runtime.doctor import Check, Finding, server
from reflow.runtime.home import home
from reflow.runtime.provider import KEYS, RESERVED
from reflow.runtime.setup import SHARED_AUTHORITY
from reflow.runtime.setup_file import read_text

_LOW_SHARE, _LOW_BYTES = 0.05, 1 << 30
_FULL_BYTES = 100 << 20
_HUB = "registry-1.docker.io"
_OTHER_KEYS = frozenset({"transferlimit"})
_HANGS = "see whether one of these file systems hangs (ls), or use directories of this machine"
_DOCKER_HANGS = (
    "see whether the docker daemon hangs (docker version) and restart it, or set executor: sandbox"
)
_OFFLINE = "check network and proxies (HTTPS_PROXY); images that are here already work without"


def local_checks(config: Config, trouble: str = "") -> list[Check]:
    """The checks. ``trouble``: why the configuration cannot be used; the others are then of the defaults."""
    places = [home(), config.repository_dir, config.local_dir]
    return [
        Check("configuration", lambda: check_configuration(config.path, trouble)),
        Check(
            "state",
            lambda: check_state(home()),
            mend="set REFLOW_HOME to a directory of this machine",
            asks=home,
        ),
        Check("disk", lambda: check_disk(places), mend=_HANGS, asks=lambda: ", ".join(dict.fromkeys(places))),
        Check("executor", lambda: check_executor(config), mend=_DOCKER_HANGS, asks=_docker),
        Check("registry", check_registry, late="warning", mend=_OFFLINE, asks=lambda: server(_registry())),
    ]


# -------------------------------------------------------------------------------------- configuration


def check_configuration(path: str, trouble: str = "") -> Finding:
    """Whether the file can be used, and what is odd about it."""
    name = "configuration"
    if trouble:
        return Finding(name, "failed", trouble, 'correct the file, or call reflow with -config ""')
    if not path or not os.path.exists(path):
        return Finding(name, "ok", f"no file{f' {path}' if path else ''}: built-in values")
    document = parse_document(path, read_text(path))
    for found in (_secrets(path, document), _misspelt(document), _risks(document)):
        if found is not None:
            message, mend = found
            return Finding(name, "warning", f"{path}: {message}", mend)
    return Finding(name, "ok", path)


def _secrets(path: str, document: Mapping[str, Any]) -> tuple[str, str] | None:
    instances = document.get("instances")
    names = sorted(instances) if isinstance(instances, dict) else []
    if not set(names) & {"awssession", "ec2metadata", "awscreds", "tls"}:
        return None
    others = ", and others can read it" if os.stat(path).st_mode & 0o077 else ""
    return (
        f"has saved credentials or keys{others}",
        "reflow upgrade takes them out; then renew those credentials",
    )


def _misspelt(document: Mapping[str, Any]) -> tuple[str, str] | None:
    sections = {each.name for key in KEYS.values() for each in key.providers if each.has_section}
    known = [*KEYS, *RESERVED, *sections, *_OTHER_KEYS]
    for key in document:
        close = difflib.get_close_matches(key, known, 1, 0.8) if key not in known else []
        if close:
            return f"has an unknown key {key}, which is ignored", f"perhaps {close[0]} was meant"
    return None


def _risks(document: Mapping[str, Any]) -> tuple[str, str] | None:
    if document.get("cluster") == "ec2cluster" and document.get("tls") == f"tls,file={SHARED_AUTHORITY}":
        return f"tls: {SHARED_AUTHORITY} is open to all users of this machine", "reflow upgrade changes it"
    return None


# ---------------------------------------------------------------------------------------- state, disk


def check_state(directory: str) -> Finding:
    """Whether the state directory, or else the one it will be made in, can be written to."""
    where = _existing(directory)
    try:
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        return Finding(
            "state", "failed", f"{where}: {reason}", "set REFLOW_HOME to a directory that can be written"
        )
    return Finding("state", "ok", directory if where == directory else f"{directory} (not made yet)")


def _existing(path: str) -> str:
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def check_disk(directories: list[str]) -> Finding:
    """Whether there is room where things are put; the fullest disk counts."""
    usages = {_existing(path): shutil.disk_usage(_existing(path)) for path in directories}
    where, usage = min(usages.items(), key=lambda item: item[1].free)
    message = f"{format_size(usage.free)} of {format_size(usage.total)} free at {where}"
    mend = "reflow du tells what is kept, reflow collect removes what was not used"
    if usage.free < _FULL_BYTES:
        return Finding("disk", "failed", message, mend)
    if usage.free < _LOW_BYTES or usage.free < usage.total * _LOW_SHARE:
        return Finding("disk", "warning", message, mend)
    return Finding("disk", "ok", message)


# --------------------------------------------------------------------------------- executor, registry


def check_executor(config: Config) -> Finding:
    """What execs would be run by."""
    from reflow.executor.choose import choose_executor

    name = config.provider("executor") or "auto"
    try:
        chosen = asyncio.run(choose_executor(name))
    except ReflowError as err:
        mend = "start Docker, or install bubblewrap or bash" if name == "auto" else "set executor: auto"
        return Finding("executor", "failed", str(err.cause or err), mend)
    message = f"{chosen.name} ({chosen.reason})"
    if chosen.name == "process" and name == "auto":
        mend = "start Docker or install bubblewrap, if the tools of images are wanted"
        return Finding("executor", "warning", f"{message}; {chosen.warning}", mend)
    return Finding("executor", "ok", message)


def _docker() -> str:
    """Whom the choice of an executor waits for."""
    try:
        return f"the docker daemon at {socket_path()}"
    except UnsupportedHostError:
        return ""


def _registry() -> str:
    """The URL that registries are asked at first."""
    stand_in = os.environ.get("REFLOW_REGISTRY", "")
    return f"http://{stand_in}/v2/" if stand_in else f"https://{_HUB}/v2/"


def check_registry() -> Finding:
    """Whether images can be fetched."""
    import urllib.error
    import urllib.request

    url = _registry()
    where = server(url)
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            status = reply.status
    except urllib.error.HTTPError as err:
        status = err.code
    except (OSError, ValueError) as err:
        reason = str(getattr(err, "reason", err))
        return Finding("registry", "warning", f"{where} cannot be reached ({reason})", _OFFLINE)
    if status not in (200, 401):
        return Finding("registry", "warning", f"{where} answers with status {status}", _OFFLINE)
    return Finding("registry", "ok", f"{where} answers")
