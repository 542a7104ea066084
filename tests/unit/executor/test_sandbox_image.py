"""What a sandbox adds to an image; where bash is."""

from __future__ import annotations

from pathlib import Path

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.executor.sandbox_image import SandboxImage
from reflow.imagestore import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").symlink_to("/run/nowhere")
    (root / "etc/passwd").write_text("root:x:0:0\n")
    bash = root / "usr/bin/bash"
    bash.write_text("#!")
    bash.chmod(0o755)
    return root


def image_of(root: Path, working_dir: str = "") -> SandboxImage:
    image = Image("sha256:0", "", str(root), ("A=b",), working_dir, (), (), "", "linux", "amd64", "", 0)
    return SandboxImage(image, str(root.parent / "layer"))


def names(path: str) -> list[str]:
    return sorted(each.name for each in Path(path).iterdir())


def test_a_layer_has_the_hosts_files_and_places_to_mount(root: Path) -> None:
    image = image_of(root)
    image.prepare("x")
    mounted = ["arg", "dev", "proc", "return", "sys", "tmp"]
    assert names(image.layer) == sorted([".dockerenv", "etc", *mounted])
    assert Path(image.layer, "etc/hosts").read_bytes() == Path("/etc/hosts").read_bytes()
    assert Path(image.layer, "etc/resolv.conf").is_symlink() is False
    assert Path(image.layer, "etc/mtab").readlink() == Path("/proc/mounts")
    assert image.working_dir == "/"


def test_a_working_directory_that_the_image_lacks_is_in_the_layer(root: Path) -> None:
    image = image_of(root, "/data/a b/")
    image.prepare("x")
    assert Path(image.layer, "data/a b").is_dir()
    assert image.working_dir == "/data/a b"


def test_a_working_directory_that_the_image_has_is_not(root: Path) -> None:
    image = image_of(root, "bin")
    image.prepare("x")
    assert not Path(image.layer, "bin").exists()
    assert image.working_dir == "/bin"


def test_a_full_etc_has_what_the_image_has_as_well(root: Path) -> None:
    image = image_of(root)
    image.prepare("x")
    etc = image.full_etc()
    assert set(names(etc)) >= {"passwd", "resolv.conf", "hostname"}
    assert not Path(etc, "resolv.conf").is_symlink()
    assert (root / "etc/resolv.conf").is_symlink()
    assert image.full_etc() == etc


@pytest.mark.parametrize("target", ["/usr/bin/dash", "../../../usr/bin/dash", "dash"])
def test_links_to_bash_are_followed_in_the_image(root: Path, target: str) -> None:
    (root / "usr/bin/bash").rename(root / "usr/bin/dash")
    (root / "usr/bin/bash").symlink_to(target)
    image_of(root).prepare("x")


@pytest.mark.parametrize("target", ["/bin/sh", "bash", "/usr/bin", "../x"])
def test_an_image_without_bash_is_named(root: Path, target: str) -> None:
    (root / "usr/bin/bash").unlink()
    (root / "usr/bin/bash").symlink_to(target)
    with pytest.raises(ReflowError, match=r"image some/name.*\n?.*has no /bin/bash") as caught:
        image_of(root).prepare("some/name")
    assert caught.value.kind is Kind.INVALID
