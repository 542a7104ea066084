"""``reflow shell`` on an exec in a sandbox, as root and as an ordinary user: through the real command."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Done, Workspace
from tests.processes import new_doze, processes_with
from tests.sandboxes import ROOT
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.sandbox]

LONG = """
val input = file("input.txt")
val Main = exec(image := "ubuntu", mem := 100*MiB, cpu := 0.5) (out dir) {"
	# MARK
	trap 'echo interrupted > {{out}}/interrupted' INT
	echo hi > $HOME/greeting
	cd /usr
	export LATER=1
	echo begin >&2
	while ! test -e {{out}}/go; do sleep 0.05; done
	cat {{input}} {{out}}/go > {{out}}/both
"}
"""
ORDINARY = 65534
Long = tuple[subprocess.Popen[str], str]
"""A run whose exec runs, and the name of the exec."""


class Shells(Workspace):
    """A working directory with a run in a sandbox, and shells there; all as one user."""

    def __init__(self, root: Path, uid: int) -> None:
        super().__init__(root)
        self.uid = uid
        for path in (root, self.dir, self.home):
            os.chown(path, uid, uid)
        self.write("input.txt", "given\n")

    def argv(self, *words: str) -> list[str]:
        """The command line of ``reflow WORDS``, as the user."""
        if self.uid == os.geteuid():
            return super().argv(*words)
        path = f"{ROOT}:{':'.join([each for each in sys.path if each.endswith('-packages')])}"
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return [*user, "env", f"PYTHONPATH={path}", public_python(), "-m", "reflow", *words]

    def start_long(self) -> Long:
        """A run whose exec waits for ``go``, and the name of the exec."""
        self.write("long.rf", LONG.replace("MARK", os.urandom(8).hex()))
        process = self.start("run", "-executor", "sandbox", "-json", "long.rf")
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s and process.poll() is None:
            for line in self.reflow("list", "-a").ok().out.splitlines():
                name = line.split()[-1]
                id = name.partition("/")[2]
                if line.startswith("exec") and (self.state / f"local/logs/{id[0]}/{id}.stderr").exists():
                    return process, name
            time.sleep(0.1)
        process.kill()
        raise AssertionError(process.communicate())

    def shell(self, name: str, script: str, *, by_us: bool = False) -> Done:
        """What a script does that is given to a shell; opened by us and not by the user, if ``by_us``."""
        done = subprocess.run(
            super().argv("shell", name) if by_us else self.argv("shell", name),
            input=script,
            cwd=self.dir,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def public_python() -> str:
    """This Python, or one like it that every user may run."""
    wanted = f"import sys, gmpy2; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        words = ["setpriv", f"--reuid={ORDINARY}", "--clear-groups", "env", path, "-c", wanted]
        env = {"PYTHONPATH": ":".join([each for each in sys.path if each.endswith("-packages")])}
        if subprocess.run(words, env={**os.environ, **env}, capture_output=True, check=False).returncode == 0:
            return path
    raise AssertionError(f"no Python {sys.version_info[:2]} that user {ORDINARY} may run")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "ubuntu.tar"
    subprocess.run(["docker", "save", "-o", str(path), "ubuntu"], check=True)
    return path


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def work(request: pytest.FixtureRequest, archive: Path) -> Iterator[Shells]:
    uid = os.geteuid() or (ORDINARY if request.param == "ordinary user" else 0)
    root = Path(tempfile.mkdtemp(prefix="reflow-shell-"))
    try:
        made = Shells(root, uid)
        shutil.copyfile(archive, root / "ubuntu.tar")
        made.reflow("images", "-load", str(root / "ubuntu.tar")).ok()
        yield made
    finally:
        shutil.rmtree(root)


@pytest.fixture
def long(work: Shells) -> Iterator[Long]:
    process, name = work.start_long()
    yield process, name
    if process.poll() is None:
        process.terminate()
        process.communicate(timeout=60)


def finished(process: subprocess.Popen[str]) -> str:
    """The result of a run that ends well."""
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err).ok().json["result"]


def test_it_shows_what_the_exec_sees(work: Shells, long: Long) -> None:
    script = "cat /arg/*/* /tmp/greeting; ls -d /.dockerenv /return/0; pwd; xargs -0 </proc/1/cmdline"
    lines = work.shell(long[1], script).ok().out.splitlines()
    assert lines[:5] == ["given", "hi", "/.dockerenv", "/return/0", "/"]
    assert lines[5].startswith("/bin/bash -e -l")
    assert work.shell(long[1], f"test ! -e {work.dir} && test ! -e {ROOT}").code == 0


def test_it_has_the_environment_of_the_exec(work: Shells, long: Long) -> None:
    script = "sort -z /proc/1/environ | tr '\\0' '\\n'; echo --; exec env -u SHLVL -u _ | sort"
    theirs, ours = work.shell(long[1], f"export LC_ALL=C; {script}").ok().out.split("--\n")
    assert ours.replace("LC_ALL=C\n", "") == theirs
    assert "HOME=/tmp\n" in ours


def test_it_has_the_rights_of_the_exec_and_no_more(work: Shells, long: Long) -> None:
    for script in (
        "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/{}/status",
        "cd /proc/{}/ns; for name in cgroup ipc mnt net pid user uts; do readlink $name; done",
    ):
        ours, theirs = [work.shell(long[1], script.format(pid)).ok().out for pid in ("$$", 1)]
        assert ours == theirs != ""
    told = work.shell(long[1], "grep CapEff /proc/$$/status").out
    assert told.split()[1] == ("00000000a80425fb" if work.uid == 0 else f"{1 << 1:016x}")  # CAP_DAC_OVERRIDE
    if work.uid == 0:
        assert f"user:[{os.stat('/proc/self/ns/user').st_ino}]" in ours
    assert work.shell(long[1], "ls /proc/$$/fd; exit 0").out.split() == ["0", "1", "2"]


def test_root_becomes_the_user_of_the_exec(work: Shells, long: Long) -> None:
    script = "id -u; id -G; grep -E '^(Cap|NoNewPrivs)' /proc/$$/status; touch /return/0/go"
    theirs = work.shell(long[1], script.partition("; touch")[0]).ok()
    assert work.shell(long[1], script, by_us=True) == theirs
    assert '"both"' in finished(long[0])


def test_the_exec_sees_what_is_written(work: Shells, long: Long) -> None:
    work.shell(long[1], "echo from outside > /return/0/go").ok()
    assert '"both"' in finished(long[0])


def test_it_ends_as_bash_does(work: Shells, long: Long) -> None:
    done = work.shell(long[1], "echo to-stdout; echo to-stderr >&2; exit 3\n")
    assert done == Done(3, "to-stdout\n", "to-stderr\n")
    assert work.shell(long[1], "kill -9 $$\n").code == 128 + signal.SIGKILL
    assert work.shell(long[1].partition("/")[2][:8], "exit 0").code == 0


def test_of_an_exec_that_has_ended_there_is_no_shell(work: Shells, long: Long) -> None:
    work.shell(long[1], "touch /return/0/go").ok()
    finished(long[0])
    work.shell(long[1], "exit 0").failed("not an exec URI of something that runs here")


# On a terminal.


class Terminal:
    """A shell on a terminal of ours."""

    def __init__(self, work: Shells, name: str) -> None:
        self._ours, theirs = pty.openpty()
        self._seen = ""
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self._before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            work.argv("shell", name),
            cwd=work.dir,
            env={**work.env, "TERM": "vt100"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def until(self, pattern: str) -> str:
        """Wait for something to be shown; the first group of the pattern."""
        deadline_s = time.monotonic() + 10
        while not (found := re.search(pattern, self._seen, re.MULTILINE)):
            ready, _, _ = select.select([self._ours], [], [], 1)
            assert ready or time.monotonic() < deadline_s, self._seen
            if ready:
                self._seen += os.read(self._ours, 1 << 16).decode()
        self._seen = self._seen[found.end() :]
        return found[1] if found.groups() else found[0]

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ended(self) -> int:
        """The status of the shell that ends by itself; the terminal is as it was."""
        code = self.process.wait(timeout=30)
        assert termios.tcgetattr(self._theirs) == self._before
        os.close(self._theirs)
        os.close(self._ours)
        return code


def test_on_a_terminal_it_has_one_of_its_own(work: Shells, long: Long) -> None:
    terminal = Terminal(work, long[1])
    terminal.type("tty; stty size; echo term=$TERM\r")
    assert terminal.until(r"^(/dev/pts/\d+)\r$")
    assert terminal.until(r"^(\d+ \d+)\r$") == "33 77"
    assert terminal.until(r"^term=(\w+)\r$") == "vt100"
    terminal.resize(20, 60)
    terminal.type("stty size\r")
    assert terminal.until(r"^(\d+ \d+)\r$") == "20 60"
    terminal.type("exit 3\r")
    assert terminal.ended() == 3


def test_the_interrupt_key_reaches_what_runs_in_the_shell_only(work: Shells, long: Long) -> None:
    terminal = Terminal(work, long[1])
    doze = new_doze()
    terminal.type(f"{doze}\r")
    while not processes_with(doze):
        time.sleep(0.02)
    terminal.type("\x03")
    terminal.until(r"\^C")
    terminal.type("echo status=$?\r")
    assert terminal.until(r"^status=(\d+)\r$") == str(128 + signal.SIGINT)
    terminal.type("ls /return/0/interrupted; touch /return/0/go; exit\r")
    terminal.until("No such file")
    assert terminal.ended() in (0, 137)
    assert "interrupted" not in finished(long[0])


def test_a_shell_ends_with_its_exec_and_leaves_the_terminal_in_order(work: Shells, long: Long) -> None:
    terminal = Terminal(work, long[1])
    terminal.type("echo ready; touch /return/0/go; sleep 600\r")
    terminal.until(r"^ready\r$")
    assert terminal.ended() == 128 + signal.SIGKILL
    assert '"both"' in finished(long[0])


def test_a_shell_that_is_told_to_end_takes_along_what_runs_in_it(work: Shells, long: Long) -> None:
    doze = new_doze()
    terminal = Terminal(work, long[1])
    terminal.type(f"{doze}\r")
    wait_until(lambda: processes_with(doze))
    terminal.process.terminate()
    terminal.process.wait(timeout=30)
    wait_until(lambda: not processes_with(doze))
