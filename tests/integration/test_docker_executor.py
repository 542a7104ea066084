"""Containers as they really are made, images as they really are pulled."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.executor import docker_image
from reflow.executor.docker import DockerExecutor
from reflow.executor.docker_api import DockerApi
from tests.crash import crashed
from tests.execs import OUT, Ground, command, member, ready
from tests.registry import Registry, running_registry

pytestmark = pytest.mark.docker

SOCKET = "/var/run/docker.sock"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with ready(tmp_path, "docker") as ground:
        yield ground


@pytest.fixture
async def api() -> AsyncIterator[DockerApi]:
    api = DockerApi(SOCKET)
    await api.connect()
    yield api
    await api.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running_registry() as registry:
        yield registry
        for name in registry.manifests:
            repository, _, reference = name.partition("/manifests/")
            mark = "@" if ":" in reference else ":"
            image = f"{registry.host}/{repository}{mark}{reference}"
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)


async def container_of(api: DockerApi, id: Digest) -> dict[str, Any]:
    (row,) = await api.labelled([f"reflow-id={id.hex()}"])
    return await api.inspect(row["Id"])


async def containers_below(api: DockerApi, localdir: Path) -> list[dict[str, Any]]:
    return await api.labelled([f"reflow-localdir={localdir}"])


async def test_containers_are_made_as_the_original_does(ground: Ground, api: DockerApi) -> None:
    file = await ground.object(b"abc")
    running = await ground.put(command("cat %s > %s; sleep 1", file, OUT))
    made = await container_of(api, running.id)
    await running.wait()
    host, config = made["HostConfig"], made["Config"]
    assert made["Name"].startswith(f"/reflow-{ground.executor.id}-{running.id.hex()}-")
    assert config["Entrypoint"] == [
        *("/bin/bash", "-e", "-l", "-o", "pipefail", "-c"),
        "cat /arg/0/0 > /return/0; sleep 1",
    ]
    assert not config["Cmd"]
    assert config["User"] == f"{os.getuid()}:{os.getgid()}"
    assert [each for each in config["Env"] if "tmp" in each] == ["tmp=/tmp", "TMPDIR=/tmp", "HOME=/tmp"]
    assert (host["NetworkMode"], host["OomScoreAdj"], host["Memory"]) == ("host", 1000, 0)
    assert sorted(each["Destination"] for each in made["Mounts"]) == ["/arg", "/return", "/tmp"]


async def test_hard_limits_are_the_containers(tmp_path: Path, api: DockerApi) -> None:
    ground = Ground(tmp_path, "docker", hard_memory=True)
    await ground.executor.start()
    running = await ground.put(command("sleep 1", resources=Resources(mem=200 << 20)))
    host = (await container_of(api, running.id))["HostConfig"]
    assert host["Memory"] == 200 << 20
    await running.wait()
    await ground.executor.close()


async def test_docker_access_and_credentials_are_given_to_those_who_ask(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    script = "test -S /var/run/docker.sock && echo socket > %s; echo ${AWS_ACCESS_KEY_ID-none} >> %s"
    asking = {"needs_docker_access": True, "needs_aws_creds": True}
    config = command(f"o=%s; {script.replace('%s', '$o')}", OUT, **asking)
    assert await ground.read(member(await ground.run(config)).file()) == b"socket\nid\n"
    assert (
        await ground.output("test -S /var/run/docker.sock || echo ${AWS_ACCESS_KEY_ID-none} > %s", OUT)
        == b"none\n"
    )


async def test_missing_credentials_are_named(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(ReflowError, match="AWS_ACCESS_KEY_ID"):
        await ground.put(command("true", needs_aws_creds=True))


async def test_an_image_without_bash_is_one_clear_error(ground: Ground) -> None:
    with pytest.raises(ReflowError, match=r"image alpine: .*\n?.*no /bin/bash") as caught:
        await ground.put(command("true", image="alpine"))
    assert caught.value.kind is Kind.INVALID
    assert ground.left() == []


async def test_an_unknown_image_is_named_at_once(ground: Ground, registry: Registry, api: DockerApi) -> None:
    image = f"{registry.host}/no/such:1"
    with pytest.raises(ReflowError, match=image) as caught:
        await ground.put(command("true", image=image))
    assert caught.value.kind is Kind.NOT_EXIST
    assert len([each for each in registry.asked if "manifests" in each]) <= 4


@pytest.mark.parametrize("image", ["", "UPPER/Case", "a b"])
async def test_malformed_images_are_named(ground: Ground, image: str) -> None:
    with pytest.raises(ReflowError) as caught:
        await ground.put(command("true", image=image))
    assert caught.value.kind in (Kind.INVALID, Kind.NOT_EXIST)
    assert "image" in str(caught.value)


async def test_images_are_pulled_with_progress(ground: Ground, registry: Registry) -> None:
    registry.add_image("h6/tiny", files={"a": os.urandom(3 << 20)})
    said: list[str] = []
    config = command("true", image=f"{registry.host}/h6/tiny")
    with pytest.raises(ReflowError, match="no /bin/bash"):
        await ground.executor.put(Digest.random(), config, lambda what, done, total: said.append(what))
    assert said[0] == f"pulling image {registry.host}/h6/tiny (try 1/6)"


async def test_pulls_are_retried_a_bounded_number_of_times(
    api: DockerApi, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_image, "_PAUSE_S", 0.01)
    registry.fail = 503
    said: list[str] = []
    images = docker_image.DockerImages(api)
    with pytest.raises(ReflowError, match="6 tries") as caught:
        await images.ensure(f"{registry.host}/h6/x:1", "", lambda what, done, total: said.append(what))
    assert caught.value.kind is Kind.TOO_MANY_TRIES
    assert len(said) == 6


async def test_an_image_is_pulled_once_for_all_who_want_it(api: DockerApi, registry: Registry) -> None:
    registry.add_image("h6/once")
    images = docker_image.DockerImages(api)
    image = f"{registry.host}/h6/once:latest"
    names = await asyncio.gather(*[images.ensure(image, image, None) for _ in range(5)])
    assert set(names) == {image}
    assert len([each for each in registry.asked if each.endswith("manifests/latest")]) <= 2


async def test_a_local_image_stands_for_its_digest(api: DockerApi) -> None:
    ubuntu = await api.image("ubuntu")
    assert ubuntu is not None
    images = docker_image.DockerImages(api, lambda name: ubuntu["Id"])
    resolved = f"index.docker.io/library/ubuntu@sha256:{'0' * 64}"
    assert await images.ensure(resolved, "ubuntu", None) == "ubuntu"


async def test_images_come_from_the_stand_in_of_docker_hub(
    api: DockerApi, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOW_REGISTRY", registry.host)
    manifest, _ = registry.add_image("library/h6-only-there")
    images = docker_image.DockerImages(api)
    name = await images.ensure(f"index.docker.io/library/h6-only-there@{manifest}", "h6-only-there", None)
    assert name == f"{registry.host}/library/h6-only-there@{manifest}"


async def test_an_image_that_was_removed_meanwhile_is_found_again(ground: Ground, api: DockerApi) -> None:
    await ground.output("echo x > %s", OUT)
    executor = ground.executor
    assert isinstance(executor, DockerExecutor)
    executor._images._names["ubuntu"] = "reflow-no-such-image:latest"
    assert await ground.output("echo y > %s", OUT) == b"y\n"


async def test_arg_is_an_overlay_for_root(ground: Ground) -> None:
    file = await ground.object(b"abc")
    got = await ground.output("grep -c 'overlay /arg overlay' /proc/mounts; cat %s > %s", file, OUT)
    assert got == b"abc"


async def test_without_overlay_altered_objects_fail_the_exec(ground: Ground) -> None:
    executor = ground.executor
    assert isinstance(executor, DockerExecutor)
    executor._has_overlay = False
    file = await ground.object(b"abc")
    result = await ground.run(command("f=%s; echo x >> $f; cat $f > %s", file, OUT))
    assert result.error is not None
    assert result.error.kind is Kind.INTEGRITY


async def test_an_overlay_that_cannot_be_mounted_is_done_without(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reflow.executor import docker_api

    monkeypatch.setattr(docker_api, "OVERLAY_OPTIONS", "no_such_option=on")
    file = await ground.object(b"abc")
    assert await ground.output("cat %s > %s", file, OUT) == b"abc"


async def test_users_files_are_bound_read_only(ground: Ground) -> None:
    file = await ground.users("big", b"b" * (2 << 20))
    got = await ground.output("(echo x >> %s) 2>/dev/null || echo refused > %s", file, OUT)
    assert got == b"refused\n"


async def test_what_a_killed_run_left_is_removed_when_nobody_wanted_it(
    tmp_path: Path, api: DockerApi
) -> None:
    ground = Ground(tmp_path, "docker")
    crashed(ground, command("sleep 600"), until="started")
    assert len(await containers_below(api, ground.localdir)) == 1
    await ground.executor.start()
    await ground.executor.close()
    assert await containers_below(api, ground.localdir) == []
    assert ground.left() == []


async def test_containers_of_live_runs_are_left_alone(ground: Ground) -> None:
    running = await ground.put(command("sleep 0.7; echo x > %s", OUT))
    other = ground.new_executor()
    await other.start()
    await running.wait()
    assert (await running.result()).error is None
    await other.close()


@pytest.mark.parametrize("delay_s", [0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15])
async def test_nothing_is_left_of_an_exec_that_is_interrupted_at_any_moment(
    ground: Ground, api: DockerApi, delay_s: float
) -> None:
    id = Digest.random()
    putting = asyncio.ensure_future(ground.put(command("sleep 600"), id))
    await asyncio.sleep(delay_s)
    await ground.executor.remove(id)
    with pytest.raises(ReflowError):
        await (await putting).wait()
    assert await containers_below(api, ground.localdir) == []
    assert ground.left() == []


async def test_kill_now_leaves_no_container(ground: Ground, api: DockerApi) -> None:
    running = await ground.put(command("sleep 600"))
    await asyncio.to_thread(ground.executor.kill_now)
    await asyncio.wait([asyncio.ensure_future(running.wait())], timeout=10)
    assert await containers_below(api, ground.localdir) == []


async def test_no_volumes_are_left(ground: Ground) -> None:
    def volumes() -> set[str]:
        listed = subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, check=True)
        return set(listed.stdout.decode().split())

    before = volumes()
    file = await ground.object(b"abc")
    await ground.output("cat %s > %s", file, OUT)
    running = await ground.put(command("cat %s; sleep 600", file))
    await ground.executor.remove(running.id)
    assert volumes() - before == set()


def test_a_remote_daemon_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(ReflowError, match=r"DOCKER_HOST=tcp://10\.0\.0\.1:2375") as caught:
        Ground(tmp_path, "docker")
    assert caught.value.kind is Kind.NOT_SUPPORTED


async def test_no_daemon_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    ground = Ground(tmp_path, "docker")
    with pytest.raises(ReflowError, match=r"no daemon at .*none\.sock") as caught:
        await ground.executor.start()
    assert caught.value.kind is Kind.PRECONDITION
