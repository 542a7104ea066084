"""The Docker daemon, by way of its SDK. Nothing else imports that.

Calls block in a bounded number of threads over one pool of connections. What the SDK raises becomes a
`ReflowError` here, once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import docker
import docker.errors
import requests.exceptions
from docker.types import DriverConfig, LogConfig, Mount

from reflow.core.errors import Kind, ReflowError
from reflow.disk.blocking import Blocking
from reflow.executor.docker_pulse import Pulse

T = TypeVar("T")

OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off"
"""So that what an overlay has on top is plain files and whiteouts, which we read."""

_THREADS = 16
_TIMEOUT_S = 120
_KINDS = {
    400: Kind.INVALID,
    401: Kind.NOT_ALLOWED,
    403: Kind.NOT_ALLOWED,
    404: Kind.NOT_EXIST,
    409: Kind.PRECONDITION,
}


class Overlay(NamedTuple):
    """Directories seen through an overlay, the first on top: what is written goes to ``upper``."""

    lowers: Sequence[str]
    upper: str
    work: str


class Bind(NamedTuple):
    """A file or directory of this machine and where the container sees it."""

    source: str
    target: str
    is_read_only: bool = False


class ContainerSpec(NamedTuple):
    """A container to be made."""

    name: str
    image: str
    entrypoint: Sequence[str]
    environment: Sequence[str]
    labels: Mapping[str, str]
    binds: Sequence[Bind]
    overlay: Overlay | None
    memory_bytes: int
    swap_bytes: int


class DockerApi:
    """Calls of one daemon. Raise UNAVAILABLE when it does not answer, NOT_ALLOWED when it refuses us."""

    def __init__(self, socket_path: str, pulse: Pulse | None = None) -> None:
        self._socket_path = socket_path
        self._pulse = pulse or Pulse(socket_path)
        self._calls = Blocking("docker", _THREADS)
        self._pulls = Blocking("pull", 4)
        self._client: docker.APIClient | None = None
        self._user = f"{os.getuid()}:{os.getgid()}"

    async def connect(self) -> dict[str, Any]:
        """Connect, agree on a version, and return what the daemon says of itself."""
        return await self._calls(_translated, "docker", self._socket_path, self._connect)

    def _connect(self) -> dict[str, Any]:
        self._client = docker.APIClient(
            base_url=f"unix://{self._socket_path}",
            version="auto",
            timeout=_TIMEOUT_S,
            user_agent="reflow",
            max_pool_size=_THREADS,
        )
        info: dict[str, Any] = self._client.info()
        return info

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()  # here: threads may hang in calls
        self._calls.close()
        self._pulls.close()

    async def image(self, name: str) -> dict[str, Any] | None:
        """What is known of a local image: ``Id``, ``RepoDigests``, ``RepoTags``; None when there is none."""
        try:
            found: dict[str, Any] = await self._call(
                "image", name, lambda client: _untyped(client).inspect_image(name)
            )
        except ReflowError as err:
            if err.kind is Kind.NOT_EXIST:
                return None
            raise
        return found

    async def pull(self, name: str, on_row: Callable[[dict[str, Any]], None]) -> None:
        """Pull an image; rows of progress are handed to ``on_row``, in a thread. Cancelling stops it."""
        ended = threading.Event()
        try:
            await self._pulls(_translated, "pull", name, lambda: self._pull(name, on_row, ended))
        finally:
            ended.set()

    def _pull(self, name: str, on_row: Callable[[dict[str, Any]], None], ended: threading.Event) -> None:
        assert self._client is not None
        rows: Iterator[dict[str, Any]] = self._client.pull(name, stream=True, decode=True)
        for row in rows:
            if ended.is_set():
                return
            if "error" in row:
                raise docker.errors.DockerException(row["error"])
            on_row(row)

    async def create(self, spec: ContainerSpec) -> str:
        """Make a container; its id. Raises PRECONDITION when the name is taken, NOT_EXIST without image."""
        return await self._call(
            "docker create", spec.name, lambda client: self._create(client, spec), is_repeatable=False
        )

    def _create(self, client: docker.APIClient, spec: ContainerSpec) -> str:
        host = client.create_host_config(
            mounts=_mounts(spec),
            network_mode="host",
            oom_score_adj=1000,
            log_config=LogConfig(type=LogConfig.types.JSON),
            mem_limit=spec.memory_bytes or None,
            memswap_limit=spec.swap_bytes or None,
        )
        config = client.create_container_config(
            spec.image,
            command=[],
            entrypoint=list(spec.entrypoint),
            environment=list(spec.environment),
            labels=dict(spec.labels),
            user=self._user,
            host_config=host,
        )
        return str(_untyped(client).create_container_from_config(config, spec.name)["Id"])

    async def start(self, container: str) -> None:
        """Start a container."""
        await self._call("docker start", container[:12], lambda client: client.start(container))

    async def inspect(self, container: str) -> dict[str, Any]:
        """What is known of a container."""
        found: dict[str, Any] = await self._call(
            "docker inspect", container[:12], lambda client: client.inspect_container(container)
        )
        return found

    async def remove(self, container: str) -> None:
        """Kill a container if it runs, and remove it with its volumes; fine when it is gone already."""
        try:
            await self._call(
                "docker remove",
                container[:12],
                lambda client: client.remove_container(container, v=True, force=True),
            )
        except ReflowError as err:
            # PRECONDITION: its removal is under way already.
            if err.kind not in (Kind.NOT_EXIST, Kind.PRECONDITION):
                raise

    async def labelled(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """All containers, running or not, with these labels (``name=value``)."""
        found: list[dict[str, Any]] = await self._call(
            "docker ps",
            self._socket_path,
            lambda client: client.containers(all=True, filters={"label": list(labels)}),
        )
        return found

    async def command_lines(self, container: str) -> list[str]:
        """The command lines of a running container's processes."""
        table: Any = await self._call(
            "docker top", container[:12], lambda client: client.top(container, ps_args="-eo pid,args")
        )
        return [str(row[-1]) for row in table.get("Processes") or ()]

    async def _call(
        self, op: str, subject: str, call: Callable[[docker.APIClient], T], *, is_repeatable: bool = True
    ) -> T:
        client = self._client
        assert client is not None, "not connected"
        work = _repeated if is_repeatable else _once
        try:
            return await self._pulse.answered(
                self._calls(_translated, op, subject, lambda: work(client, call))
            )
        except TimeoutError as err:
            detail = f"the docker daemon does not answer: {err}"
            raise ReflowError(Kind.UNAVAILABLE, op, subject, cause=detail) from err


