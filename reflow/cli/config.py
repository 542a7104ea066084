"""``reflow config``: the configuration in use, and what can be in it."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.runtime.config import Config
from reflow.runtime.provider import KEYS, Provider

_HEAD = """Config prints the configuration in use as YAML.

It is made of built-in values, of the configuration file, and of global flags, where later ones win. Each
key names a provider with its flags: "key: provider,flag=value,flag=value". These are the keys, with the
providers each can name:
"""

_TAIL = """To change the configuration, edit a copy:

	$ reflow config > myconfig
	<edit myconfig>
	$ reflow -config myconfig ...

or put it where it is found by itself, into config.yaml in ~/.reflow (or in $REFLOW_HOME)."""


def details() -> str:
    """The help text, made from the tables of providers."""
    blocks = []
    for key in sorted(KEYS.values()):
        providers = sorted(key.providers)
        blocks.append("".join([_provider_text(key.name, provider) for provider in providers]))
    return "\n".join([_HEAD, *blocks, _TAIL])


def _provider_text(key: str, provider: Provider) -> str:
    names = [provider.name, *sorted(flag.name for flag in provider.flags)]
    lines = [f"{key}: {','.join(names)}", *[f"\t{line}" for line in wrap(provider.usage, 80)]]
    if provider.flags:
        lines.append("")
    for flag in sorted(provider.flags):
        default = f' (default "{flag.default}")' if flag.default else ""
        lines += [f"\t{line}" for line in wrap(f"{flag.name}: {flag.usage}{default}", 80)]
    return "\n".join(lines) + "\n"


def run(app: App, arguments: Arguments) -> int:
    """Print the merged configuration."""
    instances = _instances(app.config) if arguments["marshal"] else None
    app.print(config_text(app.config.values, instances))
    return 0


def _instances(config: Config) -> dict[str, Any]:
    """What providers keep: settings, and the session's region; credentials and keys are not shown."""
    from reflow.aws.session import AwsSession
    from reflow.core.errors import ReflowError
    from reflow.runtime.setup import settings_of
    from reflow.runtime.setup_call import require_credentials

    session = AwsSession()
    try:
        kept = {"credentials": f"not shown, from {require_credentials(session)}", "region": session.region}
    except ReflowError as err:
        kept = {"credentials": "none", "trouble": str(err.cause)}
    provider = config.provider("session") or "awssession"
    return {**settings_of(config.values.get("instances")), provider: kept}


def config_text(values: dict[str, Any], instances: dict[str, Any] | None = None) -> str:
    """The configuration as YAML, keys sorted, without the program's version."""
    shown = {key: value for key, value in values.items() if key not in ("reflow", "instances")}
    if instances is not None:
        shown["instances"] = instances
    shown.setdefault("key", {})
    shown.setdefault("versions", {})
    from reflow.runtime.setup_file import dump_yaml

    return dump_yaml(shown)


COMMAND = Command(
    "config",
    "config",
    details,
    run,
    flags=[("marshal", "bool", "false", "also print what providers keep, but for credentials and keys")],
)
