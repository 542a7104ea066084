"""A store, a registry in this process, and no daemon."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reflow.core.errors import ReflowError
from reflow.imagestore.job import Limits
from reflow.imagestore.platform import AMD64
from reflow.imagestore.store import ImageStore
from tests.imagetars import Made, file, folder, layer, serve
from tests.registry import Registry, running_registry

QUICK = Limits(tries=3, pause_s=0.01, longest_pause_s=0.05, connect_s=2, stall_s=2, daemon_s=2)
HUB = "index.docker.io"
SETTINGS = {"Env": ["PATH=/bin", "X=1"], "WorkingDir": "/work", "Entrypoint": ["/e"], "Cmd": ["c"]}
IMAGE = Made(
    [
        layer(folder("bin"), file("bin/sh", b"#!", 0o755), file("old")),
        layer(file(".wh.old"), file("new", b"1")),
    ],
    settings=SETTINGS,
)
"""Two layers, of which the second hides a file of the first."""

ENSURE = """
import asyncio, sys
from reflow.imagestore.store import ImageStore
print(asyncio.run(ImageStore(sys.argv[1]).ensure(sys.argv[2])).id)
"""

THING = Made([layer(file("a", random.Random(1).randbytes(5000))), layer(file("b", b"2"))])
"""What the fixture `thing` serves."""

NewStore = Callable[..., ImageStore]


def start_ensuring(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    """A process that wants an image."""
    words = [sys.executable, "-c", ENSURE, str(tmp_path / "images"), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")
    with running_registry() as registry:
        monkeypatch.setenv("REFLOW_REGISTRY", registry.host)
        yield registry


@pytest.fixture
def new_store(tmp_path: Path) -> NewStore:
    """Another store on the same directory, as a second run would have it."""

    def make(limits: Limits = QUICK, **more: object) -> ImageStore:
        options: dict[str, object] = {"platform": AMD64, **more}
        return ImageStore(str(tmp_path / "images"), limits=limits, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(new_store: NewStore, registry: Registry) -> ImageStore:
    return new_store()


@pytest.fixture
def nothing_half_made(tmp_path: Path) -> Callable[[], None]:
    """Check that the store keeps no work, and no image that is not whole."""

    def check() -> None:
        root = tmp_path / "images"
        left = [str(each.relative_to(root)) for each in root.glob("tmp/*")]
        assert left == []
        for image in root.glob("sha256/*"):
            assert sorted(each.name for each in image.iterdir()) == ["about.json", "config.json", "root"]

    return check


@pytest.fixture
def thing(registry: Registry) -> None:
    """The registry has an image of that name."""
    serve(registry, THING, "library/thing")


async def failure(store: ImageStore, name: str = "thing") -> ReflowError:
    """Why an image cannot be had; nothing is kept of it."""
    with pytest.raises(ReflowError) as caught:
        await store.ensure(name)
    assert store.kept() == []
    return caught.value
