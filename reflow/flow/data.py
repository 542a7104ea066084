"""Contents of `Data` nodes that live in a file of this machine.

A local input is read once: one pass gives the file's digest and that of its `Data` flow, which hashes
an operation name before the bytes. Above 200 MiB (where the original refuses) the flow's digest hashes
the file's digest text instead of its bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.signature import Signature

__all__ = ["DATA_OP", "INLINE_LIMIT_BYTES", "LocalFile", "Signature"]

DATA_OP = b"maxOp"
INLINE_LIMIT_BYTES = 200 * 2**20
_CHUNK_BYTES = 1 << 20


class LocalFile:
    """A user's file that is an input. Its digests are computed at most once, or supplied.

    ``path`` is as the program wrote it (relative to the working directory). ``signature`` is that of
    the contents that were hashed: whoever uses the file later compares.
    """

    __slots__ = ("_data_digest", "_file_digest", "path", "signature", "size")

    def __init__(self, path: str, status: os.stat_result) -> None:
        self.path = path
        self.size = status.st_size
        self.signature = Signature.of(status)
        self._file_digest: Digest | None = None
        self._data_digest: Digest | None = None

    @property
    def is_hashed(self) -> bool:
        """Whether the digests are known."""
        return self._file_digest is not None

    def supply(self, file_digest: Digest, data_digest: Digest, signature: Signature) -> None:
        """Set digests that were computed before, for contents with this signature."""
        self._file_digest = file_digest
        self._data_digest = data_digest
        self.signature = signature
        self.size = signature.size

    def hash(self, observe: Callable[[int], None] | None = None) -> None:
        """Read the file and compute both digests. Blocking; raises ReflowError naming the path.

        ``observe`` is told the bytes of each piece that was read; what it raises ends the reading.
        """
        try:
            self._read(observe)
        except OSError as err:
            kind = Kind.NOT_EXIST if isinstance(err, FileNotFoundError) else Kind.NOT_ALLOWED
            if not isinstance(err, FileNotFoundError | PermissionError):
                kind = Kind.INVALID
            raise ReflowError(kind, "file", self.path, cause=err.strerror or str(err)) from err

    def _read(self, observe: Callable[[int], None] | None) -> None:
        with open(self.path, "rb", buffering=0) as stream:
            before = Signature.of(os.fstat(stream.fileno()))
            plain = sha256()
            inline = sha256(DATA_OP) if before.size <= INLINE_LIMIT_BYTES else None
            buffer = memoryview(bytearray(min(_CHUNK_BYTES, before.size + 1)))
            while count := stream.readinto(buffer):
                chunk = buffer[:count]
                plain.update(chunk)
                if inline is not None:
                    inline.update(chunk)
                if observe is not None:
                    observe(count)
            after = Signature.of(os.fstat(stream.fileno()))
        if before != after:
            raise ReflowError(Kind.TEMPORARY, "file", self.path, cause="changed while it was read")
        file_digest = Digest(plain.digest())
        if inline is None:
            data_digest = Digest.of(DATA_OP + str(file_digest).encode())
        else:
            data_digest = Digest(inline.digest())
        self.supply(file_digest, data_digest, after)

    @property
    def digest(self) -> Digest:
        """Digest of the file's bytes; reads the file if nobody has yet."""
        if self._file_digest is None:
            self.hash()
        assert self._file_digest is not None
        return self._file_digest

    @property
    def data_digest(self) -> Digest:
        """Logical digest of the `Data` node over this file."""
        if self._data_digest is None:
            self.hash()
        assert self._data_digest is not None
        return self._data_digest
