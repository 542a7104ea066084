"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

_Result = TypeVar("_Result")


async def gather_all(work: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """All results in order. Every one is tried before the first error is raised."""
    results: list[_Result] = []
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups."""
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
