"""Assertions on the way through an evaluation: from inputs to results, and against what is known.

A result asserts what its inputs assert. Within one evaluation the world is taken to have one state: two
values that contradict each other are a temporary error, and a cached value that contradicts its inputs
is a miss. Source: flow/eval.go, propagateAssertions and assertionsConsistent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reflow.core.assertion import (
    NO_ASSERTIONS,
    AssertionConflictError,
    AssertionKey,
    Assertions,
    merge_assertions,
)
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset

if TYPE_CHECKING:
    from reflow.eval import AssertionSource


def assertions_of(fileset: Fileset) -> list[Assertions]:
    """The distinct non-empty sets on a fileset's files."""
    found: dict[int, Assertions] = {}
    for file in fileset.all_files():
        if file.assertions is not NO_ASSERTIONS and file.assertions:
            found[id(file.assertions)] = file.assertions
    return list(found.values())


def add_assertions(fileset: Fileset, more: Assertions) -> Fileset:
    """The same fileset with ``more`` on every file. Raises AssertionConflictError."""

    def add(file: File) -> File:
        return file.with_assertions(merge_assertions((file.assertions, more)))

    members = fileset.members
    return Fileset(
        {path: add(file) for path, file in fileset.files.items()},
        None if members is None else [add_assertions(member, more) for member in members],
    )


class Witness:
    """All that was asserted so far in one evaluation."""

    def __init__(self, current: AssertionSource | None) -> None:
        self._current = current
        self._known: dict[AssertionKey, dict[str, str]] = {}
        self._generated: dict[AssertionKey, asyncio.Future[Assertions]] = {}

    def __bool__(self) -> bool:
        """Whether anything was asserted at all; most programs never do."""
        return bool(self._known)

    def pass_on(self, values: Sequence[Any], result: Fileset) -> Fileset:
        """The result of an exec, asserting what its inputs assert. Raises TEMPORARY on a conflict."""
        if not self._known:
            return result
        try:
            inputs = merge_assertions(_all_assertions(values))
            return add_assertions(result, inputs) if inputs else result
        except AssertionConflictError as err:
            raise ReflowError(Kind.TEMPORARY, "propagating assertions", cause=str(err)) from err

    def add(self, name: Digest, value: Fileset) -> None:
        """Note what a node's value asserts. Raises TEMPORARY when something else was asserted before."""
        for each in assertions_of(value):
            for key, properties in each.entries.items():
                known = self._known.setdefault(key, properties)
                if known is not properties and known != properties:
                    try:
                        merge_assertions([Assertions({key: known}), Assertions({key: properties})])
                    except AssertionConflictError as err:
                        raise ReflowError(Kind.TEMPORARY, "adding assertions", name, cause=str(err)) from err

    async def contradiction(self, values: Sequence[Any] | None, cached: Fileset) -> str:
        """Say why a cached value does not count; nothing when it does.

        ``values`` are those of the dependencies, as far as they are known.
        """
        sets = assertions_of(cached)
        if not sets:
            return ""
        try:
            merge_assertions([*sets, *_all_assertions(values or ())])
            if self._current is not None:
                await self._compare(merge_assertions(sets))
        except AssertionConflictError as err:
            return f"assertions consistent: {err}"
        except ReflowError as err:
            return f"refresh assertions: {err}"
        return ""

    async def _compare(self, cached: Assertions) -> None:
        """Raise AssertionConflictError unless all that is cached is still so."""
        assert self._current is not None
        for key, properties in cached.entries.items():
            now = self._known.get(key)
            if now is None:
                now = (await self._generate(self._current, key)).entries.get(key, {})
            if now != properties:
                was = ", ".join(f"{name}={value}" for name, value in sorted(properties.items()))
                at = ", ".join(f"{name}={value}" for name, value in sorted(now.items()))
                raise AssertionConflictError(f"{key} was {was}, is {at or 'gone'}")

    async def _generate(self, current: AssertionSource, key: AssertionKey) -> Assertions:
        """What is so now; asked once in an evaluation, by whoever is first. A failure is not remembered."""
        known = self._generated.get(key)
        if known is not None:
            return await asyncio.shield(known)
        answer = self._generated[key] = asyncio.get_running_loop().create_future()
        try:
            found = await current(key)
        except BaseException as err:
            del self._generated[key]
            is_operational = isinstance(err, ReflowError)
            answer.set_exception(err if is_operational else ReflowError(Kind.CANCELED, "assert", key))
            answer.exception()  # somebody has seen it, should nobody wait
            raise
        answer.set_result(found)
        return found


def _all_assertions(values: Iterable[Any]) -> list[Assertions]:
    return [each for value in values if isinstance(value, Fileset) for each in assertions_of(value)]
