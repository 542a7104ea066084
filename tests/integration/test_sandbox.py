"""Sandboxes as they really are made: their roots, their ends, and what they protect."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import Fileset
from reflow.executor import sandbox
from reflow.executor.execdir import tenant_of
from reflow.executor.sandbox import SandboxExecutor
from reflow.executor.sandbox_spawn import Launcher
from reflow.imagestore.store import ImageStore
from tests import sandboxes
from tests.crash import crashed
from tests.execs import OUT, Ground, command, member
from tests.imagetars import Made, docker_archive, file, folder, layer, link

pytestmark = pytest.mark.sandbox

PLAIN = "without overlays"
ORDINARY_TESTS = (
    "objects_are_inputs or users_files or surroundings or beside_inputs or moved_to_an_output or links_to"
    " or write_to_an_input or unwritable or fails_the_exec or remove_kills or memory_limits or followed"
    " or inspect_tells or close_with_kill or any_name or a_signal_is_named"
    " or still_runs or ended_meanwhile or nobody_wants or takes_outputs or outputs_of_survivors"
)


@pytest.fixture(params=["with overlays", PLAIN])
async def ground(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    if request.param == PLAIN:
        monkeypatch.setattr(sandbox, "_WAYS_OF_ROOT", ())
        monkeypatch.setattr(sandbox, "_WAYS_OF_ALL", ())
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert bool(launcher_of(ground).way) == (request.param != PLAIN), launcher_of(ground).reasons
    yield ground
    await ground.executor.close(kill=True)


@pytest.fixture
async def overlaid(tmp_path: Path) -> AsyncIterator[Ground]:
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert launcher_of(ground).way, launcher_of(ground).reasons
    yield ground
    await ground.executor.close(kill=True)


def launcher_of(ground: Ground) -> Launcher:
    assert isinstance(ground.executor, SandboxExecutor)
    launcher = ground.executor._launcher
    assert launcher is not None
    return launcher


def launcher_pid(ground: Ground) -> int:
    process = launcher_of(ground)._process
    assert process is not None
    return process.pid


def error_of(result: object) -> ReflowError:
    error = getattr(result, "error", None)
    assert isinstance(error, ReflowError)
    return error


@pytest.fixture
def doze() -> str:
    """A command that takes a day, and that nobody else has."""
    return f"sleep 86400.{int.from_bytes(os.urandom(4)):010}"


# What is protected.


def objects(ground: Ground) -> dict[str, str]:
    """Path -> digest of its bytes, for every file of the repository."""
    root = Path(ground.repository.root)
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


BAD_MANNERS = {
    "appends": "echo x >> {}",
    "overwrites": "echo other > {}",
    "overwrites in place": "printf z | dd of={} conv=notrunc status=none",
    "writes an index beside": "echo index > {}.bai",
    "moves": "mv {} {}.moved",
    "deletes": "rm -f {}",
    "links beside": "ln {} {}.link && echo x >> {}.link",
    "truncates": ": > {}",
    "changes mode and time": "chmod 600 {}; touch {}",
    "renames over": "echo new > {}.new; mv {}.new {}",
    "deletes all": "rm -rf /arg/*",
}


@pytest.mark.parametrize("size", [10, 900_000], ids=["small", "large"])
@pytest.mark.parametrize("manner", BAD_MANNERS)
async def test_inputs_may_be_treated_badly(overlaid: Ground, manner: str, size: int) -> None:
    input = await overlaid.object(b"i" * size)
    other = await overlaid.object(b"o" * size)
    before = objects(overlaid)
    script = BAD_MANNERS[manner].replace("{}", "$f")
    fileset = Fileset({"a": input, "b": other})
    wanted = command(f"f=%s/a; {script}; echo done > %s", fileset, OUT)
    result = await overlaid.run(wanted)
    assert result.error is None, result.error
    after = objects(overlaid)
    assert {path: after.get(path) for path in before} == before
    assert await overlaid.output("cat %s | wc -c > %s", input, OUT) == b"%d\n" % size


@pytest.mark.parametrize("manner", BAD_MANNERS)
async def test_without_overlays_no_altered_input_stays_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr(sandbox, "_WAYS_OF_ROOT", ())
    monkeypatch.setattr(sandbox, "_WAYS_OF_ALL", ())
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    input = await ground.object(b"i" * 900_000)
    assert input.id is not None
    before = objects(ground)
    script = BAD_MANNERS[manner].replace("{}", "$f")
    await ground.run(command(f"f=%s; {script}; echo done > %s", input, OUT))
    path = ground.repository.path(input.id)
    assert objects(ground).get(path) in (before[path], None)
    await ground.executor.close()


async def test_large_users_files_cannot_be_written_to(ground: Ground) -> None:
    users = await ground.users("big", b"b" * (2 << 20))
    got = await ground.output("(echo x >> %s) 2>/dev/null || echo refused > %s", users, OUT)
    assert got == b"refused\n"


async def test_an_exec_sees_nothing_of_the_one_before(ground: Ground) -> None:
    script = "for f in /var/tmp/f /run/f /dev/shm/f /dev/f /etc/f /opt/f; do {}; done; echo done > %s"
    await ground.output(script.format("touch $f 2>/dev/null || true"), OUT)
    found = await ground.output(script.format("test ! -e $f"), OUT)
    assert found == b"done\n"


async def test_images_stay_as_they_are(overlaid: Ground) -> None:
    change = "rm -rf /etc/* /usr/share; echo x > /usr/bin/new; mkdir /new; chmod 777 /"
    await overlaid.output(f"{change}; echo > %s", OUT)
    got = await overlaid.output("test -e /etc/passwd && test ! -e /new && stat -c %%a / > %s", OUT)
    assert got == b"755\n"


@pytest.mark.parametrize("change", ["chmod 700 /", "touch /x; chown 7 /", "rm /etc/passwd", "mkdir /x", ":"])
async def test_a_root_that_was_written_to_is_not_used_again(overlaid: Ground, change: str) -> None:
    if os.geteuid() and "chown" in change:
        change = "touch /x"
    before = await overlaid.output("echo 1 > %s", OUT)
    roots = [await overlaid.output(f"{change}; : {number}; echo 1 > %s", OUT) for number in range(3)]
    assert [before] * 3 == roots
    state = await overlaid.output("(stat -c '%%a %%u' /; ls -A / /etc) > %s", OUT)
    fresh = Ground(overlaid.base / "fresh", "sandbox")
    await fresh.executor.start()
    assert await fresh.output("(stat -c '%%a %%u' /; ls -A / /etc) > %s", OUT) == state
    await fresh.executor.close()


async def test_a_root_is_used_again_when_it_is_as_good_as_new(overlaid: Ground) -> None:
    for number in range(5):
        await overlaid.output(f"echo {number} > %s; touch $TMPDIR/x /dev/shm/x", OUT)
    assert len(list(overlaid.localdir.glob("spare/*/root-*"))) == 1


async def test_a_root_that_was_written_to_goes(overlaid: Ground) -> None:
    for number in range(3):
        await overlaid.output(f"echo {number} > %s; touch /x", OUT)
    await asyncio.sleep(0.3)
    assert list(overlaid.localdir.glob("spare/*/root-*")) == []


# Surroundings.


async def test_what_is_asked_for_is_given(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("ELSE", "never seen")
    script = "echo ${AWS_ACCESS_KEY_ID-none} ${ELSE-none} > %s"
    assert await ground.output(script, OUT, needs_aws_creds=True) == b"id none\n"
    assert await ground.output(script, OUT) == b"none none\n"


async def test_the_daemon_is_refused_by_name(ground: Ground) -> None:
    with pytest.raises(
        ReflowError, match=r"ubuntu\$docker asks for the docker daemon.*-executor docker"
    ) as caught:
        await ground.put(command("true", needs_docker_access=True, original_image="ubuntu$docker"))
    assert caught.value.kind is Kind.NOT_SUPPORTED


async def test_writing_to_dev_stderr_loses_nothing(ground: Ground) -> None:
    running = await ground.put(command("echo a >&2; echo b > /dev/stderr; echo c >> /dev/stderr; echo d >&2"))
    await running.wait()
    assert b"".join([chunk async for chunk in running.logs(stdout=False, stderr=True)]) == b"a\nb\nc\nd\n"


async def test_much_output_is_kept_whole(ground: Ground) -> None:
    running = await ground.put(command("seq 1000000; seq 3 >&2"))
    await running.wait()
    out = b"".join([chunk async for chunk in running.logs(stdout=True, stderr=False)])
    assert out.splitlines()[-1] == b"1000000"
    assert len(out) == 6888896


async def test_output_of_an_earlier_try_is_gone(ground: Ground) -> None:
    id = Digest.of(b"again")
    for script, wanted in (("echo long text; exit 1", b"long text\n"), ("exit 2", b"")):
        running = await ground.put(command(script), id)
        await running.wait()
        assert b"".join([chunk async for chunk in running.logs(stdout=True, stderr=True)]) == wanted


async def test_the_working_directory_is_the_images(tmp_path: Path, overlaid: Ground) -> None:
    settings = {"WorkingDir": "/srv/not/there", "Env": ["A=b c", "PATH=/bin"]}
    ground = await with_image(tmp_path, overlaid, Made([busy_layer()], settings=settings))
    got = await ground.output("(pwd; echo $A; echo $PATH) > %s", OUT, image="test/made")
    assert got.splitlines()[:2] == [b"/srv/not/there", b"b c"]
    await ground.executor.close()


def busy_layer(bash: str = "/usr/bin/bash") -> bytes:
    """A layer with the bash of this machine and what it needs, and few commands."""
    entries = [folder("bin"), folder("lib64"), folder("tmp", 0o1777), folder("etc")]
    needed = subprocess.run(["ldd", bash], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in needed.split() if word.startswith("/")]
    entries.append(file("bin/bash", Path(bash).read_bytes(), 0o755))
    made = {"bin", "lib64"}
    for library in libraries:
        for parent in reversed(Path(library.lstrip("/")).parents):
            if str(parent) not in (".", *made):
                made.add(str(parent))
                entries.append(folder(str(parent)))
        entries.append(file(library.lstrip("/"), Path(library).read_bytes(), 0o755))
    return layer(*entries)


async def with_image(tmp_path: Path, other: Ground, image: Made) -> Ground:
    """A ground whose only image is this one."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"test/made:latest": image}))
    store = ImageStore(str(tmp_path / "images"))
    await store.load(str(archive))
    ground = Ground(tmp_path / "made", "sandbox", images=store)
    await ground.executor.start()
    return ground


