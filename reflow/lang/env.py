"""Value environments: what names are bound to while a program is evaluated.

An environment is a chain of frames. How many frames lie between a use and its binding is part of digests
(De Bruijn levels), so every frame counts, also an empty one. A module or a long block makes thousands of
frames in a row; those share one table of names, so that a look-up costs the nesting depth of the program,
not the number of declarations before it.
Source: values/env.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reflow.core.digest import Digest
from reflow.lang.digest_value import own_digest, value_digest
from reflow.lang.types import Type
from reflow.lang.value import Value


class Binding:
    """A value bound in the frame at ``depth``, and what the name meant before in the same table."""

    __slots__ = ("depth", "digest", "previous", "value")

    def __init__(self, depth: int, value: Value, previous: Binding | None) -> None:
        self.depth = depth
        self.value = value
        self.digest: Digest | None = None
        self.previous = previous


class Env:
    """The innermost frame of an environment. Frames below it never change once something was bound above.

    ``depth`` counts frames from the outermost. ``value`` of a name that is not bound is a KeyError: the
    checker found such names before.
    """

    __slots__ = ("_names", "_parent", "depth")

    def __init__(self, names: dict[str, Binding], depth: int, parent: Env | None) -> None:
        self._names = names
        self.depth = depth
        self._parent = parent

    def push(self) -> Env:
        """A new frame on top of this one."""
        return Env({}, self.depth + 1, self)

    def extend(self) -> Env:
        """A new frame that goes on with this one's table: for the frames one loop makes in a row.

        Nobody else may extend or bind in this frame afterwards.
        """
        return Env(self._names, self.depth + 1, self._parent)

    def bind(self, name: str, value: Value) -> None:
        """Bind a name in this frame. A `Digest` may stand for a value that is not there yet."""
        names = self._names
        names[name] = Binding(self.depth, value, names.get(name))

    def find(self, name: str) -> Binding | None:
        """The innermost binding of a name."""
        env: Env | None = self
        while env is not None:
            binding = env._names.get(name)
            while binding is not None:
                if binding.depth <= env.depth:
                    return binding
                binding = binding.previous
            env = env._parent
        return None

    def value(self, name: str) -> Value:
        """What a name is bound to."""
        binding = self.find(name)
        if binding is None:
            raise KeyError(name)
        return binding.value

    def contains(self, name: str) -> bool:
        """Whether a name is bound."""
        return self.find(name) is not None

    def level(self, name: str) -> int:
        """How many frames outward a name is bound; -1 when it is not."""
        binding = self.find(name)
        return -1 if binding is None else self.depth - binding.depth

    def digest(self, name: str, type: Type) -> Digest:
        """Digest of what a bound name stands for; kept with the binding, whatever the type of later uses."""
        binding = self.find(name)
        if binding is None:
            raise KeyError(name)
        return binding_digest(binding, type)


def binding_digest(binding: Binding, type: Type) -> Digest:
    """Digest of a bound value, computed once."""
    known = binding.digest
    if known is None:
        value = binding.value
        known = value if isinstance(value, Digest) else own_digest(value)
        if known is None:
            known = value_digest(value, type)
        binding.digest = known
    return known


_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def base_env(fallback: Mapping[str, Value] | None = None) -> Env:
    """The frame that every program starts in: ``file``, ``dir`` and the units of memory.

    ``fallback`` are values injected into a module: the frame outside even of this one.
    """
    outermost = _frame(fallback, 0, None) if fallback is not None else None
    return _frame(_base_values(), 1, outermost)


def _frame(values: Mapping[str, Value], depth: int, parent: Env | None) -> Env:
    env = Env({}, depth, parent)
    for name, value in values.items():
        env.bind(name, value)
    return env


_base: dict[str, Any] = {}


def _base_values() -> Mapping[str, Value]:
    if not _base:
        from reflow.lang.builtins import base

        _base.update(file=base.FILE, dir=base.DIR, **_UNITS)
    return _base
