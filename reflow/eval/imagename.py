"""Names of images with their digests, asked for once each, and only when they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from reflow.core.errors import ReflowError
from reflow.eval import ImageResolver
from reflow.flow.node import Exec, Flow, strip_qualifiers


class ImageNames:
    """Resolved names by image as written. Without a resolver nothing is known, and nothing is asked.

    ``seen`` are the images that may be resolved, those that the program met before it was evaluated; None
    allows all. Source: runtime/eval.go, (*Eval).Run.
    """

    def __init__(
        self,
        resolve: ImageResolver | None,
        log: Callable[[str, str], None],
        seen: Collection[str] | None = None,
    ) -> None:
        self.can_resolve = resolve is not None
        self._resolve = resolve
        self._seen = seen
        self._log = log
        self._names: dict[str, str | None] = {}

    def known(self, node: Flow) -> str | None:
        """The name that was told for an exec's image; None when there is none, or for other nodes."""
        return self._names.get(node.image) if isinstance(node, Exec) else None

    async def learn(self, nodes: Iterable[Flow]) -> None:
        """Ask for the images of execs that were not asked for yet."""
        images = {node.image for node in nodes if isinstance(node, Exec)}
        unknown = [image for image in images if image not in self._names and self._may_resolve(image)]
        if not unknown or not self.can_resolve:
            return
        for image, name in zip(unknown, await asyncio.gather(*map(self._ask, unknown)), strict=True):
            self._names[image] = name

    def _may_resolve(self, image: str) -> bool:
        return self._seen is None or image in self._seen

    async def _ask(self, image: str) -> str | None:
        assert self._resolve is not None
        try:
            return await self._resolve(strip_qualifiers(image)[0])
        except ReflowError as err:
            # Images that only this machine has are in no registry.
            self._log("info", f"image {image} is used as written: {err}")
            return None