async def test_a_bash_behind_links_is_found(tmp_path: Path, overlaid: Ground) -> None:
    base = busy_layer()
    links = layer(link("bin/sh", "/bin/bash"), link("usr/bin", "/bin"))
    ground = await with_image(tmp_path, overlaid, Made([base, links]))
    assert await ground.output("echo x > %s", OUT, image="test/made") == b"x\n"
    await ground.executor.close()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([folder("bin"), file("bin/sh", b"#!/x", 0o755)], "the image has no /bin/bash"),
        ([folder("bin"), link("bin/bash", "/usr/bin/bash")], "the image has no /bin/bash"),
        ([folder("bin"), link("bin/bash", "bash")], "the image has no /bin/bash"),
        ([folder("bin"), file("bin/bash", b"text", 0o644)], "the image has no /bin/bash"),
    ],
)
async def test_an_image_without_bash_is_one_clear_error(
    tmp_path: Path, overlaid: Ground, entries: list[object], words: str
) -> None:
    ground = await with_image(tmp_path, overlaid, Made([layer(*entries)]))  # type: ignore[arg-type]
    with pytest.raises(ReflowError, match=words) as caught:
        await ground.put(command("true", image="test/made"))
    assert caught.value.kind is Kind.INVALID
    assert ground.left() == []
    await ground.executor.close()


