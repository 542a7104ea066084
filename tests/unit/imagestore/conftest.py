"""A store, a registry in this process, and no daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reflow.imagestore.job import Limits
from reflow.imagestore.platform import AMD64
from reflow.imagestore.store import ImageStore
from tests.registry import Registry, running_registry

QUICK = Limits(tries=3, pause_s=0.01, longest_pause_s=0.05, connect_s=2, stall_s=2, daemon_s=2)

NewStore = Callable[..., ImageStore]


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
