"""Layers, laid over each other by an ordinary user, whatever their tars say."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.manifest import digest_of
from reflow.imagestore.unpack import RootWriter
from tests.imagetars import WHEN, device, fifo, file, folder, hard_link, layer, link


class Tree:
    """A root that layers are laid into, with something precious beside it."""

    def __init__(self, base: Path) -> None:
        self.path = base / "root"
        self.path.mkdir()
        self.secret = base / "secret"
        self.secret.write_bytes(b"precious")
        self.writer = RootWriter(str(self.path), lambda: None)

    def apply(self, *tars: bytes) -> Tree:
        for each in tars:
            self.writer.apply(io.BytesIO(each), digest_of(each))
        return self

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def names(self) -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(directory, name), self.path)
            for directory, folders, files in os.walk(self.path)
            for name in (*folders, *files)
        )


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    tree.writer.close()


def refused(tree: Tree, *tars: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        tree.apply(*tars)
    assert tree.secret.read_bytes() == b"precious"
    assert sorted(each.name for each in tree.path.parent.iterdir()) == ["root", "secret"]
    return caught.value


def test_files_have_contents_modes_and_times(tree: Tree) -> None:
    tree.apply(
        layer(folder("bin"), file("bin/tool", b"#!", 0o751), file("empty"), file("big", b"x" * (3 << 20)))
    )
    info = (tree.path / "bin/tool").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime) == (0o751, WHEN)
    assert tree.read("empty") == b""
    assert tree.read("big") == b"x" * (3 << 20)
    assert tree.writer.files == 3


def test_set_user_id_goes_and_the_sticky_bit_stays(tree: Tree) -> None:
    tree.apply(layer(file("su", b"x", 0o4755), file("write", b"x", 0o2755), folder("tmp", 0o1777)))
    modes = [stat.S_IMODE((tree.path / name).stat().st_mode) for name in ("su", "write", "tmp")]
    assert modes == [0o755, 0o755, 0o1777]


def test_directories_can_be_deleted_by_their_owner(tree: Tree) -> None:
    tree.apply(layer(folder("locked", 0o500), file("locked/file", b"x", 0o400)))
    assert stat.S_IMODE((tree.path / "locked").stat().st_mode) == 0o700
    assert stat.S_IMODE((tree.path / "locked/file").stat().st_mode) == 0o400


def test_directories_have_the_times_of_the_layer_that_set_them_last(tree: Tree) -> None:
    tree.apply(layer(folder("etc"), file("etc/a")), layer(folder("etc", mtime=WHEN + 5), file("etc/b")))
    tree.writer.finish()
    assert (tree.path / "etc").stat().st_mtime == WHEN + 5


def test_the_root_may_be_listed(tree: Tree) -> None:
    tree.apply(layer(folder("./", 0o711), file("./a", b"1")))
    assert stat.S_IMODE(tree.path.stat().st_mode) == 0o711
    assert tree.names() == ["a"]


def test_leading_slashes_are_below_the_root(tree: Tree) -> None:
    tree.apply(layer(folder("/etc"), file("/etc/x", b"1"), hard_link("/etc/y", "/etc/x")))
    assert tree.read("etc/y") == b"1"


def test_parents_that_are_not_listed_are_made(tree: Tree) -> None:
    tree.apply(layer(file("a/b/c", b"1")))
    assert stat.S_IMODE((tree.path / "a/b").stat().st_mode) == 0o755


def test_links_are_data(tree: Tree) -> None:
    tree.apply(layer(link("absolute", "/etc/passwd"), link("out", "../../../secret"), link("loop", "loop")))
    assert os.readlink(tree.path / "absolute") == "/etc/passwd"
    assert os.readlink(tree.path / "out") == "../../../secret"
    assert os.lstat(tree.path / "loop").st_mtime == WHEN


def test_hard_links_share_their_file(tree: Tree) -> None:
    tree.apply(layer(file("a/x", b"1"), hard_link("b", "a/x"), link("l", "b"), hard_link("m", "l")))
    assert (tree.path / "a/x").stat().st_ino == (tree.path / "b").stat().st_ino
    assert os.readlink(tree.path / "m") == "b"


def test_a_replaced_file_leaves_its_hard_links_alone(tree: Tree) -> None:
    tree.apply(layer(file("a", b"1"), hard_link("b", "a")), layer(file("a", b"2")))
    assert (tree.read("a"), tree.read("b")) == (b"2", b"1")


def test_later_layers_replace_whatever_is_there(tree: Tree) -> None:
    tree.apply(
        layer(folder("d"), file("d/x"), file("f", b"1"), link("l", "/elsewhere"), link("k", "d")),
        layer(file("d", b"now a file"), folder("f"), file("f/y", b"2"), file("l", b"3"), link("k", "f")),
    )
    assert tree.read("d") == b"now a file"
    assert tree.read("f/y") == b"2"
    assert tree.read("l") == b"3"
    assert os.readlink(tree.path / "k") == "f"


def test_a_directory_stays_when_a_later_layer_lists_it(tree: Tree) -> None:
    tree.apply(layer(folder("d"), file("d/x", b"1")), layer(folder("d", 0o700)))
    assert tree.read("d/x") == b"1"


def test_the_last_of_equal_names_counts(tree: Tree) -> None:
    tree.apply(layer(file("a", b"1"), file("a", b"2")))
    assert tree.read("a") == b"2"


# Whiteouts.


def test_whiteouts_remove_what_lower_layers_have(tree: Tree) -> None:
    tree.apply(
        layer(file("a"), folder("d"), file("d/x"), file("d/y"), link("l", "/")),
        layer(file(".wh.a"), file("d/.wh.x"), file(".wh.l"), file(".wh.absent"), file("none/.wh.z")),
    )
    assert tree.names() == ["d", "d/y", "none"]


def test_whiteouts_spare_their_own_layer(tree: Tree) -> None:
    tree.apply(
        layer(folder("d"), file("d/old"), file("f", b"1")),
        layer(folder("d"), file("d/new"), file(".wh.d"), file("f", b"2"), file(".wh.f")),
    )
    assert tree.names() == ["d", "d/new", "f"]
    assert tree.read("f") == b"2"


def test_a_removed_directory_can_come_back(tree: Tree) -> None:
    tree.apply(
        layer(folder("d"), file("d/old")),
        layer(file(".wh.d")),
        layer(folder("d"), file("d/new")),
    )
    assert tree.names() == ["d", "d/new"]


@pytest.mark.parametrize("is_first", [True, False])
def test_opaque_directories_hide_what_lower_layers_have(tree: Tree, is_first: bool) -> None:
    mark, inside = file("d/.wh..wh..opq"), [folder("d/sub"), file("d/sub/new"), file("d/deep/er/new")]
    upper = layer(folder("d"), *([mark, *inside] if is_first else [*inside, mark]))
    lower = layer(
        folder("d"), file("d/old"), folder("d/sub"), file("d/sub/old"), file("d/deep/old"), file("o")
    )
    tree.apply(lower, upper)
    assert tree.names() == ["d", "d/deep", "d/deep/er", "d/deep/er/new", "d/sub", "d/sub/new", "o"]


def test_bookkeeping_of_aufs_is_left_out(tree: Tree) -> None:
    tree.apply(layer(file("a"), folder(".wh..wh.plnk"), file(".wh..wh.aufs")))
    assert tree.names() == ["a"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..."])
def test_whiteouts_of_no_name_are_refused(tree: Tree, name: str) -> None:
    assert "whiteout" in str(refused(tree, layer(file("d/x")), layer(file(name))))


# What leads out.


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "a/..", "..", "/../secret", "a/../b"])
def test_names_with_dots_are_refused(tree: Tree, name: str) -> None:
    err = refused(tree, layer(file(name, b"evil")))
    assert err.kind is Kind.INVALID
    assert "leads out of the image" in str(err)


@pytest.mark.parametrize("target", ["../secret", "/../secret", "a/../../secret"])
def test_hard_links_with_dots_are_refused(tree: Tree, target: str) -> None:
    assert "leads out of the image" in str(refused(tree, layer(hard_link("x", target))))


def test_hard_links_find_nothing_outside(tree: Tree) -> None:
    for target in (str(tree.secret), "/etc/passwd", "absent", "", "."):
        assert "which is no file of the image" in str(refused(tree, layer(hard_link("x", target))))
    assert "no file of the image" in str(refused(tree, layer(folder("d"), hard_link("x", "d"))))
    assert "hard link to itself" in str(refused(tree, layer(file("x"), hard_link("./x", "x"))))


def test_links_are_never_followed_when_something_is_written(tree: Tree) -> None:
    outside = str(tree.secret.parent)
    tree.apply(
        layer(link("out", outside), file("out/secret", b"evil"), link("file", str(tree.secret))),
        layer(file("file", b"evil"), link("again", outside)),
        layer(folder("again"), file("again/secret", b"evil", 0o777), file("again/.wh.secret")),
    )
    assert tree.secret.read_bytes() == b"precious"
    assert tree.read("out/secret") == b"evil"
    assert not (tree.path / "out").is_symlink()


def test_links_are_never_followed_when_something_is_linked_or_removed(tree: Tree) -> None:
    outside = str(tree.secret.parent)
    assert "no file of the image" in str(refused(tree, layer(link("o", outside), hard_link("x", "o/secret"))))
    tree.apply(layer(link("p", outside)), layer(file("p/.wh.secret"), file("p/.wh..wh..opq")))
    assert tree.secret.read_bytes() == b"precious"


def test_times_of_directories_are_not_set_through_links(tree: Tree) -> None:
    before = tree.path.parent.stat().st_mtime_ns
    tree.apply(layer(folder("d/sub")), layer(file(".wh.d"), link("e", "/")), layer(link("d", "../..")))
    tree.writer.finish()
    assert tree.path.parent.stat().st_mtime_ns == before


# Unusual entries.


def test_devices_are_left_out_and_counted(tree: Tree) -> None:
    tree.apply(layer(folder("dev"), device("dev/null"), fifo("dev/pipe"), file("x")))
    assert tree.names() == ["dev", "dev/pipe", "x"]
    assert tree.writer.left_out == ["dev/null"]
    assert stat.S_ISFIFO((tree.path / "dev/pipe").stat().st_mode)


def test_names_that_are_no_utf8_are_kept(tree: Tree) -> None:
    name = os.fsdecode(b"\xe9tude")
    tree.apply(layer(file(name, b"1"), file("naïve\nname", b"2"), link("l", name), hard_link("h", name)))
    assert sorted(os.listdir(os.fsencode(tree.path))) == sorted(
        [b"\xe9tude", "naïve\nname".encode(), b"l", b"h"]
    )


def test_long_names_are_kept(tree: Tree) -> None:
    name = "/".join(["x" * 200] * 5)
    tree.apply(layer(file(name, b"1")))
    assert tree.read(name) == b"1"


def test_paths_that_cannot_be_are_refused(tree: Tree) -> None:
    for name in ("a/" * 300 + "x", "x" * 5000):
        assert "is no path" in str(refused(tree, layer(file(name))))


def test_sparse_files_have_their_holes(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in/sparse", "wb") as stream:
        stream.seek(1 << 20)
        stream.write(b"middle")
        stream.truncate(3 << 20)
    content = (tmp_path / "in/sparse").read_bytes()
    for style in ("gnu", "posix"):
        packed = tmp_path / f"{style}.tar"
        status = os.system(f"tar --format={style} -S -C {tmp_path}/in -cf {packed} sparse")
        assert status == 0
        assert packed.stat().st_size < 1 << 20
        data = packed.read_bytes()
        tree.apply(layer(file(".wh.sparse")), data)
        assert tree.read("sparse") == content


def test_times_out_of_range_are_bounded(tree: Tree) -> None:
    tree.apply(layer(file("old", mtime=-5), file("new", mtime=10**18), file("part", mtime=1.5)))
    assert (tree.path / "old").stat().st_mtime == 0
    assert (tree.path / "part").stat().st_mtime_ns == 1_500_000_000


def test_an_empty_layer_changes_nothing(tree: Tree) -> None:
    tree.apply(b"", layer())
    assert tree.names() == []


# Damage.


def test_a_layer_that_is_another_one_is_refused(tree: Tree) -> None:
    data = layer(file("a"))
    with pytest.raises(ImageError, match=r"unpacks to sha256:.*, want sha256:0000") as caught:
        tree.writer.apply(io.BytesIO(gzip.compress(data)), f"sha256:{'0' * 64}")
    assert caught.value.kind is Kind.INTEGRITY


@pytest.mark.parametrize("cut", [100, 512, 700, 1536, 5000])
def test_a_layer_that_ends_early_is_refused(tree: Tree, cut: int) -> None:
    data = layer(file("a", b"x" * 1000), file("b", b"y" * 5000), file("c", b"z"))
    packed = gzip.compress(data)
    with pytest.raises(ImageError) as caught:
        tree.writer.apply(io.BytesIO(packed[: len(packed) * cut // 6000]), digest_of(data))
    assert caught.value.kind is Kind.INTEGRITY


@pytest.mark.parametrize("cut", [100, 512, 700, 1530, 1600, 5000])
def test_a_tar_that_ends_early_is_refused_even_if_its_digest_fits(tree: Tree, cut: int) -> None:
    data = layer(file("a", b"x" * 1000), file("b", b"y" * 5000))[:cut]
    assert refused(tree, data).kind is Kind.INTEGRITY


def test_a_damaged_header_is_no_end(tree: Tree) -> None:
    data = bytearray(layer(file("a", b"x"), file("b", b"y"), file("c", b"z")))
    data[1024 + 10] ^= 0xFF
    err = refused(tree, bytes(data))
    assert err.kind is Kind.INTEGRITY
    assert "no header of a tar at byte" in str(err)


@pytest.mark.parametrize(
    "data", [b"no tar at all" * 100, b"\x1f\x8bgarbage", b"\x28\xb5\x2f\xfd" + b"x" * 50]
)
def test_what_is_no_layer_is_refused(tree: Tree, data: bytes) -> None:
    assert refused(tree, data).kind is Kind.INTEGRITY


def test_a_header_that_asks_for_all_memory_is_refused(tree: Tree) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    assert "header of" in str(refused(tree, info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096))


def test_work_ends_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()

    def check() -> None:
        raise KeyboardInterrupt

    writer = RootWriter(str(tmp_path / "root"), check)
    data = layer(file("a"))
    with pytest.raises(KeyboardInterrupt):
        writer.apply(io.BytesIO(data), digest_of(data))
    writer.close()
