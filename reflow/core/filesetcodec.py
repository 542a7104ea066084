"""Filesets as stored bytes: what an assoc entry's value object holds.

Two kinds: FilesetV2, which is written and read (a header, then length-prefixed protobuf messages, each
one file, path, assertion or group of assertions), and the JSON of old versions, which is only read
(`reflow.core.filesetjson`). Messages are read and written by hand: the protobuf package takes longer to
import than a whole cached run may take. Order is by path, so equal filesets have equal bytes; the
original writes in random order.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reflow.core.assertion import BLOB_NAMESPACE, NO_ASSERTIONS, AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset, path_bytes

FILESET_V1 = 0
FILESET_V2 = 1
"""Kinds of encoding, with the numbers of `reflow.assoc.Kind`."""

VERSION = b"v201"
_HEADER_BYTES = 12
_LIST_LIMIT = 1 << 20
"""No exec has so many outputs: a longer list is damage, and must not take all memory."""

_ZERO_TIME_S = -62135596800
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UINT64 = (1 << 64) - 1
_TEXT_DIGEST_BYTES = 71
_ROOT_INDEX = -1

_ETAG, _LAST_MODIFIED, _SIZE = "etag", "last-modified", "size"


def encode_fileset(fileset: Fileset, *, with_assertions: bool = True, with_references: bool = False) -> bytes:
    """Return the FilesetV2 bytes of a fileset.

    Values of the cache have assertions and no references; what an agent is asked to load has references and
    no assertions. Raises INVALID for what the format cannot hold: lists inside lists, assertions that are
    not about blobs. Source: fileset.go, (*Fileset).marshalProto.
    """
    return _Encoder(with_assertions, with_references).encode(fileset)


def decode_fileset(data: bytes, kind: int = FILESET_V2) -> Fileset:
    """Read a stored fileset. Raises INVALID or PRECONDITION, and nothing else, when it is malformed."""
    if kind == FILESET_V2:
        return _decode_v2(data)
    # Imported on use: only caches of old versions have these, and json takes milliseconds.
    from reflow.core.filesetjson import decode_stored_fileset

    return decode_stored_fileset(data)


class _Encoder:
    """Collects parts; remembers which files and assertions were written."""

    def __init__(self, with_assertions: bool, with_references: bool) -> None:
        self.with_assertions = with_assertions
        self.with_references = with_references
        self.out: list[bytes] = []
        self.files: dict[tuple[object, ...], int] = {}
        self.keys: dict[tuple[str, str, str, str], int] = {}
        self.groups: dict[Assertions, int] = {}

    def encode(self, fileset: Fileset) -> bytes:
        members = fileset.members or ()
        self.out.append(VERSION + len(members).to_bytes(8, "little"))
        self._add_mapping(fileset, _mapping_head(0, _ROOT_INDEX))
        for index, member in enumerate(members):
            if member.members:
                cause = f"invalid fileset encountered of depth > 1 ({len(member.members)})"
                raise ReflowError(Kind.INVALID, "fileset.encode", cause=cause)
            self._add_mapping(member, _mapping_head(1, index))
        return b"".join(self.out)

    def _add_part(self, tag: bytes, body: bytes) -> None:
        part = tag + varint(len(body)) + body
        self.out.append(len(part).to_bytes(8, "little") + part)

    def _add_mapping(self, fileset: Fileset, head: bytes) -> None:
        for path in fileset.sorted_paths():
            file_id = self._file_id(fileset.files[path])
            key = path_bytes(path)
            self._add_part(b"\x12", head + _text(b"\x1a", key) + b"\x20" + varint(file_id))

    def _file_id(self, file: File) -> int:
        # Files that differ in anything are written apart. The original writes those with equal digests
        # once, and so forgets what the others depend on; its reader takes either.
        group = self._group_id(file.assertions) if self.with_assertions and file.assertions else 0
        key: tuple[object, ...] = (file.digest, file.id, file.size, group)
        if self.with_references:
            key = (*key, file.source, file.etag, file.last_modified, file.content_hash)
        known = self.files.get(key)
        if known is not None:
            return known
        number = self.files[key] = len(self.files) + 1
        inner = self._file_message(file)
        body = b"\x08" + varint(number) + b"\x12" + varint(len(inner)) + inner
        self._add_part(b"\x0a", body + b"\x18" + varint(group) if group else body)
        return number

    def _file_message(self, file: File) -> bytes:
        out = b"" if file.id is None else b"\x0a\x47" + str(file.id).encode()
        if file.size:
            out += b"\x10" + varint(file.size & _UINT64)
        if not self.with_references:
            return out
        stamp = _timestamp_message(file.last_modified)
        out += _text(b"\x1a", path_bytes(file.source)) + _text(b"\x22", path_bytes(file.etag))
        out += b"\x2a" + varint(len(stamp)) + stamp
        return out if file.content_hash is None else out + b"\x32\x47" + str(file.content_hash).encode()

    def _group_id(self, assertions: Assertions) -> int:
        known = self.groups.get(assertions)
        if known is not None:
            return known
        ids = b"".join([varint(self._key_id(*entry)) for entry in assertions.entries.items()])
        number = self.groups[assertions] = len(self.groups) + 1
        self._add_part(b"\x22", b"\x08" + varint(number) + b"\x12" + varint(len(ids)) + ids)
        return number

    def _key_id(self, key: AssertionKey, properties: dict[str, str]) -> int:
        if key.namespace != BLOB_NAMESPACE:
            cause = f"assertions about {key.namespace!r} cannot be stored, only about {BLOB_NAMESPACE!r}"
            raise ReflowError(Kind.INVALID, "fileset.encode", key.subject, cause=cause)
        etag, last_modified, size = [properties.get(name, "") for name in (_ETAG, _LAST_MODIFIED, _SIZE)]
        identity = (key.subject, etag, last_modified, size)
        known = self.keys.get(identity)
        if known is not None:
            return known
        number = self.keys[identity] = len(self.keys) + 1
        inner = _text(b"\x0a", path_bytes(etag)) + _text(b"\x12", path_bytes(last_modified))
        inner += _text(b"\x1a", path_bytes(size))
        body = b"\x08" + varint(number) + _text(b"\x12", path_bytes(key.subject))
        self._add_part(b"\x1a", body + b"\x1a" + varint(len(inner)) + inner)
        return number


def varint(number: int) -> bytes:
    """Encode a number from 0 to 2**64 - 1 as protobuf does."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(tag: bytes, value: bytes) -> bytes:
    return tag + varint(len(value)) + value if value else b""


