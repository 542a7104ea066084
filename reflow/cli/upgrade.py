"""``reflow upgrade``: bring what earlier versions left to the form of this one."""

from __future__ import annotations

import os

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.runtime.config import Config

_DETAILS = """\
Upgrade brings what earlier versions of Reflow left to the form that this one wants: the files of the cache's
index, of the record of runs and of what is known of local files (a copy of an older file stays beside it),
and the configuration file, from which saved credentials are taken out. Tables of DynamoDB that the file names
get the indices that they lack, unless the file has this version for them already.

It says nothing when all is well, and does nothing the second time. (Files are also brought to their new
form when they are used.)"""


def run(app: App, arguments: Arguments) -> int:
    """Migrate databases and cloud stores, then rewrite the configuration if there is something to change."""
    from reflow.runtime.setup_upgrade import outdated, upgrade_cloud, upgrade_file

    config = app.config
    if outdated(config):
        from reflow.cli.setup import open_cloud

        upgrade_cloud(config, open_cloud(app))
    app.run_async(_migrate(config))
    _migrate_local_state()
    upgrade_file(config.path, app.log.debug)
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


COMMAND = Command("upgrade", "upgrade", _DETAILS, run)