@pytest.mark.parametrize("data", [b"#!/no/such/thing\n", b"\x7fELF is not enough"])
async def test_a_bash_that_cannot_be_run_is_one_clear_error(
    tmp_path: Path, overlaid: Ground, data: bytes
) -> None:
    image = Made([layer(folder("bin"), file("bin/bash", data, 0o755))])
    ground = await with_image(tmp_path, overlaid, image)
    running = await ground.put(command("true", image="test/made"))
    with pytest.raises(ReflowError, match="/bin/bash of the image cannot be run") as caught:
        await running.wait()
    assert caught.value.kind is Kind.INVALID
    await ground.executor.close()


async def test_a_command_with_a_null_byte_is_an_error(ground: Ground) -> None:
    running = ground.put(command("echo a\0b"))
    with pytest.raises(ReflowError, match="embedded null byte") as caught:
        await (await running).wait()
    assert caught.value.kind is Kind.INVALID
    assert await ground.output("echo x > %s", OUT) == b"x\n"


async def test_an_unknown_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("REFLOW_REGISTRY", "127.0.0.1:1")
    ground = Ground(tmp_path, "sandbox", images=ImageStore(str(tmp_path / "images")))
    await ground.executor.start()
    with pytest.raises(ReflowError, match="image no/such") as caught:
        await ground.put(command("true", image="no/such"))
    assert caught.value.kind is Kind.NOT_EXIST
    await ground.executor.close()


# Ends.


