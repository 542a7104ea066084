"""The commands by name, and the modules they are in; a module is imported when its command is called."""

from __future__ import annotations

from importlib import import_module

from reflow.cli.command import Command

_LATER = "reflow.cli.later"
_SETUP = "reflow.cli.setup"

COMMANDS: dict[str, str] = {
    "batchinfo": "reflow.cli.batchinfo",
    "batchrun": _LATER,
    "bundle": "reflow.cli.bundle",
    "cat": "reflow.cli.cat",
    "check": "reflow.cli.check",
    "collect": "reflow.cli.collect",
    "config": "reflow.cli.config",
    "doc": "reflow.cli.doc",
    "doctor": "reflow.cli.doctor",
    "du": "reflow.cli.du",
    "ec2instances": _LATER,
    "ec2verify": _LATER,
    "genbatch": "reflow.cli.genbatch",
    "http": "reflow.cli.http",
    "iam-policy": "reflow.cli.iampolicy",
    "images": "reflow.cli.images",
    "info": "reflow.cli.info",
    "kill": "reflow.cli.kill",
    "list": "reflow.cli.list",
    "listbatch": "reflow.cli.listbatch",
    "logs": "reflow.cli.logs",
    "pred": "reflow.cli.pred",
    "ps": "reflow.cli.ps",
    "repair": "reflow.cli.repair",
    "rmcache": "reflow.cli.rmcache",
    "run": "reflow.cli.run",
    "runbatch": "reflow.cli.runbatch",
    "serve": _LATER,
    "setup-dynamodb-assoc": _SETUP,
    "setup-ec2": _SETUP,
    "setup-s3-repository": _SETUP,
    "setup-taskdb": _SETUP,
    "shell": "reflow.cli.shell",
    "sync": "reflow.cli.sync",
    "upgrade": "reflow.cli.upgrade",
    "version": "reflow.cli.version",
    "why": "reflow.cli.why",
}


def load_command(name: str) -> Command:
    """The command of that name; its module has ``COMMAND``, or ``COMMANDS`` when it has several."""
    module = import_module(COMMANDS[name])
    command = module.COMMANDS[name] if COMMANDS[name] in (_LATER, _SETUP) else module.COMMAND
    assert isinstance(command, Command)
    return command
