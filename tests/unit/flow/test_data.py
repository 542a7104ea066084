import os
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.flow.data import INLINE_LIMIT_BYTES, LocalFile
from reflow.flow.digest import digest
from reflow.flow.node import Data


def local(path: Path) -> LocalFile:
    return LocalFile(str(path), os.stat(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * (3 << 20)])
def test_one_pass_gives_both_digests(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    file = local(path)
    assert not file.is_hashed
    assert (file.digest, file.size) == (Digest.of(content), len(content))
    assert digest(Data(file)) == digest(Data(content)) == file.data_digest


def test_above_the_limit_the_flow_is_named_by_the_files_digest(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as stream:
        stream.truncate(INLINE_LIMIT_BYTES + 1)
    file = local(path)
    assert file.data_digest == Digest.of(b"maxOp" + str(file.digest).encode())


def test_supplied_digests_are_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a")
    file = local(path)
    file.supply(Digest.of(b"file"), Digest.of(b"data"), file.signature)
    path.unlink()
    assert (file.digest, file.data_digest) == (Digest.of(b"file"), Digest.of(b"data"))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a")
    file = local(path)
    path.unlink()
    with pytest.raises(ReflowError, match=f"file {path}: resource does not exist") as caught:
        file.hash()
    assert caught.value.kind is Kind.NOT_EXIST
