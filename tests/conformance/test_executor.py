"""What every executor does: one suite, over docker, sandbox and process."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.execconfig import OutputArg
from reflow.core.fileset import File, Fileset
from tests.execs import OUT, Ground, command, member
from tests.executors import EXECUTORS


@pytest.fixture(params=EXECUTORS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    ground = Ground(tmp_path, request.param)
    await ground.executor.start()
    yield ground
    await ground.executor.close(kill=True)


def error_of(result: Any) -> ReflowError:
    assert result.error is not None
    return result.error


# Running and failing.


async def test_output_file_is_in_the_repository_afterwards(ground: Ground) -> None:
    assert await ground.output("echo hello > %s", OUT) == b"hello\n"


async def test_exec_directory_goes_when_it_ends(ground: Ground) -> None:
    await ground.output("echo x > %s; echo y > $TMPDIR/y", OUT)
    assert ground.left() == []


async def test_percent_signs_are_doubled_in_commands(ground: Ground) -> None:
    assert await ground.output("printf '%%d%%%%' 5 > %s", OUT) == b"5%"


async def test_bash_stops_at_the_first_failure(ground: Ground) -> None:
    error = error_of(await ground.run(command("false; echo x > %s", OUT)))
    assert (error.kind, error.cause) == (Kind.DOCKER_EXEC, "exited with code 1")


async def test_failure_in_a_pipe_fails(ground: Ground) -> None:
    assert error_of(await ground.run(command("false | cat > %s", OUT))).kind is Kind.DOCKER_EXEC


async def test_failed_exec_says_its_code(ground: Ground) -> None:
    id = Digest.of(b"x")
    error = error_of(await ground.run(command("exit 3"), id))
    assert str(error) == f"exec {id}: docker exec: exited with code 3"


async def test_lines_with_errors_are_hints(ground: Ground) -> None:
    error = error_of(await ground.run(command("echo fine; echo 'Error: no luck' >&2; exit 2")))
    text = "exited with code 2 (hints from exec logs):\n(stderr) line 1: Error: no luck"
    assert error.cause == text


async def test_exit_75_is_temporary(ground: Ground) -> None:
    error = error_of(await ground.run(command("exit 75")))
    assert error.kind is Kind.TEMPORARY
    assert "exec returned exit code 75 (considered temporary)" in str(error)


async def test_exit_137_is_oom(ground: Ground) -> None:
    assert error_of(await ground.run(command("exit 137"))).kind is Kind.OOM


async def test_go_out_of_memory_is_oom(ground: Ground) -> None:
    result = await ground.run(command("echo 'fatal error: runtime: out of memory' >&2; exit 2"))
    assert "detected golang OOM error" in str(error_of(result))


async def test_a_signal_is_named(ground: Ground) -> None:
    error = error_of(await ground.run(command("bash -c 'kill -SEGV $$'; :")))
    assert "exited with code 139 (" in str(error.cause)
    assert "by SIGSEGV)" in str(error.cause)


async def test_failed_exec_keeps_its_directory_and_says_where(ground: Ground) -> None:
    running = await ground.put(command("echo part > %s; echo oops >&2; exit 3", OUT))
    await running.wait()
    kept = Path((await running.inspect()).directory)
    assert (kept / "return/0").read_text() == "part\n"
    assert (kept / "stderr").read_text() == "oops\n"
    assert (kept / "command").read_text().endswith("exit 3")
    assert "exited with code 3" in (kept / "failed").read_text()
    assert not (kept / "arg").exists()


async def test_kept_directory_is_gone_after_remove(ground: Ground) -> None:
    running = await ground.put(command("exit 3"))
    await running.wait()
    await ground.executor.remove(running.id)
    assert ground.left() == []


async def test_kept_directory_does_not_leak_into_the_next_try(ground: Ground) -> None:
    config = command('test ! -e "$tmp/../return/0"; echo a >> %s; test -e /nowhere', OUT)
    assert error_of(await ground.run(config)).kind is Kind.DOCKER_EXEC
    running = await ground.put(config)
    await running.wait()
    kept = Path((await running.inspect()).directory)
    assert (kept / "return/0").read_text() == "a\n"


async def test_long_commands_run(ground: Ground) -> None:
    filler = "x" * 1000
    lines = "".join(f": {filler}{number}\n" for number in range(300))
    assert await ground.output(lines + "echo long > %s", OUT) == b"long\n"


async def test_commands_may_hold_any_bytes(ground: Ground) -> None:
    assert await ground.output("printf '\udcff' > %s", OUT) == b"\xff"


# Surroundings.


async def test_surroundings(ground: Ground) -> None:
    script = 'umask; read -r x || echo empty; [ "$HOME" = "$TMPDIR" ] && [ "$HOME" = "$tmp" ] && echo home'
    assert await ground.output(f"({script}; [ -w $HOME ] && echo writable) > %s", OUT) == (
        b"0022\nempty\nhome\nwritable\n"
    )


async def test_out_is_set_where_no_output_is_declared(ground: Ground) -> None:
    result = await ground.run(command("mkdir $out; echo a > $out/a", dirs=()))
    assert list(result.fileset.files) == ["a"]


async def test_nothing_declared_and_nothing_written_is_an_empty_list(ground: Ground) -> None:
    result = await ground.run(command("true", dirs=()))
    assert result.error is None
    assert result.fileset.members == ()


async def test_what_outlives_the_command_is_killed(ground: Ground) -> None:
    started = asyncio.get_running_loop().time()
    assert await ground.output("sleep 300 & echo x > %s", OUT) == b"x\n"
    assert asyncio.get_running_loop().time() - started < 30


# Inputs.


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


# Outputs.


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


# Identity, logs, inspection.


async def test_put_again_returns_the_same_exec(ground: Ground) -> None:
    id = Digest.of(b"x")
    config = command("sleep 0.2; echo a > %s", OUT)
    first = await ground.put(config, id)
    second = await ground.put(config, id)
    assert first is second
    await first.wait()
    assert await ground.put(config, id) is first


async def test_put_again_after_a_failure_runs_again(ground: Ground) -> None:
    id = Digest.of(b"x")
    first = await ground.put(command("exit 1"), id)
    await first.wait()
    second = await ground.put(command("exit 1"), id)
    assert second is not first
    await second.wait()


async def test_get_finds_what_was_put(ground: Ground) -> None:
    running = await ground.put(command("true"))
    assert await ground.executor.get(running.id) is running
    with pytest.raises(ReflowError) as caught:
        await ground.executor.get(Digest.of(b"other"))
    assert caught.value.kind is Kind.NOT_EXIST


def text_of(path: str) -> str:
    return Path(path).read_text()


async def collect(logs: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in logs])


async def test_logs_stay_when_it_has_ended(ground: Ground) -> None:
    running = await ground.put(command("echo o; echo e >&2"))
    await running.wait()
    assert await collect(running.logs(stdout=True, stderr=False)) == b"o\n"
    assert await collect(running.logs(stdout=False, stderr=True)) == b"e\n"
    assert await collect(running.logs(stdout=True, stderr=True)) == b"o\ne\n"
    inspect = await running.inspect()
    assert text_of(inspect.stdout_path) == "o\n"
    assert text_of(inspect.stderr_path) == "e\n"


async def test_no_output_leaves_no_logs(ground: Ground) -> None:
    running = await ground.put(command("true"))
    await running.wait()
    inspect = await running.inspect()
    assert (inspect.stdout_path, inspect.stderr_path) == ("", "")


async def test_logs_can_be_followed(ground: Ground) -> None:
    running = await ground.put(command("echo one; sleep 1.5; echo two"))
    chunks = [chunk async for chunk in running.logs(stdout=True, stderr=False, follow=True)]
    assert b"".join(chunks) == b"one\ntwo\n"
    assert len(chunks) > 1


async def test_inspect_tells_state_and_profile(ground: Ground) -> None:
    running = await ground.put(command("sleep 2.2; echo abc > %s; echo hello > $TMPDIR/x", OUT))
    await asyncio.sleep(0.5)
    during = await running.inspect()
    assert during.state == "running"
    assert any("sleep" in line for line in during.commands)
    await running.wait()
    after = await running.inspect()
    assert after.state == "complete"
    assert 2 < after.runtime_s < 20
    assert (after.profile["disk"].max, after.profile["tmp"].max) == (4, 6)
    assert after.profile["mem"].n >= 1
    assert after.profile["mem"].max > 100_000
    assert after.error is None
    assert after.exec_error is None


async def test_a_profile_has_disk_and_tmp_even_of_short_execs(ground: Ground) -> None:
    running = await ground.put(command("echo abc > %s", OUT))
    await running.wait()
    assert (await running.inspect()).profile["disk"].n == 1


async def test_busy_execs_show_their_cpu(ground: Ground) -> None:
    running = await ground.put(command("end=$((SECONDS+4)); while ((SECONDS < end)); do :; done"))
    await running.wait()
    assert (await running.inspect()).profile["cpu"].max > 0.02  # a loaded machine gives it little


async def test_resources_are_those_of_the_machine(ground: Ground) -> None:
    resources = ground.executor.resources
    assert resources["cpu"] >= 1
    assert resources["mem"] > 1 << 30
    assert resources["disk"] > 1 << 30
