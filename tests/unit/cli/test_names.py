from __future__ import annotations

import pytest

from reflow.cli.names import BadNameError, NameKind, parse_name

HEX = "9909853c8cada5431400c5f89fe5658e139aea88cab8c1479a8c35c902b1cb49"
HOST = "ec2-35-165-199-174.us-west-2.compute.amazonaws.com"


@pytest.mark.parametrize(
    ("text", "kind", "id", "host", "alloc"),
    [
        ("9909853c", NameKind.ID, "9909853c", "", ""),
        (HEX, NameKind.ID, HEX, "", ""),
        (f"sha256:{HEX}", NameKind.ID, HEX, "", ""),
        (HOST, NameKind.HOST, None, HOST, ""),
        (f"{HOST}:9000/bb97e35db4101030", NameKind.ALLOC, None, f"{HOST}:9000", "bb97e35db4101030"),
        (f"{HOST}:9000/bb97e35d/{HEX}", NameKind.EXEC, HEX, f"{HOST}:9000", "bb97e35d"),
        (f"bb97e35d/{HEX}", NameKind.EXEC, HEX, "", "bb97e35d"),
        ("foo", NameKind.ALLOC, None, "", "foo"),
        ("9909853C", NameKind.ALLOC, None, "", "9909853C"),
    ],
)
def test_names_have_kinds(text: str, kind: NameKind, id: str | None, host: str, alloc: str) -> None:
    name = parse_name(text)
    assert (name.kind, None if name.id is None else str(name.id), name.host, name.alloc) == (
        kind,
        id,
        host,
        alloc,
    )


@pytest.mark.parametrize("text", ["9909853c8", "bb97e35d/xyz", "bb97/99a"])
def test_what_cannot_be_an_id_is_an_error(text: str) -> None:
    with pytest.raises(BadNameError, match=text):
        parse_name(text)
