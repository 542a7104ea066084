"""Sets of digests that may have members too many, as the original sends them.

Source: data-formats.md, section 19 (bloom filters of github.com/willf/bloom).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from reflow.core.digest import Digest

_WORD = 64
_MASK = (1 << _WORD) - 1


class BloomFilter:
    """A set in ``bits`` bits by ``hashes`` hashes: what was added is always in it."""

    def __init__(self, bits: int, hashes: int, digests: Iterable[Digest] = ()) -> None:
        self._bits = bits
        self._hashes = hashes
        self._set = 0
        for digest in digests:
            for place in self._places(digest):
                self._set |= 1 << place

    def __contains__(self, digest: Digest) -> bool:
        return all(self._set >> place & 1 for place in self._places(digest))

    def to_json(self) -> dict[str, object]:
        """Numbers of bits and hashes, and the bits in words of 8 bytes, big-endian, behind their number."""
        words = [self._set >> start & _MASK for start in range(0, self._bits, _WORD)]
        data = b"".join(word.to_bytes(8, "big") for word in (self._bits, *words))
        return {"m": self._bits, "k": self._hashes, "b": base64.urlsafe_b64encode(data).decode()}

    def _places(self, digest: Digest) -> list[int]:
        import mmh3  # only agents' repositories are collected so

        data = digest.wire
        h = (*mmh3.hash64(data, signed=False), *mmh3.hash64(data + b"\x01", signed=False))
        return [
            (h[i % 2] + i * h[2 + ((i + i % 2) % 4) // 2] & _MASK) % self._bits for i in range(self._hashes)
        ]
