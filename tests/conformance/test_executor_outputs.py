"""What all executors make of outputs."""

from __future__ import annotations

import errno
import os

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import OutputArg
from reflow.core.fileset import File, Fileset
from tests.execs import OUT, Ground, command, error_of, member


async def test_outputs_are_a_list(ground: Ground) -> None:
    config = command("echo a > %s; echo b > %s/b", OUT, OutputArg(1), dirs=(False, True))
    result = await ground.run(config)
    assert list(member(result, 0).files) == ["."]
    assert list(member(result, 1).files) == ["b"]


async def test_directory_outputs_keep_any_names(ground: Ground) -> None:
    script = "cd %s; mkdir -p 'x y/z' empty; echo 1 > 'x y/z/a:b'; echo 2 > $'n\\nl'; echo 3 > $'\\xff'"
    result = await ground.run(command(script, OUT, dirs=(True,)))
    assert set(member(result).files) == {"x y/z/a:b", "n\nl", "\udcff"}


async def test_many_outputs_work(ground: Ground) -> None:
    result = await ground.run(command("cd %s; for i in {1..500}; do echo $i > $i; done", OUT, dirs=(True,)))
    assert len(member(result).files) == 500
    assert await ground.read(member(result).files["317"]) == b"317\n"


async def test_large_outputs_work(ground: Ground) -> None:
    result = await ground.run(command("head -c 50000000 /dev/zero > %s", OUT))
    assert member(result).file().size == 50_000_000
    assert ground.left() == []


async def test_a_missing_output_is_named(ground: Ground) -> None:
    config = command(": %s", OUT, output_names=("bam",))
    error = error_of(await ground.run(config))
    assert (error.kind, error.cause) == (Kind.INVALID, 'output "bam" was not written by the command')


async def test_an_unmentioned_output_is_empty(ground: Ground) -> None:
    result = await ground.run(command("true"))
    assert result.error is None
    assert result.fileset == Fileset(members=[Fileset()])


async def test_a_directory_for_a_file_is_an_error(ground: Ground) -> None:
    error = error_of(await ground.run(command("mkdir %s", OUT)))
    assert 'output "out0" was declared a file, and the command made a directory' in str(error)


async def test_a_file_for_a_directory_is_an_error(ground: Ground) -> None:
    error = error_of(await ground.run(command("rmdir %s; echo > %s", OUT, OUT, dirs=(True,))))
    assert 'output "out0" was declared a directory, and the command made a file' in str(error)


async def test_links_inside_outputs_are_followed(ground: Ground) -> None:
    result = await ground.run(
        command("cd %s; echo a > a; ln -s a b; mkdir d; ln -s ../a d/c; ln -s d e", OUT, dirs=(True,))
    )
    files = member(result).files
    assert set(files) == {"a", "b", "d/c", "e/c"}
    assert len({file.id for file in files.values()}) == 1


async def test_links_to_inputs_and_tmp_are_followed(ground: Ground) -> None:
    file = await ground.object(b"abc")
    users = await ground.users("large", b"u" * (2 << 20))
    tree = Fileset({"sub/x": file})
    script = "cd %s; ln -s %s a; ln -s %s b; echo t > $TMPDIR/t; ln -s $TMPDIR/t c; ln -s %s d"
    result = await ground.run(command(script, OUT, file, users, tree, dirs=(True,)))
    assert result.error is None, result.error
    files = member(result).files
    assert {name: each.size for name, each in files.items()} == {"a": 3, "b": 2 << 20, "c": 2, "d/sub/x": 3}
    assert await ground.read(files["b"]) == b"u" * (2 << 20)
    assert (ground.base / "user/large").stat().st_nlink == 1


async def test_links_to_what_was_made_beside_inputs_are_followed(ground: Ground) -> None:
    file = await ground.object(b"abc")
    script = "f=%s; echo i > $f.idx; cd %s; ln -s $f.idx idx; ln -s $(dirname $f) all"
    result = await ground.run(command(script, file, OUT, dirs=(True,)))
    assert result.error is None, result.error
    assert set(member(result).files) == {"idx", "all/0", "all/0.idx"}


async def test_links_to_deleted_inputs_are_errors(ground: Ground) -> None:
    file = await ground.object(b"abc")
    error = error_of(await ground.run(command("f=%s; ln -s $f %s; rm -f $f", file, OUT)))
    assert "does not exist" in str(error)
    assert await ground.read(file) == b"abc"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("ln -s /etc/passwd %s/x", ["x", "/etc"]),
        ("ln -s ../../../../../../../../../etc/passwd %s/x", ["x", "/etc"]),
        ("ln -s nowhere %s/x", ["x", "nowhere", "does not exist"]),
        ("cd %s; ln -s x y; ln -s y x", ["circle"]),
        ("cd %s; mkdir d; ln -s .. d/up", ["d/up", "above it"]),
        ("mkfifo %s/x", ["x is a fifo"]),
    ],
)
async def test_what_cannot_be_an_output_is_named(ground: Ground, script: str, words: list[str]) -> None:
    error = error_of(await ground.run(command(script, OUT, dirs=(True,))))
    assert error.kind is Kind.INVALID
    for word in ['output "out0"', *words]:
        assert word in str(error)


async def test_hard_links_between_outputs_work(ground: Ground) -> None:
    config = command("echo a > %s; ln %s %s", OUT, OUT, OutputArg(1), dirs=(False, False))
    result = await ground.run(config)
    assert member(result, 0) == member(result, 1)


async def test_unwritable_directories_are_removed(ground: Ground) -> None:
    script = "mkdir -p %s/d; echo x > %s/d/x; mkdir $TMPDIR/t; touch $TMPDIR/t/u; chmod 500 %s/d $TMPDIR/t"
    result = await ground.run(command(script, OUT, OUT, OUT, dirs=(True,)))
    assert result.error is None, result.error
    assert ground.left() == []


async def test_a_full_disk_is_said_and_nothing_is_half_written(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, *, keep: bool = False) -> File:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(ground.repository, "install", full)
    running = await ground.put(command("echo x > %s", OUT))
    with pytest.raises(ReflowError) as caught:
        await running.wait()
    assert caught.value.kind is Kind.RESOURCES_EXHAUSTED
    assert ground.left() == []
