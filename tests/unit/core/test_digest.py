import pytest

from reflow.core.digest import Digest, DigestPrefix, digest_text

HELLO = Digest.of_text("hello")
HEX = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_texts_of_a_digest() -> None:
    assert str(HELLO) == f"sha256:{HEX}"
    assert HELLO.short == "2cf24dba"
    assert HELLO.wire == b"\x00\x05" + bytes.fromhex(HEX)
    assert digest_text(None) == "<zero>"


def test_parse_takes_both_forms() -> None:
    assert Digest.parse(HEX) == Digest.parse(f"sha256:{HEX}") == HELLO


@pytest.mark.parametrize("text", ["", "sha256:", "2cf2", "zz" * 32, HEX + "00", "md5:" + HEX])
def test_parse_refuses_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Digest.parse(text)


def test_mix_is_exclusive_or() -> None:
    assert HELLO.mix(HELLO) == bytes(32)
    assert HELLO.mix(Digest(bytes(32))) == HELLO


@pytest.mark.parametrize(
    ("text", "expands"), [("2c", True), ("sha256:2cf24d", True), (HEX, True), ("2d", False)]
)
def test_prefix_expands(text: str, *, expands: bool) -> None:
    assert DigestPrefix.parse(text).expands_to(HELLO) is expands


@pytest.mark.parametrize("text", ["", "2cf", "xx", HEX + "00"])
def test_prefix_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        DigestPrefix.parse(text)


def test_prefix_of_full_length_is_the_digest() -> None:
    assert DigestPrefix.parse(HEX).full == HELLO
    assert DigestPrefix.parse("2cf2").full is None
