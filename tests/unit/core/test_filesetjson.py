import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import FILESET_V1, decode_fileset
from reflow.core.filesetjson import fileset_from_json, fileset_to_json
from reflow.core.gojson import dump_json

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "filesets.json").read_text())
TEST = File(Digest.of(b"test"), 4)
REFERENCE = File(
    None, 7, "s3://b/k", '"e"', datetime(2024, 3, 1, 12, 34, 56, tzinfo=UTC), Digest.of(b"promised")
)
ZERO = '"LastModified":"0001-01-01T00:00:00Z","ContentHash":"\\u003czero\\u003e"'
STORED = f'{{"ID":"{TEST.id}","Size":4,{ZERO}}}'


def read(text: str) -> Fileset:
    return decode_fileset(text.encode("utf-8", "surrogateescape"), FILESET_V1)


def test_the_plain_form_is_that_of_the_original() -> None:
    assert dump_json(fileset_to_json(Fileset({".": TEST}))).decode() == GOLDEN["v1"]["text"]


@pytest.mark.parametrize(
    "fileset",
    [
        Fileset(),
        Fileset({"a/b": TEST, "c": REFERENCE}),
        Fileset(None, [Fileset({".": TEST}), Fileset(), Fileset(None, [Fileset({"x": TEST})])]),
    ],
)
def test_the_plain_form_reads_back(fileset: Fileset) -> None:
    again = fileset_from_json(json.loads(dump_json(fileset_to_json(fileset))))
    assert again == fileset
    assert fileset_to_json(again) == fileset_to_json(fileset)


def test_the_plain_form_is_read_whatever_the_case_of_names() -> None:
    row = {"fileset": {".": {"id": str(TEST.id), "SIZE": 4, "more": 1}}}
    assert fileset_from_json(row) == Fileset({".": TEST})


def test_the_stored_form_is_read() -> None:
    entries = ",\n".join(
        [
            '{"Key":{"Namespace":"blob","Subject":"s3://b/k","Object":"etag"},"Value":"e"}',
            '{"Key":{"Namespace":"blob","Subject":"s3://b/k","Object":"size"},"Value":"4"}\n',
        ]
    )
    stored = f'{STORED[:-1]},"Assertions":[{entries}]}}'
    fileset = read(f'{{"List":[{{"Fileset":{{"a":{stored}}}}},{{}}],"Fileset":{{".":{STORED}}}}} trailing')
    assert fileset == Fileset({".": TEST}, [Fileset({"a": TEST}), Fileset()])
    assert fileset.members is not None
    known = Assertions({AssertionKey("blob", "s3://b/k"): {"etag": "e", "size": "4"}})
    assert fileset.members[0].files["a"].assertions == known


def test_paths_were_written_without_escapes() -> None:
    assert list(read(f'{{"Fileset":{{"a\tb\n\udcff":{STORED}}}}}').files) == ["a\tb\n\udcff"]


@pytest.mark.parametrize(
    ("text", "kind", "cause"),
    [
        ("", Kind.INVALID, "no JSON"),
        ('{"Fileset":', Kind.INVALID, "no JSON"),
        ("[" * 100_000, Kind.INVALID, "no JSON"),
        ("[]", Kind.PRECONDITION, "unexpected list for a fileset"),
        ('{"Map":{}}', Kind.PRECONDITION, "unexpected field 'Map' (want 'List' or 'Fileset')"),
        ('{"fileset":{}}', Kind.PRECONDITION, "unexpected field 'fileset'"),
        ('{"List":{}}', Kind.PRECONDITION, "for List (want a list)"),
        ('{"Fileset":{"a":1}}', Kind.PRECONDITION, "unexpected int for a file"),
        ('{"Fileset":{"a":{"Id":""}}}', Kind.PRECONDITION, "unexpected field 'Id' of a file"),
        ('{"Fileset":{"a":{"Size":1.5}}}', Kind.INVALID, "size is 1.5"),
        ('{"Fileset":{"a":{"ID":"sha256:00"}}}', Kind.INVALID, "has 1 bytes"),
        ('{"Fileset":{"a":{"ID":"md5:zz"}}}', Kind.INVALID, "hexadecimal"),
        ('{"Fileset":{"a":{"LastModified":"yesterday"}}}', Kind.INVALID, "yesterday"),
        ('{"Fileset":{"a":{"Assertions":[{"Key":[],"Value":""}]}}}', Kind.PRECONDITION, "for Key"),
    ],
)
def test_what_is_malformed_says_how(text: str, kind: Kind, cause: str) -> None:
    with pytest.raises(ReflowError) as caught:
        read(text)
    assert caught.value.kind is kind
    assert cause in str(caught.value)


def test_assertions_that_contradict_each_other_are_refused() -> None:
    key = {"Namespace": "blob", "Subject": "s", "Object": "etag"}
    entries = [{"Key": key, "Value": value} for value in ("x", "x", "y")]
    text = json.dumps({"Fileset": {"a": {"Assertions": entries}}})
    with pytest.raises(ReflowError, match=r"conflict for \{s blob\}: etag \(x -> y\)"):
        read(text)
