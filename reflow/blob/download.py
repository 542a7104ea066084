"""Objects as new files: whole and as they should be, or not there."""

from __future__ import annotations

from reflow.aws.retry import retrying
from reflow.blob import Observe
from reflow.blob.datapath import DataPath, Received, Target
from reflow.blob.etag import again_if_damaged
from reflow.blob.gather import gather
from reflow.blob.incoming import Incoming
from reflow.blob.s3part import READ_PART, Part, parts
from reflow.blob.shares import Share, Shares
from reflow.core.digest import Digest
from reflow.disk.blocking import Blocking, to_the_end


class Download:
    """One object, to be at ``path``. With ``known``, its metadata, it comes in parallel parts."""

    def __init__(
        self, data: DataPath, target: Target, known: Received | None, path: str, observe: Observe | None
    ) -> None:
        self._data = data
        self._target = target
        self._known = known
        self._file = Incoming(path, target.url)
        self._observe = observe

    async def run(self, blocking: Blocking, shares: Shares) -> Digest:
        """Make the file; its SHA-256. Parts that come at the same time have a share of the connections."""
        is_good = False
        try:
            digest = await again_if_damaged(lambda: self._once(blocking, shares))
            is_good = True
            return digest
        finally:
            self._file.close(is_good=is_good)

    async def _once(self, blocking: Blocking, shares: Shares) -> Digest:
        known = self._known
        if known is None or not known.size:
            received = await retrying(lambda: self._data.read_into(self._target, self._file.whole))
            self._tell(received.size)
            return self._file.digest(received.size)
        await to_the_end(blocking(self._file.begin, known))
        with shares.share() as share:
            await gather(lambda part: self._fetch(part, share), parts(known.size, READ_PART))
        return self._file.digest(known.size)

    async def _fetch(self, part: Part, share: Share) -> None:
        begin = self._file.part()
        async with share:
            await retrying(lambda: self._data.read_into(self._target, begin, part))
        self._tell(part.size)

    def _tell(self, size: int) -> None:
        if self._observe is not None:
            self._observe(size)
