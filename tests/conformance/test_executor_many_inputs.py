"""Arguments of many files, which execs share where `/arg` is an overlay: one suite over all executors."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reflow.core.errors import ReflowError
from reflow.core.fileset import File, Fileset
from reflow.executor.linktree import MAX_TREES, TREE_COUNT
from tests.execs import OUT, Ground, command, member

COUNT = TREE_COUNT + 8


async def objects(ground: Ground, tag: str = "") -> dict[str, File]:
    return {f"d/f{n}": await ground.object(f"{tag}{n}\n".encode()) for n in range(COUNT)}


def is_shared(ground: Ground) -> bool:
    """Whether what commands do to their inputs goes elsewhere."""
    return ground.name == "sandbox" or (ground.name == "docker" and os.geteuid() == 0)


async def test_what_one_exec_does_to_them_another_does_not_see(ground: Ground) -> None:
    files = await objects(ground)
    script = (
        "d=%s; rm -f $d/d/f0; mv $d/d/f1 $d/d/moved; rm -f $d/d/f2; echo new > $d/d/f2; echo i > $d/d/f3.idx;"
        " mkdir $d/sub; cat $d/d/f2 > %s; sleep 0.2"
    )
    plain = "d=%s; (ls $d/d | wc -l; cat $d/d/f0 $d/d/f1 $d/d/f2) > %s; test ! -e $d/sub"
    results = await asyncio.gather(
        ground.output(script, Fileset(files), OUT),
        ground.output(plain, Fileset(files), OUT),
        ground.output(f"sleep 0.1; {plain}", Fileset(files), OUT),
    )
    assert results == [b"new\n", b"%d\n0\n1\n2\n" % COUNT, b"%d\n0\n1\n2\n" % COUNT]
    assert await ground.output(plain, Fileset(files), OUT) == results[1]


async def test_appending_to_them_harms_no_object(ground: Ground) -> None:
    files = await objects(ground)
    await ground.run(command("f=%s/d/f7; chmod u+w $f; echo x >> $f; cat $f > %s", Fileset(files), OUT))
    if is_shared(ground):
        assert await ground.output("cat %s/d/f7 > %s", Fileset(files), OUT) == b"7\n"
    else:
        assert files["d/f7"].id is not None
        assert await ground.repository.missing([files["d/f7"].id]) == {files["d/f7"].id}


async def test_lists_and_several_arguments_are_in_order(ground: Ground) -> None:
    first = [Fileset.of_file(await ground.object(b"%d\n" % n)) for n in range(COUNT)]
    second = Fileset(await objects(ground, "x"))
    lone = await ground.object(b"lone\n")
    cmd = "(cat %s %s; ls %s/d | wc -l; cat %s) > %s"
    got = await ground.output(cmd, Fileset(members=first), lone, second, Fileset(members=first[:1]), OUT)
    wanted = b"".join(b"%d\n" % n for n in range(COUNT)) + b"lone\n%d\n0\n" % COUNT
    assert got == wanted


async def test_more_arguments_than_layers_work(ground: Ground) -> None:
    trees = [Fileset(await objects(ground, f"{n}-")) for n in range(MAX_TREES + 2)]
    words = " ".join(["%s/d/f5"] * len(trees))
    got = await ground.output(f"cat {words} > %s", *trees, OUT)
    assert got == b"".join(b"%d-5\n" % n for n in range(MAX_TREES + 2))


async def test_links_to_them_are_outputs(ground: Ground) -> None:
    files = await objects(ground)
    script = "i=%s; cd %s; ln -s $i all; ln -s $i/d/f3 one; rm $i/d/f4; echo n > $i/d/new"
    result = await ground.run(command(script, Fileset(files), OUT, dirs=(True,)))
    assert result.error is None, result.error
    found = member(result).files
    assert found["one"] == found["all/d/f3"] == files["d/f3"]
    assert set(found) == {"one", "all/d/new", *[f"all/{name}" for name in files if name != "d/f4"]}


async def test_small_files_of_the_users_become_objects_once(ground: Ground) -> None:
    files = {f"g{n}": await ground.users(f"many/g{n}", b"%d\n" % n) for n in range(COUNT)}
    files["large"] = await ground.users("many/large", b"u" * (2 << 20))
    got = await ground.output("cat %s/g* | wc -l > %s", Fileset(files), OUT)
    assert got == b"%d\n" % COUNT
    small = [file.id for name, file in files.items() if name != "large" and file.id is not None]
    assert await ground.repository.missing(small) == set()
    for path in (ground.base / "user/many").iterdir():
        info = path.stat()
        assert (info.st_nlink, info.st_mode & 0o222 != 0) == (1, True)
    assert await ground.output("cat %s/large | wc -c > %s", Fileset(files), OUT) == b"2097152\n"


async def test_a_large_file_of_the_users_that_changes_is_named(ground: Ground) -> None:
    files = await objects(ground)
    files["large"] = await ground.users("large", b"u" * (2 << 20))
    await ground.output("cat %s/large | wc -c > %s", Fileset(files), OUT)
    (ground.base / "user/large").write_bytes(b"v" * (3 << 20))
    with pytest.raises(ReflowError, match=r"large: .*run again"):
        await ground.run(command("cat %s/large | wc -c > %s", Fileset(files), OUT))


async def test_an_object_that_was_set_aside_is_not_used_any_more(ground: Ground) -> None:
    files = await objects(ground)
    bad = files["d/f9"].id
    assert bad is not None
    await ground.output("cat %s/d/f9 > %s", Fileset(files), OUT)
    path = Path(ground.repository.path(bad))
    path.chmod(0o644)
    path.write_bytes(b"?\n")
    assert not ground.repository.directory.verify(bad)
    await ground.object(b"9\n")
    assert await ground.output("cat %s/d/f9 > %s", Fileset(files), OUT) == b"9\n"


async def test_nothing_of_them_is_left(ground: Ground) -> None:
    files = await objects(ground)
    await ground.output("cat %s/d/f1 > %s", Fileset(files), OUT)
    await ground.executor.close()
    trees = ground.localdir / "trees"
    assert not trees.exists() or not list(trees.iterdir())
