"""Sets of digests as the original sends them."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from reflow.core.bloom import BloomFilter
from reflow.core.digest import Digest

KEPT = Digest.parse("sha256:2b8425c4d20e743705f4787b4dda39344b4242bc8636228a00b7d65378aa7694")
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)


def test_the_bits_are_those_that_the_original_sends() -> None:
    assert BloomFilter(614, 7, [KEPT]).to_json() == {
        "m": 614,
        "k": 7,
        "b": "AAAAAAAAAmYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "IAAAAAAAAAgAAAAAAAAAAAAAAAAAAQAAABAAAAAAAAABAAAAAAAABgAAAA==",
    }


@given(members=st.lists(DIGESTS), bits=st.integers(1, 700), hashes=st.integers(1, 9))
def test_what_was_added_is_in_it(members: list[Digest], bits: int, hashes: int) -> None:
    found = BloomFilter(bits, hashes, members)
    assert all(member in found for member in members)


@given(members=st.lists(DIGESTS), bits=st.integers(1, 700), hashes=st.integers(1, 9))
def test_its_json_has_all_bits(members: list[Digest], bits: int, hashes: int) -> None:
    row = BloomFilter(bits, hashes, members).to_json()
    data = base64.urlsafe_b64decode(str(row["b"]))
    assert int.from_bytes(data[:8], "big") == bits
    assert len(data) == 8 + (bits + 63) // 64 * 8


def test_an_empty_set_has_no_members() -> None:
    assert KEPT not in BloomFilter(614, 7)
    assert KEPT not in BloomFilter(100_000, 7, [Digest.of(b"another")])
