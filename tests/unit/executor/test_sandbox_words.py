"""Command lines of bubblewrap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.executor.sandbox_words import (
    Bound,
    Program,
    User,
    environment,
    read_only_root,
    sandbox_words,
    writable_root,
)

ROOT = User(0, 0, False)
SOMEBODY = User(1000, 100, True)


BWRAP = Program("/usr/bin/bwrap")


def words(user: User = SOMEBODY, bounds: tuple[Bound, ...] = (), program: Program = BWRAP) -> list[str]:
    command = ["/bin/bash", "-c", "x"]
    return sandbox_words(program, writable_root("/p"), user, bounds, "/w", command, status_fd=7)


def test_the_command_is_the_last() -> None:
    assert words()[-6:] == ["--chdir", "/w", "--", "/bin/bash", "-c", "x"]


def test_bubblewrap_says_what_it_does_on_the_descriptor_given() -> None:
    assert words()[:3] == ["/usr/bin/bwrap", "--json-status-fd", "7"]


def test_shared_memory_has_the_daemons_size_where_bubblewrap_knows_sizes() -> None:
    assert "--perms 1777 --size 67108864 --tmpfs /dev/shm" in " ".join(words())
    old = " ".join(words(program=BWRAP._replace(is_old=True)))
    assert "--tmpfs /dev/shm" in old
    assert "--size" not in old
    assert "--perms" not in old


@pytest.mark.parametrize("word", ["--die-with-parent", "--new-session", "--unshare-pid", "--as-pid-1"])
def test_nothing_outlives_a_sandbox(word: str) -> None:
    assert word in words()


def test_the_network_is_this_machines() -> None:
    assert "--unshare-net" not in words()
    assert "--unshare-all" not in words()


def test_an_ordinary_user_stays_who_they_are() -> None:
    text = " ".join(words())
    assert "--unshare-user --uid 1000 --gid 100 " in text
    assert text.count("--cap-add") == 1
    assert "--cap-drop ALL --cap-add CAP_DAC_OVERRIDE " in text


def test_root_needs_no_namespace_and_has_few_rights() -> None:
    text = " ".join(words(ROOT))
    assert "--unshare-user" not in text
    assert "--cap-drop ALL --cap-add CAP_CHOWN " in text
    assert text.count("--cap-add") == 14
    assert "CAP_SYS_ADMIN" not in text


def test_root_cannot_change_this_machines_settings() -> None:
    text = " ".join(words(ROOT))
    assert text.index("--proc /proc") < text.index("--ro-bind /proc/sys /proc/sys")


def test_the_root_comes_before_what_is_mounted_in_it() -> None:
    text = " ".join(words(bounds=(Bound("/d/arg", "/arg"), Bound("/u x", "/arg/0/0", True))))
    order = ["--bind /p /", "--bind /d/arg /arg", "--ro-bind /u x /arg/0/0", "--proc /proc", "--dev /dev"]
    places = [text.index(part) for part in (*order, "--tmpfs /dev/shm")]
    assert places == sorted(places)


def test_a_read_only_root_is_made_of_the_images_directories(tmp_path: Path) -> None:
    for name in ("usr", "var/tmp", "etc", "tmp", "run", "dev", "arg", "opt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "init").write_text("")
    text = " ".join(read_only_root(BWRAP, str(tmp_path), "/own/etc"))
    assert text == (
        f"--symlink usr/bin /bin --ro-bind {tmp_path}/init /init --ro-bind {tmp_path}/opt /opt"
        f" --ro-bind {tmp_path}/usr /usr --ro-bind {tmp_path}/var /var --ro-bind /own/etc /etc"
        " --tmpfs /run --perms 1777 --tmpfs /var/tmp"
    )


def test_the_image_overrides_the_daemons_environment_and_we_the_images() -> None:
    made = environment(["PATH=/x", "A=b=c", "HOME=/root", "E="], [("HOME", "/tmp"), ("B", "\udcff")])
    assert made == {
        b"PATH": b"/x",
        b"HOSTNAME": os.uname().nodename.encode(),
        b"A": b"b=c",
        b"HOME": b"/tmp",
        b"E": b"",
        b"B": b"\xff",
    }
    assert environment([], [])[b"PATH"] == b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