async def test_nothing_outlives_its_exec(ground: Ground, doze: str) -> None:
    script = f"setsid {doze} & ({doze} & disown); nohup {doze} >/dev/null 2>&1 & echo x > %s"
    assert await ground.output(script, OUT) == b"x\n"
    assert sandboxes.processes_with(doze) == []


@pytest.mark.parametrize("delay_s", [0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.05])
async def test_nothing_is_left_of_an_exec_that_is_interrupted_at_any_moment(
    ground: Ground, doze: str, delay_s: float
) -> None:
    file = await ground.object(b"x" * 900_000)
    id = Digest.random()
    putting = asyncio.ensure_future(ground.put(command(f"trap '' TERM; : %s; {doze}", file), id))
    await asyncio.sleep(delay_s)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError) as caught:
        await (await putting).wait()
    assert caught.value.kind is Kind.CANCELED
    assert sandboxes.processes_with(doze) == []
    assert ground.left() == []
    assert await ground.output("echo x > %s", OUT) == b"x\n"


async def test_kill_now_leaves_nothing(ground: Ground, doze: str) -> None:
    running = await ground.put(command(f"setsid {doze} & {doze}"))
    await appear(doze, 3)
    await asyncio.to_thread(ground.executor.kill_now)
    await asyncio.wait_for(running.wait(), 10)
    assert error_of(await running.result()).kind is Kind.OOM  # as whatever SIGKILL ended
    await gone(doze)


async def appear(mark: str, count: int) -> None:
    """Wait until so many processes have ``mark`` in their command line."""
    for _ in range(500):
        if len(sandboxes.processes_with(mark)) >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(sandboxes.processes_with(mark))


async def gone(mark: str) -> None:
    """Wait, for a moment, until no process has ``mark`` in its command line."""
    for _ in range(100):
        if not sandboxes.processes_with(mark):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(sandboxes.processes_with(mark))


@pytest.mark.parametrize("victim", ["launcher", "bubblewrap"])
async def test_execs_fail_and_others_run_after_a_helper_was_killed(
    ground: Ground, doze: str, victim: str
) -> None:
    running = await ground.put(command(f"setsid {doze} & {doze}"))
    await appear(doze, 3)
    for _ in range(500):
        if not running.pid:
            await asyncio.sleep(0.01)
    assert running.pid
    os.kill(launcher_pid(ground) if victim == "launcher" else running.pid, signal.SIGKILL)
    if victim == "launcher":
        with pytest.raises(ReflowError, match="launcher ended") as caught:
            await asyncio.wait_for(running.wait(), 10)
        assert caught.value.kind is Kind.UNAVAILABLE
    else:
        await asyncio.wait_for(running.wait(), 10)
        assert error_of(await running.result()).kind is Kind.OOM  # as whatever SIGKILL ended
    await gone(doze)
    assert await ground.output("echo x > %s", OUT) == b"x\n"


def started(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv)


