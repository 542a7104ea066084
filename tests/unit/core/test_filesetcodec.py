import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset, message_fields, varint

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "filesets.json").read_text())
TEST = File(Digest.of(b"test"), 4)
BLOB = Assertions({AssertionKey("blob", "s3://b/k"): {"etag": '"e"'}})
WORKED = {
    "file": Fileset({".": TEST}),
    "list": Fileset(None, [Fileset({".": TEST})]),
    "empty": Fileset(),
    "assertion": Fileset({".": TEST.with_assertions(BLOB)}),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_filesets_have_the_bytes_of_the_original(name: str) -> None:
    golden = GOLDEN["v2"][name]
    data = encode_fileset(WORKED[name])
    assert (data.hex(), str(Digest.of(data))) == (golden["bytes"], golden["digest"])
    assert shape(decode_fileset(data)) == shape(WORKED[name])


texts = st.text(st.characters(codec="utf-8"), max_size=8)
# Bytes of a path that are no UTF-8, as they come from the system.
paths = st.binary(min_size=1, max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
digests = st.binary(min_size=32, max_size=32).map(Digest)
sizes = st.integers(0, 2**63 - 1)
times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))
properties = st.dictionaries(st.sampled_from(["etag", "last-modified", "size"]), texts.filter(bool))
assertions = st.dictionaries(st.builds(AssertionKey, st.just("blob"), texts), properties, max_size=3).map(
    Assertions
)
resolved = st.builds(File, digests, sizes, assertions=assertions)
references = st.builds(
    File, st.none() | digests, sizes, texts, texts, st.none() | times, st.none() | digests, assertions
)


def filesets(files: st.SearchStrategy[File]) -> st.SearchStrategy[Fileset]:
    maps = st.dictionaries(paths, files, max_size=4)
    members = st.lists(maps.map(Fileset), max_size=3)
    return st.builds(Fileset, maps, st.none() | members)


def shape(fileset: Fileset) -> object:
    """Everything of a fileset, where equality of files looks at little of it."""
    files = {path: facts(file) for path, file in fileset.files.items()}
    return files, [shape(member) for member in fileset.members or ()]


def facts(file: File) -> object:
    return (
        file.id,
        file.size,
        file.source,
        file.etag,
        file.last_modified,
        file.content_hash,
        file.assertions,
    )


@given(filesets(resolved))
def test_values_of_the_cache_round_trip(fileset: Fileset) -> None:
    assert shape(decode_fileset(encode_fileset(fileset))) == shape(fileset)


@given(filesets(references))
def test_references_round_trip(fileset: Fileset) -> None:
    data = encode_fileset(fileset, with_assertions=False, with_references=True)
    assert shape(decode_fileset(data)) == shape(fileset.with_assertions(Assertions()))


@given(filesets(resolved))
def test_equal_filesets_have_equal_bytes(fileset: Fileset) -> None:
    turned = Fileset(dict(reversed(fileset.files.items())), fileset.members)
    assert encode_fileset(turned) == encode_fileset(fileset)


def test_equal_contents_keep_their_own_assertions() -> None:
    fileset = Fileset({"a": TEST.with_assertions(BLOB), "b": TEST})
    files = decode_fileset(encode_fileset(fileset)).files
    assert (files["a"].assertions, files["b"].assertions) == (BLOB, Assertions())


def test_lists_in_lists_cannot_be_stored() -> None:
    deep = Fileset(None, [Fileset(None, [Fileset({".": TEST})])])
    with pytest.raises(ReflowError, match=r"depth > 1 \(1\)") as caught:
        encode_fileset(deep)
    assert caught.value.kind is Kind.INVALID


def test_assertions_about_other_things_cannot_be_stored() -> None:
    other = Assertions({AssertionKey("docker", "ubuntu"): {"version": "2"}})
    with pytest.raises(ReflowError, match="about 'docker' cannot be stored"):
        encode_fileset(Fileset({".": TEST.with_assertions(other)}))


def part(body: bytes) -> bytes:
    return len(body).to_bytes(8, "little") + body


HEAD = b"v201" + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"v201",
        b"v200" + bytes(8),
        b"v201" + (1 << 60).to_bytes(8, "little"),
        HEAD + b"\x05",
        HEAD + part(b""),
        HEAD + part(b"\x12\x04\x20\x07\x1a\x00"),
        HEAD + part(b"\x12\x7f\x20\x07"),
        HEAD + part(b"\x0a\x80"),
        HEAD + part(b"\x2a\x00"),
        HEAD + part(b"\x0a\x08\x08\x01\x12\x04\x0a\x02xy"),
        HEAD + part(b"\x0a\x02\x18\x03"),
        HEAD + part(b"\x0d\x00\x00\x00\x00"),
    ],
)
def test_damaged_bytes_are_invalid(data: bytes) -> None:
    with pytest.raises(ReflowError) as caught:
        decode_fileset(data)
    assert caught.value.kind is Kind.INVALID


