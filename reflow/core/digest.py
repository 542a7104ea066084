"""SHA-256 digests: the names of everything that Reflow stores or computes.

A digest is 32 raw bytes. Its text is ``sha256:`` and 64 hexadecimal digits, its short form the
first 8 digits. In the binary streams that are hashed it is written with a two-byte header
(``00 05``, where 5 stands for SHA-256): `Digest.wire`. The absent digest is ``None``.
"""

from __future__ import annotations

import itertools
import os
from hashlib import sha256

WIRE_HEADER = b"\x00\x05"
ZERO_TEXT = "<zero>"


_TURN_BYTES = 4
_turns = itertools.count(1)


class Digest(bytes):
    """32 bytes of SHA-256. A subclass of `bytes`, so hashing and comparing cost nothing extra."""

    __slots__ = ()

    def __str__(self) -> str:
        return "sha256:" + self.hex()

    def __repr__(self) -> str:
        return f"Digest({self.hex()[:8]})"

    @property
    def short(self) -> str:
        """First 8 hexadecimal digits."""
        return self[:4].hex()

    @property
    def wire(self) -> bytes:
        """The 34 bytes that stand for this digest inside hashed material."""
        return WIRE_HEADER + self

    def mix(self, other: Digest) -> Digest:
        """Byte-wise exclusive or."""
        mixed = int.from_bytes(self, "big") ^ int.from_bytes(other, "big")
        return Digest(mixed.to_bytes(32, "big"))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Digest of some bytes."""
        return cls(sha256(data).digest())

    @classmethod
    def of_text(cls, text: str) -> Digest:
        """Digest of a text's UTF-8 bytes (bytes smuggled by surrogateescape come out as they were)."""
        return cls(sha256(text.encode("utf-8", "surrogateescape")).digest())

    @classmethod
    def random(cls) -> Digest:
        """A fresh unpredictable digest, for names that must never collide."""
        return cls(os.urandom(32))

    @classmethod
    def next(cls) -> Digest:
        """A fresh unpredictable digest whose `turn` is above those that this process has made before."""
        return cls(
            os.urandom(32 - _TURN_BYTES) + (next(_turns) % 256**_TURN_BYTES).to_bytes(_TURN_BYTES, "big")
        )

    @property
    def turn(self) -> bytes:
        """Its end, which tells in what order digests were made by `next`."""
        return self[-_TURN_BYTES:]

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read a full digest, with or without ``sha256:``.

        Raises ValueError for anything else, abbreviations included (see `DigestPrefix`).
        """
        raw = bytes.fromhex(text.removeprefix("sha256:"))
        if len(raw) != 32:
            raise ValueError(f"digest {text!r} has {len(raw)} bytes, want 32")
        return cls(raw)


class DigestPrefix:
    """The leading bytes of a digest, as people type them; any even number of hexadecimal digits."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @classmethod
    def parse(cls, text: str) -> DigestPrefix:
        """Read ``[sha256:]HEX``. Raises ValueError when it is empty, odd, too long or not hexadecimal."""
        digits = text.removeprefix("sha256:")
        if not digits or len(digits) > 64:
            raise ValueError(f"id {text!r} has {len(digits)} hexadecimal digits, want 2 to 64")
        if len(digits) % 2:
            raise ValueError(f"id {text!r} has an odd number of hexadecimal digits")
        return cls(bytes.fromhex(digits))

    def expands_to(self, digest: Digest) -> bool:
        """Tell whether ``digest`` starts with this prefix."""
        return digest.startswith(self.raw)

    @property
    def full(self) -> Digest | None:
        """The digest itself, when all 32 bytes were given."""
        return Digest(self.raw) if len(self.raw) == 32 else None

    def __str__(self) -> str:
        return self.raw.hex()


def digest_text(digest: Digest | None) -> str:
    """Return ``sha256:…``, or ``<zero>`` for an absent digest."""
    return ZERO_TEXT if digest is None else str(digest)
