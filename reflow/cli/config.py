"""``reflow config``: the configuration in use, and what can be in it."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command
from reflow.runtime.config import not_supported
from reflow.runtime.provider import KEYS, Provider

_HEAD = """Config prints the configuration in use as YAML.

It is made of built-in values, of the configuration file, and of global flags, where later ones win. Each
key names a provider with its flags: "key: provider,flag=value,flag=value". These are the keys, with the
providers each can name:
"""

_STRING = "tag:yaml.org,2002:str"

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
    if arguments["marshal"]:
        raise not_supported("config -marshal (settings of AWS sessions and certificates)")
    app.print(config_text(app.config.values))
    return 0


def config_text(values: dict[str, Any]) -> str:
    """The configuration as YAML, keys sorted, without the program's version."""
    shown = {key: value for key, value in values.items() if key not in ("reflow", "instances")}
    shown.setdefault("key", {})
    shown.setdefault("versions", {})
    return dump_yaml(shown)


def dump_yaml(document: dict[str, Any]) -> str:
    """YAML in block style; texts that read as something else are in double quotes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes as the original does."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        is_plain = dumper.resolve(yaml.ScalarNode, text, (True, False)) == _STRING  # type: ignore[no-untyped-call]
        return dumper.represent_scalar(_STRING, text, style=None if is_plain else '"')

    Dumper.add_representer(str, represent)
    text: str = yaml.dump(
        document, Dumper=Dumper, default_flow_style=False, sort_keys=True, allow_unicode=True, width=4096
    )
    return text


COMMAND = Command(
    "config",
    "config",
    details,
    run,
    flags=[("marshal", "bool", "false", "also print what providers keep, credentials included")],
)