def error_kind(data: bytes) -> Kind | None:
    try:
        decode_fileset(data)
    except ReflowError as err:
        return err.kind
    return None


EXPECTED = (None, Kind.INVALID, Kind.PRECONDITION)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    for data in (noise, HEAD + noise, HEAD + part(noise)):
        assert error_kind(data) in EXPECTED


@given(filesets(resolved), st.data())
def test_a_changed_byte_raises_nothing_else(fileset: Fileset, data: st.DataObject) -> None:
    stored = bytearray(encode_fileset(fileset))
    stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    assert error_kind(bytes(stored)) in EXPECTED


# The protobuf package as oracle, with the messages of fileset.proto.

FIELDS = {
    "Timestamp": ["Seconds:int64", "Nanos:int64"],
    "FileP": ["id", "size:int64", "source", "etag", "lastModified:Timestamp", "contentHash"],
    "FilePart": ["id:int32", "file:FileP", "assertionsGroupId:int32"],
    "FileMappingPart": ["depth:int32", "index:int32", "key", "fileId:int32"],
    "BlobProperties": ["etag", "lastModified", "size"],
    "AssertionsKeyPart": ["id:int32", "subject", "bp:BlobProperties"],
    "AssertionsGroupPart": ["id:int32", "keyIds:int32s"],
    "FilesetPart": ["fp:FilePart", "fmp:FileMappingPart", "akp:AssertionsKeyPart", "agp:AssertionsGroupPart"],
}


def build_messages() -> dict[str, Any]:
    proto = descriptor_pb2.FieldDescriptorProto
    kinds = {"": proto.TYPE_STRING, "int64": proto.TYPE_INT64, "int32": proto.TYPE_INT32}
    file = descriptor_pb2.FileDescriptorProto(name="fileset.proto", package="reflow", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for number, words in enumerate(fields, 1):
            label, _, kind = words.partition(":")
            field = message.field.add(name=label, number=number, label=proto.LABEL_OPTIONAL)
            if kind == "int32s":
                field.type, field.label = proto.TYPE_INT32, proto.LABEL_REPEATED
            elif kind in kinds:
                field.type = kinds[kind]
            else:
                field.type, field.type_name = proto.TYPE_MESSAGE, f".reflow.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"reflow.{name}")) for name in FIELDS
    }


MESSAGES = build_messages()


def parts_of(data: bytes) -> list[Any]:
    parts, pos = [], 12
    while pos < len(data):
        length = int.from_bytes(data[pos : pos + 8], "little")
        parts.append(MESSAGES["FilesetPart"].FromString(data[pos + 8 : pos + 8 + length]))
        pos += 8 + length
    return parts


utf8_paths = st.dictionaries(texts.filter(bool), references, max_size=3)


@given(st.builds(Fileset, utf8_paths, st.lists(utf8_paths.map(Fileset), max_size=2)))
def test_protobuf_writes_the_same_parts(fileset: Fileset) -> None:
    data = encode_fileset(fileset, with_references=True)
    again = data[:12] + b"".join(
        [part(each.SerializeToString(deterministic=True)) for each in parts_of(data)]
    )
    assert again == data


@given(st.builds(Fileset, utf8_paths))
def test_protobuf_reads_the_same_values(fileset: Fileset) -> None:
    parts = parts_of(encode_fileset(fileset, with_references=True))
    files = {each.fp.id: each.fp.file for each in parts if each.HasField("fp")}
    mapped = {each.fmp.key: files[each.fmp.fileId] for each in parts if each.HasField("fmp")}
    assert {path: (file.id, file.size) for path, file in mapped.items()} == {
        path: (str(file.id) if file.id else "", file.size) for path, file in fileset.files.items()
    }
    assert all(each.fmp.index == -1 for each in parts if each.HasField("fmp"))


def test_unpacked_ids_of_assertions_are_read() -> None:
    agp = MESSAGES["FilesetPart"](agp={"id": 1, "keyIds": [1]}).SerializeToString()
    assert agp == bytes.fromhex("22050801120101")
    data = encode_fileset(WORKED["assertion"])
    unpacked = data.replace(part(agp), part(bytes.fromhex("220408011001")))
    assert unpacked != data
    assert decode_fileset(unpacked).files["."].assertions == BLOB


@given(st.integers(0, 2**64 - 1))
def test_numbers_round_trip(number: int) -> None:
    assert message_fields(b"\x08" + varint(number)) == ({1: number}, {})
