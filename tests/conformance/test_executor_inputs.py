"""What all executors do with inputs."""

from __future__ import annotations

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from tests.execs import OUT, Ground, command, error_of, member


async def test_objects_are_inputs(ground: Ground) -> None:
    file = await ground.object(b"abc")
    assert await ground.output("cat %s > %s", file, OUT) == b"abc"


async def test_users_files_are_inputs(ground: Ground) -> None:
    file = await ground.users("a b:c\n'd", b"abc")
    assert await ground.output("cat %s > %s", file, OUT) == b"abc"


async def test_large_users_files_are_inputs(ground: Ground) -> None:
    file = await ground.users("lar ge,x:y\n", b"abc" * (1 << 20))
    assert await ground.output("cat %s | wc -c > %s", file, OUT) == b"3145728\n"


async def test_names_that_are_no_text_work(ground: Ground) -> None:
    file = await ground.users("b\udcff", b"q" * (2 << 20))
    assert await ground.output("cat %s | wc -c > %s", file, OUT) == b"2097152\n"


async def test_lists_are_joined_by_blanks(ground: Ground) -> None:
    files = [Fileset.of_file(await ground.object(data)) for data in (b"a", b"b", b"c")]
    assert await ground.output("cat %s > %s", Fileset(members=files), OUT) == b"abc"


async def test_an_empty_list_is_no_word(ground: Ground) -> None:
    assert await ground.output("echo . %s . > %s", Fileset(members=()), OUT) == b". .\n"


async def test_directories_are_trees(ground: Ground) -> None:
    names = ["a", "b/c d", "b/e\udcff:\n"]
    files = {name: await ground.object(name.encode("utf-8", "surrogateescape")) for name in names}
    got = await ground.output("(cd %s; find . -type f | wc -l; cat a b/*) > %s", Fileset(files), OUT)
    assert got.endswith(b"ab/c db/e\xff:\n")


async def test_an_empty_directory_is_nothing(ground: Ground) -> None:
    assert await ground.output("(test -e %s || echo none) > %s", Fileset({}), OUT) == b"none\n"


async def test_many_inputs_work(ground: Ground) -> None:
    files = [Fileset.of_file(await ground.object(b"%d\n" % number)) for number in range(300)]
    got = await ground.output("cat %s | sort -n | tail -1 > %s", Fileset(members=files), OUT)
    assert got == b"299\n"


async def test_many_users_files_work(ground: Ground) -> None:
    files = {f"f{n}": await ground.users(f"many/f{n}", b"%d" % n * (600 << 10)) for n in range(3)}
    files |= {f"g{n}": await ground.users(f"many/g{n}", b"%d" % n) for n in range(100)}
    got = await ground.output("find -L %s -type f | wc -l > %s", Fileset(files), OUT)
    assert got == b"103\n"


async def test_files_may_be_made_beside_inputs(ground: Ground) -> None:
    file = await ground.object(b"abc")
    assert await ground.output("f=%s; echo i > $f.idx; cat $f.idx > %s", file, OUT) == b"i\n"


async def test_an_input_may_be_moved_to_an_output(ground: Ground) -> None:
    file = await ground.object(b"abc")
    result = await ground.run(command("mv %s %s", file, OUT))
    assert member(result).file() == file


async def test_a_write_to_an_input_never_gets_into_the_cache(ground: Ground) -> None:
    file = await ground.object(b"abc")
    assert file.id is not None
    result = await ground.run(command("f=%s; chmod u+w $f; echo x >> $f; cat $f > %s", file, OUT))
    if result.error is None:
        assert await ground.read(member(result).file()) == b"abcx\n"
        assert await ground.read(file) == b"abc"
    else:
        assert result.error.kind is Kind.INTEGRITY
        assert file.id.hex()[2:] in str(result.error)
        assert await ground.repository.missing([file.id]) == {file.id}


async def test_inputs_have_one_time(ground: Ground) -> None:
    first, second = await ground.object(b"abc"), await ground.users("abc", b"def")
    got = await ground.output("stat -c %%Y %s %s | sort -u | wc -l > %s", first, second, OUT)
    assert got == b"1\n"


async def test_a_missing_object_is_named(ground: Ground) -> None:
    digest = Digest.of(b"never stored")
    with pytest.raises(ReflowError, match=str(digest)) as caught:
        await ground.put(command("cat %s > %s", File(digest, 3), OUT))
    assert caught.value.kind is Kind.NOT_EXIST
    assert ground.left() == []


async def test_a_users_file_that_changes_fails_the_exec(ground: Ground) -> None:
    file = await ground.users("mine", b"abc")
    path = ground.base / "user/mine"
    running = await ground.put(command("sleep 0.3; cat %s > %s", file, OUT))
    path.write_bytes(b"abcd")
    await running.wait()
    error = error_of(await running.result())
    assert error.kind is Kind.INVALID
    assert str(path) in str(error)


async def test_a_users_file_is_never_linked_nor_changed(ground: Ground) -> None:
    data = b"z" * (3 << 20)
    file = await ground.users("mine", data)
    path = ground.base / "user/mine"
    before = path.stat()
    result = await ground.run(command("cp %s %s", file, OUT))
    assert member(result).file().id == file.id
    after = path.stat()
    assert (before.st_ctime_ns, before.st_mode) == (after.st_ctime_ns, after.st_mode)