def _once(client: docker.APIClient, call: Callable[[docker.APIClient], T]) -> T:
    return call(client)


def _repeated(client: docker.APIClient, call: Callable[[docker.APIClient], T]) -> T:
    """Call once more over a new connection: those that are kept are dead when the daemon was restarted."""
    try:
        return call(client)
    except requests.exceptions.ConnectionError:
        client.close()
        return call(client)


def _untyped(client: docker.APIClient) -> Any:
    """For the calls that the SDK has no types for."""
    return client


def _mounts(spec: ContainerSpec) -> list[Mount]:
    mounts = [
        Mount(bind.target, bind.source, type="bind", read_only=bind.is_read_only) for bind in spec.binds
    ]
    if spec.overlay is not None:
        # Writes of the command must not reach the repository, whose objects are linked below ``lowers``.
        layers = ":".join(spec.overlay.lowers)
        options = f"lowerdir={layers},upperdir={spec.overlay.upper},workdir={spec.overlay.work}"
        driver = DriverConfig(
            "local", {"type": "overlay", "device": "overlay", "o": f"{options},{OVERLAY_OPTIONS}"}
        )
        mounts.append(Mount("/arg", None, type="volume", no_copy=True, driver_config=driver))
    return mounts


def _translated(op: str, subject: str, call: Callable[[], T]) -> T:
    """Call, and raise the `ReflowError` that stands for what the SDK raises."""
    try:
        return call()
    except docker.errors.APIError as err:
        kind = (
            _KINDS.get(err.response.status_code, Kind.UNAVAILABLE)
            if err.response is not None
            else Kind.UNAVAILABLE
        )
        raise ReflowError(kind, op, subject, cause=str(err.explanation or err)) from err
    except docker.errors.DockerException as err:
        raise ReflowError(Kind.UNAVAILABLE, op, subject, cause=str(err)) from err
    except (requests.exceptions.RequestException, OSError) as err:
        detail = f"the docker daemon does not answer: {err}"
        raise ReflowError(Kind.UNAVAILABLE, op, subject, cause=detail) from err
