"""Whether spot instances can be had: asked of the cloud once for many launches.

Source: ec2cluster/spotprober.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

DEFAULT_DEPTH = 5


class InstanceLimitError(Exception):
    """So many instances are more than the account may have; fewer may be possible."""


class _Known:
    """What is known of a type: launches that are still good for, and until when."""

    def __init__(self, launches: int, expires: float) -> None:
        self.launches = launches
        self.expires = expires


class SpotProber:
    """Remembers for how many launches of a type there was capacity when it was last asked.

    ``ask`` says whether so many instances of a type can be had; when not, half as many are asked for, and so
    on. A yes is good for that many launches, and either answer for ``ttl_s``. ``clock`` is in seconds.
    """

    def __init__(
        self,
        ask: Callable[[str, int], Awaitable[bool]],
        depth: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._depth = depth or DEFAULT_DEPTH
        self._ttl_s = ttl_s
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def has_capacity(self, type_name: str) -> bool:
        """Tell whether a spot instance of a type can be launched now.

        Raises what ``ask`` raised at last; from then on the answer is no, until that is old.
        """
        async with self._asking.setdefault(type_name, asyncio.Lock()):
            known = self._known.get(type_name)
            if known is None or self._clock() > known.expires:
                known = await self._probe(type_name)
            if known.launches == 0:
                return False
            known.launches -= 1
            if known.launches == 0:
                del self._known[type_name]
            return True

    async def _probe(self, type_name: str) -> _Known:
        depth = self._depth
        error: Exception | None = None
        while depth > 0:
            error = None
            try:
                if await self._ask(type_name, depth):
                    return self._learn(type_name, depth)
            except InstanceLimitError as err:
                error = err
            except Exception:
                self._learn(type_name, 0)
                raise
            depth //= 2
        known = self._learn(type_name, 0)
        if error is not None:
            raise error
        return known

    def _learn(self, type_name: str, launches: int) -> _Known:
        known = self._known[type_name] = _Known(launches, self._clock() + self._ttl_s)
        return known