def _mapping_head(depth: int, index: int) -> bytes:
    head = b"\x08" + varint(depth) if depth else b""
    return head + b"\x10" + varint(index & _UINT64) if index else head


def _timestamp_message(time: datetime | None) -> bytes:
    if time is None:
        seconds, nanos = _ZERO_TIME_S, 0
    else:
        seconds, micros = divmod((time - _EPOCH) // _MICROSECOND, 1_000_000)
        nanos = micros * 1000
    out = b"\x08" + varint(seconds & _UINT64) if seconds else b""
    return out + b"\x10" + varint(nanos) if nanos else out


def _malformed(cause: str) -> ReflowError:
    return ReflowError(Kind.INVALID, "fileset.decode", cause=cause)


def _decode_v2(data: bytes) -> Fileset:
    if data[:4] != VERSION:
        raise _malformed(f"unexpected version header {data[:4]!r}, want {VERSION!r}")
    length = int.from_bytes(data[4:_HEADER_BYTES], "little", signed=True)
    if len(data) < _HEADER_BYTES or length > _LIST_LIMIT:
        raise _malformed(f"list of {length} filesets in {len(data)} bytes")
    decoder = _Decoder(max(length, 0))
    pos, end = _HEADER_BYTES, len(data)
    try:
        while pos < end:
            start = pos + 8
            pos = start + int.from_bytes(data[pos:start], "little")
            if pos > end:
                raise _malformed(f"part at byte {start} goes beyond the end at {end}")
            decoder.add_part(data[start:pos])
    except (KeyError, IndexError, ValueError, OverflowError) as err:
        raise _malformed(f"damaged part before byte {pos}: {type(err).__name__} {err}") from err
    return decoder.fileset()


class _Decoder:
    """Tables of what was read so far, by id."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.root: dict[str, File] = {}
        self.members: dict[int, dict[str, File]] = {}
        self.files: dict[int, File] = {}
        self.keys: dict[int, tuple[AssertionKey, dict[str, str]]] = {}
        self.groups: dict[int, Assertions] = {}

    def add_part(self, part: bytes) -> None:
        _, fields = message_fields(part)
        # A part holds exactly one message, and its field number says which.
        ((number, body),) = fields.items()
        if number == 1:
            self._add_file(body)
        elif number == 2:
            self._add_mapping(body)
        elif number == 3:
            self._add_key(body)
        elif number == 4:
            self._add_group(body)
        else:
            raise ValueError(f"unknown part {number}")

    def _add_file(self, body: bytes) -> None:
        numbers, texts = message_fields(body)
        group = numbers.get(3, 0)
        assertions = self.groups[group] if group else NO_ASSERTIONS
        self.files[numbers.get(1, 0)] = _file(texts.get(2, b""), assertions)

    def _add_mapping(self, body: bytes) -> None:
        numbers, texts = message_fields(body)
        file = self.files[numbers.get(4, 0)]
        path = texts.get(3, b"").decode("utf-8", "surrogateescape")
        depth = numbers.get(1, 0)
        if not depth:
            self.root[path] = file
            return
        index = numbers.get(2, 0)
        if depth != 1 or index >= _LIST_LIMIT:
            raise ValueError(f"fileset at depth {depth}, index {index}")
        if index >= self.length:
            self.length = index + 1
        self.members.setdefault(index, {})[path] = file

    def _add_key(self, body: bytes) -> None:
        numbers, texts = message_fields(body)
        _, values = message_fields(texts[3])
        named = zip((_ETAG, _LAST_MODIFIED, _SIZE), (1, 2, 3), strict=True)
        properties = {name: _str(values[number]) for name, number in named if values.get(number)}
        key = AssertionKey(BLOB_NAMESPACE, _str(texts.get(2, b"")))
        self.keys[numbers.get(1, 0)] = (key, properties)

    def _add_group(self, body: bytes) -> None:
        numbers, _ = message_fields(body)
        entries = dict([self.keys[id] for id in _key_ids(body)])
        self.groups[numbers.get(1, 0)] = Assertions(entries)

    def fileset(self) -> Fileset:
        if not self.length:
            return Fileset(self.root)
        members = self.members
        return Fileset(self.root, [Fileset(members.get(index)) for index in range(self.length)])


def _file(body: bytes, assertions: Assertions) -> File:
    numbers, texts = message_fields(body)
    size = _int64(numbers.get(2, 0))
    id = _digest(texts.get(1))
    if len(texts) == (1 in texts):
        return File(id, size, assertions=assertions)
    stamp = texts.get(5)
    return File(
        id,
        size,
        source=_str(texts.get(3, b"")),
        etag=_str(texts.get(4, b"")),
        last_modified=None if stamp is None else _time(stamp),
        content_hash=_digest(texts.get(6)),
        assertions=assertions,
    )


def _str(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _digest(text: bytes | None) -> Digest | None:
    if not text or text == b"<zero>":
        return None
    return Digest.parse(text.decode("ascii"))


def _time(body: bytes) -> datetime | None:
    numbers, _ = message_fields(body)
    seconds = _int64(numbers.get(1, 0))
    if seconds == _ZERO_TIME_S:
        return None
    return _EPOCH + timedelta(seconds=seconds, microseconds=_int64(numbers.get(2, 0)) // 1000)


def _key_ids(body: bytes) -> list[int]:
    """The repeated field 2 of a group, packed or not."""
    ids: list[int] = []
    pos, end = 0, len(body)
    while pos < end:
        tag, pos = read_varint(body, pos)
        number, pos = read_varint(body, pos)
        if tag == 0x10:
            ids.append(number)
        elif tag == 0x12:
            stop = pos + number
            while pos < stop:
                number, pos = read_varint(body, pos)
                ids.append(number)
    return ids


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read a varint at ``pos``; return it and the position behind. Raises IndexError or ValueError."""
    number = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if number >> 64:
        raise ValueError(f"number {number} is longer than 64 bits")
    return number, pos


def message_fields(data: bytes) -> tuple[dict[int, int], dict[int, bytes]]:
    """Split a protobuf message: field number -> varint, field number -> bytes; the last of each counts.

    Fixed-width fields are left out. Raises IndexError or ValueError when the message is damaged.
    """
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    pos, end = 0, len(data)
    while pos < end:
        tag = data[pos]
        value = data[pos + 1]
        pos += 2
        if tag > 0x7F or value > 0x7F:
            tag, pos = read_varint(data, pos - 2)
            value, pos = read_varint(data, pos)
        wire = tag & 7
        if wire == 2:
            stop = pos + value
            if stop > end:
                raise ValueError(f"field {tag >> 3} goes beyond the end of its message")
            texts[tag >> 3] = data[pos:stop]
            pos = stop
        elif wire == 0:
            numbers[tag >> 3] = value
        else:
            raise ValueError(f"field {tag >> 3} has wire type {wire}")
    return numbers, texts
