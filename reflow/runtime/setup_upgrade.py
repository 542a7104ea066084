"""Bringing cloud stores and the configuration file to what this version wants."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from reflow.runtime.config import Config, mapping
from reflow.runtime.setup import VERSIONS, Verb, assoc, cleaned, repository, set_up_ec2, taskdb
from reflow.runtime.setup_call import Cloud, require_credentials
from reflow.runtime.setup_file import change_file

_OWN_KEYS = ("logger", "reflow")
"""Keys that the command always sets itself."""

_MAKERS: dict[str, Callable[..., Verb]] = {"s3": repository, "dynamodbassoc": assoc, "dynamodbtask": taskdb}


def outdated(config: Config) -> list[str]:
    """The keys whose providers have no version in the file, or an older one."""
    versions = config.values.get("versions") or {}
    found = []
    for key in ("repository", "assoc", "taskdb", "cluster"):
        provider = config.provider(key)
        if provider in VERSIONS and not _is_current(versions, provider):
            found.append(key)
    return found


def _is_current(versions: Any, provider: str) -> bool:
    recorded = versions.get(provider) if isinstance(versions, dict) else None
    return isinstance(recorded, int) and recorded >= VERSIONS[provider]


def upgrade_cloud(config: Config, cloud: Cloud) -> None:
    """Bring what these keys name to what this version wants; versions are recorded. Raises ReflowError."""
    require_credentials(cloud.session)
    for key in outdated(config):
        choice = config.choice(key)
        assert choice is not None
        if choice.provider == "ec2cluster":
            set_up_ec2(config.path, cloud)
        else:
            _MAKERS[choice.provider](**choice.flags).make(cloud)
        _record(config.path, choice.provider)


def _record(path: str, provider: str) -> None:
    if path and os.path.exists(path):
        change_file(
            path,
            lambda document: {
                "versions": {**mapping(path, document, "versions"), provider: VERSIONS[provider]}
            },
        )


def upgrade_file(path: str, say: Callable[[str], None]) -> None:
    """Take out of the file what should not be in it. Raises ConfigError, OSError."""
    if not path or not os.path.exists(path):
        return

    def decide(document: dict[str, Any]) -> dict[str, Any]:
        return {
            **dict.fromkeys([key for key in _OWN_KEYS if key in document]),
            **cleaned(path, document, say),
        }

    change_file(path, decide)
