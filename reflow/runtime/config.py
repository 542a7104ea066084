"""The configuration: built-in values, the file, and flags, in ascending order of precedence.

The file is YAML, a mapping of key -> ``provider[,flag=value]…``; other keys hold settings of providers or are
kept as they are. A file is read only if it exists, since reading YAML costs start-up time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from reflow.core.errors import Kind, ReflowError
from reflow.runtime.home import default_config_path, home
from reflow.runtime.provider import KEYS, RESERVED, Provider

_MEMORY_LIMITS = ("soft", "hard")
_LIMIT = 4 << 20
"""Characters of a file, at most: devices have no end."""


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why."""


class Choice(NamedTuple):
    """What a key is set to: a provider and its flags, defaults included."""

    provider: str
    flags: Mapping[str, str]


class Config:
    """The merged configuration. ``values`` has every key; those that name providers are text."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self.values = dict(values)
        self.path = path

    def choice(self, key: str) -> Choice | None:
        """What is chosen for a key, or None when it is set to nothing. Raises ConfigError."""
        text = self.values.get(key)
        if text is None or text == "":
            return None
        return parse_choice(key, text)

    def check(self) -> None:
        """Raise ConfigError for the first key (in alphabetical order) that cannot be right."""
        for key in sorted(KEYS):
            self.choice(key)
        docker = self.choice("docker")
        limit = docker.flags["memlimit"] if docker is not None else "soft"
        if limit not in _MEMORY_LIMITS:
            raise ConfigError(f"invalid memlimit: {limit}: memlimit is soft or hard only")

    def provider(self, key: str) -> str:
        """The name of the provider of a key, or nothing."""
        choice = self.choice(key)
        return "" if choice is None else choice.provider

    @property
    def cache(self) -> str:
        """off, read, write or readwrite."""
        return self.provider("cache") or "off"

    @property
    def has_hard_memory(self) -> bool:
        """Whether execs are killed for using more memory than they asked for."""
        choice = self.choice("docker")
        return choice is not None and choice.flags["memlimit"] == "hard"

    @property
    def user(self) -> str:
        """Who runs this: as configured, or the login name."""
        choice = self.choice("user")
        return (choice.flags["user"] if choice is not None else "") or login_name()

    @property
    def labels(self) -> frozenset[str]:
        """Labels of what is stored, as ``key=value``. Raises ConfigError."""
        choice = self.choice("labels")
        words = choice.flags["labels"].split(";") if choice is not None else []
        labels = [word for word in words if word]
        for word in labels:
            if "=" not in word:
                raise ConfigError(f"malformed label: {word}: want key=value;key=value")
        return frozenset([*labels, f"user={self.user}"])

    def place(self, key: str, flag: str, name: str) -> str:
        """A path that a flag gives, or ``name`` in REFLOW_HOME; absolute."""
        choice = self.choice(key)
        named = choice.flags.get(flag, "") if choice is not None else ""
        return os.path.abspath(os.path.expanduser(named)) if named else os.path.join(home(), name)

    @property
    def repository_dir(self) -> str:
        """Where local objects are."""
        return self.place("repository", "dir", "repository")

    @property
    def assoc_file(self) -> str:
        """Where the local cache index is."""
        return self.place("assoc", "file", "assoc.db")

    @property
    def taskdb_file(self) -> str:
        """Where the local record of runs is."""
        return self.place("taskdb", "file", "taskdb.db")

    @property
    def local_dir(self) -> str:
        """Where execs of this machine run."""
        return self.place("cluster", "dir", "local")


def login_name() -> str:
    """The name of the user of this process, or ``unknown``."""
    for variable in ("USER", "LOGNAME"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return "unknown"


def parse_choice(key: str, text: str) -> Choice:
    """Read ``provider[,flag=value]…`` for a key. Raises ConfigError."""
    name, *words = text.split(",")
    provider = _provider(key, name)
    flags = {flag.name: flag.default for flag in provider.flags}
    for word in words:
        flag_name, has_value, value = word.partition("=")
        if flag_name not in flags:
            dash = flag_name if flag_name.startswith("-") else f"-{flag_name}"
            hint = f" (it has: {', '.join(sorted(flags))})" if flags else " (it has none)"
            raise ConfigError(f"{key}: provider {name} flag {flag_name}: no such flag {dash}{hint}")
        flags[flag_name] = value if has_value else ""
    return Choice(name, flags)


def _provider(key: str, name: str) -> Provider:
    for provider in KEYS[key].providers:
        if provider.name == name:
            return provider
    others = [other.name for other in KEYS.values() for each in other.providers if each.name == name]
    known = ", ".join(provider.name for provider in KEYS[key].providers)
    if others:
        raise ConfigError(f"{key}: provider {name} is for {others[0]}; {key} can be: {known}")
    raise ConfigError(f"{key}: no provider named {name}; {key} can be: {known}")


def load_config(path: str | None = None, overrides: Mapping[str, str] | None = None) -> Config:
    """Merge built-in values, the file at ``path`` and overriding flags, and check the result.

    None is the default path; an empty path reads no file. A missing file is an error unless it is the default
    one; an override that is empty counts as not given. Raises ConfigError.
    """
    default = default_config_path()
    path = default if path is None else path
    values: dict[str, Any] = {key.name: key.default for key in KEYS.values() if key.default}
    values.update(_read(path, is_required=path != default) if path else {})
    values.update({key: text for key, text in (overrides or {}).items() if text})
    config = Config(values, path)
    config.check()
    return config


def _read(path: str, *, is_required: bool) -> dict[str, Any]:
    """The keys of a configuration file. Raises ConfigError."""
    try:
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        if is_required:
            raise ConfigError(f"config {path}: no such file or directory") from None
        return {}
    except OSError as err:
        raise ConfigError(f"config {path}: {err.strerror}") from err
    document = parse_document(path, text)
    return {key: _text_value(path, key, value) for key, value in document.items()}


def read_text(path: str) -> str:
    """What is in a configuration file, byte by byte. Raises ConfigError for what is no text, and OSError."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            text = stream.read(_LIMIT + 1)
    except UnicodeDecodeError as err:
        raise ConfigError(f"config {path}: is not UTF-8 text") from err
    if len(text) > _LIMIT:
        raise ConfigError(f"config {path}: has more than {_LIMIT >> 20} MiB, so it is no configuration file")
    return text


def parse_document(path: str, text: str) -> dict[str, Any]:
    """The keys of a configuration file with this text, as they stand there. Raises ConfigError."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ConfigError(f"config {path}: {where}{err.problem or err.context}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"config {path}: {err}") from err
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"config {path}: got {_kind(document)}, want a mapping of key: provider")
    for key in document:
        if not isinstance(key, str):
            raise ConfigError(f"config {path}: key {key!r} is {_kind(key)}, want a string")
    return document


def mapping(path: str, document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What is below a key of the file; nothing when it is not there or empty. Raises ConfigError."""
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"config {path}: {key}: got {_kind(value)} ({value}), want a mapping")
    return value


def _text_value(path: str, key: str, value: Any) -> Any:
    if key not in KEYS or key in RESERVED:
        return value
    if key == "cache" and value is False:
        return "off"  # YAML 1.1 reads a bare off as a boolean
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(
            f"config {path}: {key}: got {_kind(value)} ({value}), want a string: PROVIDER[,FLAG=VALUE]"
        )
    return value


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def not_supported(what: str) -> ReflowError:
    """The error for something that a later version will have."""
    return ReflowError(Kind.OTHER, cause=f"not supported yet: {what}")
