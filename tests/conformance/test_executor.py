"""What every executor does: one suite, over docker, sandbox and process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from tests.execs import OUT, Ground, command, error_of

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
