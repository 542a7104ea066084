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
from reflow.lang.digest_value import is_structural, own_digest, value_digest
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

    def level_and_digest(self, name: str, type: Type) -> tuple[int, Digest]:
        """How many frames outward a name is bound, and the digest of what it is bound to.

        The digest is kept with the binding, whatever the type of later uses.
        """
        env: Env | None = self
        while env is not None:
            binding = env._names.get(name)
            while binding is not None:
                if binding.depth <= env.depth:
                    digest = binding.digest or _binding_digest(binding, env._names, type)
                    return self.depth - binding.depth, digest
                binding = binding.previous
            env = env._parent
        raise KeyError(name)


_DEEP = 24
"""From how many digests inside one another on the bindings of a table are taken in order."""

_nesting = 0


def _binding_digest(binding: Binding, names: Mapping[str, Binding], type: Type) -> Digest:
    """Digest of a bound value; a function's or a delayed value's leads to those of what it is made of."""
    global _nesting
    value = binding.value
    if isinstance(value, Digest):
        binding.digest = value
        return value
    _nesting += 1
    try:
        if _nesting > _DEEP and not is_structural(value):
            _digest_in_order(names, binding.depth)
        binding.digest = own_digest(value) or value_digest(value, type)
    finally:
        _nesting -= 1
    return binding.digest


def _digest_in_order(names: Mapping[str, Binding], depth: int) -> None:
    """Take the digests of all functions and delayed values bound below a depth, the outermost first.

    A value hangs on those before it only. So a module in which each of thousands of declarations uses the
    one before needs no deep recursion.
    """
    waiting = []
    for newest in names.values():
        binding: Binding | None = newest
        while binding is not None:
            if binding.depth < depth and binding.digest is None and not is_structural(binding.value):
                waiting.append(binding)
            binding = binding.previous
    waiting.sort(key=lambda binding: binding.depth)
    for binding in waiting:
        binding.digest = binding.value if isinstance(binding.value, Digest) else own_digest(binding.value)


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
