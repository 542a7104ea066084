"""``reflow upgrade``: bring what earlier versions left to the form of this one."""

from __future__ import annotations

import os
from typing import Any

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.runtime.config import Config, not_supported

_DETAILS = """\
Upgrade brings what earlier versions of Reflow left to the form that this one wants: the files of the cache's
index, of the record of runs and of what is known of local files (a copy of an older file stays beside it),
and the configuration file, from which saved credentials are taken out.

It says nothing when all is well, and does nothing the second time. (Files are also brought to their new
form when they are used.)"""

_CLOUD_KEYS = ("assoc", "cluster", "repository", "taskdb")
_LOCAL = frozenset(
    {"", "file", "inmemorytaskdb", "localcluster", "noprepo", "noptaskdb", "sqlite"},
)
_OWN_KEYS = ("logger", "reflow")
"""Keys that the command always sets itself."""


def run(app: App, arguments: Arguments) -> int:
    """Migrate databases, then rewrite the configuration if there is something to change."""
    config = app.config
    for key in _CLOUD_KEYS:
        provider = config.provider(key)
        if provider not in _LOCAL and provider not in (config.values.get("versions") or {}):
            raise not_supported(f"upgrade of {key}: {provider}")
    app.run_async(_migrate(config))
    _migrate_local_state()
    if config.path and os.path.exists(config.path):
        _rewrite(config.path)
    return 0


async def _migrate(config: Config) -> int:
    """Open index and record, if there are any: that migrates them."""
    from reflow.runtime.wiring import has_assoc, has_taskdb, open_assoc, open_taskdb

    assoc = open_assoc(config) if config.provider("assoc") == "sqlite" and has_assoc(config) else None
    taskdb = open_taskdb(config) if config.provider("taskdb") == "sqlite" and has_taskdb(config) else None
    for each in (assoc, taskdb):
        if each is not None:
            await each.open()
            await each.close()
    return 0


def _migrate_local_state() -> None:
    from reflow.repository.localstate import local_state
    from reflow.runtime.home import home
    from reflow.runtime.stores import LOCAL_STATE

    path = os.path.join(home(), LOCAL_STATE)
    if os.path.exists(path):
        state = local_state(path)
        state.call(lambda connection: connection.execute("SELECT 1").fetchall())
        state.close()


def _rewrite(path: str) -> None:
    """Take saved instances out of a configuration file; the settings among them get keys of their own."""
    import yaml

    from reflow.cli.config import dump_yaml

    with open(path, encoding="utf-8") as stream:
        document: dict[str, Any] = yaml.safe_load(stream) or {}
    changed = {key: value for key, value in document.items() if key not in (*_OWN_KEYS, "instances")}
    changed = {**_settings(document.get("instances")), **changed}
    if changed == document:
        return
    scratch = f"{path}.{os.getpid()}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(dump_yaml(changed))
    os.replace(scratch, path)


def _settings(instances: object) -> dict[str, Any]:
    """Those of the saved instances that are settings, and neither credentials nor keys."""
    from reflow.runtime.provider import KEYS

    if not isinstance(instances, dict):
        return {}
    with_section = {each.name for key in KEYS.values() for each in key.providers if each.has_section}
    return {name: value for name, value in instances.items() if name in with_section and value}


COMMAND = Command("upgrade", "upgrade", _DETAILS, run)
