"""Sandboxes as they really are made: their roots, their ends, and what they protect."""

from __future__ import annotations

import asyncio
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import Fileset
from reflow.executor import sandbox
from reflow.imagestore.store import ImageStore
from tests.execs import OUT, Ground, command
from tests.imagetars import Made, docker_archive, file, folder, layer, link

pytestmark = pytest.mark.sandbox


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


@pytest.mark.parametrize(
    "change",
    [
        "touch /dev/f",
        "mkdir /dev/d",
        "ln -sfn /etc/passwd /dev/fd",
        "rm /dev/stdin",
        "chmod 700 /dev",
        "chmod 700 /dev/pts",
        "chmod 600 /dev/pts/ptmx",
        "umount /dev/tty",
    ],
)
async def test_what_was_done_to_devices_is_not_seen_by_the_next_exec(overlaid: Ground, change: str) -> None:
    stats = "stat -c '%%a %%u %%g' /dev /dev/pts /dev/shm"
    look = f"(ls -lA --time-style=+ /dev /dev/pts; {stats}; ls /dev/shm) > %s"
    before = await overlaid.output(look, OUT)
    refused = "! " if change.startswith("umount") else ""
    await overlaid.output(f"{refused}{change}; echo > %s", OUT)
    assert await overlaid.output(f": again; {look}", OUT) == before
    device = "test -c /dev/full && ! echo x > /dev/full && head -c 3 /dev/zero | wc -c > %s"
    assert (await overlaid.output(device, OUT)).strip() == b"3"


@pytest.mark.parametrize("place", ["/", "/dev", "/dev/shm", "/tmp", "/var/tmp", "/return"])
async def test_devices_that_a_command_makes_do_nothing(overlaid: Ground, place: str) -> None:
    odd = f"{place}/odd"
    made = "" if os.geteuid() else f"mknod {odd} c 1 5; test -c {odd};"
    script = f"{made} if head -c 1 {odd}; then false; fi; rm -f {odd}; echo x > %s"
    assert await overlaid.output(script, OUT) == b"x\n"


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