async def test_a_bubblewrap_that_was_just_starting_goes_when_the_next_run_starts(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "sandbox")
    crashed(ground, command("echo begun; sleep 600"))
    (left,) = (tmp_path / "local/execs").iterdir()
    tenant = tenant_of(str(left))
    assert tenant is not None
    stat = Path(f"/proc/{tenant.pid}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)  # its launcher
    await gone(f"{left}/return")
    stuck = started(sandboxes.python("-c", "import time; time.sleep(600)", f"{left}/return"))
    await ground.executor.start()
    assert stuck.wait(10) == -signal.SIGKILL
    await ground.executor.close()


async def test_what_a_killed_run_left_ends_with_the_next_that_does_not_want_it(
    tmp_path: Path, doze: str
) -> None:
    ground = Ground(tmp_path, "sandbox")
    crashed(ground, command(f"setsid {doze} & trap '' TERM; {doze}"), until="started")
    await ground.executor.start()
    assert len(ground.left()) == 1
    await appear(doze, 3)
    await ground.executor.close()
    await gone(doze)
    await gone(f"{tmp_path}/local/spare")
    assert ground.left() == []
    assert list(ground.localdir.glob("spare/*")) == []


async def test_descriptors_are_given_back(ground: Ground) -> None:
    await ground.output("echo x > %s", OUT)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        await ground.output(f"echo {number} > %s; echo log", OUT)
        await ground.run(command(f"exit {number % 3}"))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_many_at_once(ground: Ground) -> None:
    results = await asyncio.gather(*[ground.run(command(f"echo {n} > %s", OUT)) for n in range(60)])
    texts = await asyncio.gather(*[ground.read(member(result).file()) for result in results])
    assert texts == [b"%d\n" % n for n in range(60)]


async def test_only_the_commands_processes_are_listed(ground: Ground) -> None:
    running = await ground.put(command("sleep 30; :"))
    await asyncio.sleep(0.2)
    lines = await ground.executor.command_lines(running)
    assert [line.partition(" ")[0] for line in lines] == ["/bin/bash", "sleep"]


# Where it does not work, or in part.


async def test_an_overlay_that_cannot_be_mounted_is_done_without(
    overlaid: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    real = Launcher.launch

    def launch(self: Launcher, job: sandbox.Job, fds: Sequence[int]) -> object:
        nonlocal tried
        tried += 1
        overlays = [(point, directory, []) for point, directory, _ in job[0]]  # without layers it is refused
        return real(self, (overlays, *job[1:]), fds)

    monkeypatch.setattr(Launcher, "launch", launch)
    file = await overlaid.object(b"x" * 900_000)
    got = await overlaid.output("cat %s | wc -c > %s; (echo x > /etc/x) 2>/dev/null || true", file, OUT)
    assert got == b"900000\n"
    assert tried == 3


def test_an_ordinary_user_has_sandboxes_too() -> None:
    suites = [f"tests/conformance/test_{name}.py" for name in ("executor", "executor_ending", "recovery")]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *suites]
    argv = sandboxes.python(*words, "-k", f"sandbox and ({ORDINARY_TESTS})")
    done = sandboxes.run(sandboxes.as_ordinary_user(argv), timeout_s=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


ABOUT = """
import asyncio, json, sys, tempfile
from pathlib import Path
from tests.crash import crashed
from tests.execs import OUT, Ground, command

async def main():
    with tempfile.TemporaryDirectory() as base:
        ground = Ground(Path(base), "sandbox")
        await ground.executor.start()
        text = await ground.output("(id -u; id -g; touch /usr/x && echo writable) > %s", OUT)
        await ground.executor.close()
        print(json.dumps([ground.executor._launcher.way, text.decode()]))

asyncio.run(main())
"""


def test_an_ordinary_user_has_overlays_and_stays_who_they_are() -> None:
    done = sandboxes.run(sandboxes.as_ordinary_user(sandboxes.python("-c", ABOUT)))
    assert done.returncode == 0, done.stderr
    way, text = json.loads(done.stdout)
    uid = os.geteuid() or 60001
    assert way == "user"
    assert text == f"{uid}\n{os.getegid() if os.geteuid() else 60001}\nwritable\n"


START = """
import asyncio, sys, tempfile
from pathlib import Path
from reflow.core.errors import ReflowError
from tests.crash import crashed
from tests.execs import Ground

async def main():
    with tempfile.TemporaryDirectory() as base:
        ground = Ground(Path(base), "sandbox")
        try:
            await ground.executor.start()
        except ReflowError as err:
            print(err.kind.name, str(err.cause))
        await ground.executor.close()

asyncio.run(main())
"""


def test_a_ban_of_user_namespaces_is_found_and_explained() -> None:
    done = sandboxes.run(sandboxes.under_a_ban(sandboxes.python("-c", START)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PRECONDITION bubblewrap does not work here: ")
    assert "user namespaces are banned: user.max_user_namespaces is 0" in done.stdout
    assert "administrator" in done.stdout


OLD = """#!/bin/sh
for word; do
    case $word in --size|--perms) echo "bwrap: Unknown option $word" >&2; exit 1;; esac
done
exec {real} "$@"
"""


async def test_an_older_bubblewrap_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("bwrap")
    old = tmp_path / "bin/bwrap"
    old.parent.mkdir()
    old.write_text(OLD.format(real=real))
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    ground = Ground(tmp_path, "sandbox")
    await ground.executor.start()
    assert await ground.output("echo x > /dev/shm/x; cat /dev/shm/x > %s", OUT) == b"x\n"
    await ground.executor.close()


async def test_a_bubblewrap_that_is_too_old_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text('#!/bin/sh\necho "bwrap: Unknown option --json-status-fd" >&2; exit 1\n')
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ground = Ground(tmp_path, "sandbox")
    with pytest.raises(ReflowError, match="Unknown option --json-status-fd: it is too old"):
        await ground.executor.start()
    await ground.executor.close()


async def test_a_missing_bubblewrap_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ground = Ground(tmp_path, "sandbox")
    with pytest.raises(ReflowError, match=r"bubblewrap .*was not found on PATH") as caught:
        await ground.executor.start()
    assert caught.value.kind is Kind.PRECONDITION
    await ground.executor.close()
