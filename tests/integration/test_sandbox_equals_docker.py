"""What an exec can see is the same in a container and in a sandbox: one probe, run in both."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reflow.core.execconfig import OutputArg
from reflow.core.fileset import Fileset
from tests.execs import OUT, Ground, command

pytestmark = [pytest.mark.docker, pytest.mark.sandbox]

IMAGE = f"reflow-test-probe-{os.getpid()}:latest"
"""ubuntu, with an environment and a working directory that it does not have."""


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    made = subprocess.run(["docker", "create", "ubuntu"], capture_output=True, text=True, check=True)
    container = made.stdout.strip()
    changes = ["WORKDIR /data/not there", 'ENV GREETING="hello  world" PATH=/opt/bin:/usr/bin:/bin tmp=/no']
    flags = [word for change in changes for word in ("--change", change)]
    subprocess.run(["docker", "commit", *flags, container, IMAGE], capture_output=True, check=True)
    subprocess.run(["docker", "rm", container], capture_output=True, check=True)
    yield
    subprocess.run(["docker", "rmi", IMAGE], capture_output=True, check=True)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[list[Ground]]:
    """Docker first; neither shares anything with the other."""
    grounds = []
    for name in ("docker", "sandbox"):
        (tmp_path / name).mkdir()
        grounds.append(Ground(tmp_path / name, name))
        await grounds[-1].executor.start()
    yield grounds
    for ground in grounds:
        await ground.executor.close(kill=True)


async def seen(ground: Ground, script: str, image: str = IMAGE) -> str:
    """What the probe prints; it has a large input, a small one and a directory."""
    large, small = await ground.object(b"large" * 300_000), await ground.object(b"small")
    tree = Fileset({"sub/x": small, "y": large})
    probe = f"({script}) > %s 2>&1; : %s %s %s %s"
    config = command(probe, OUT, large, small, tree, OutputArg(1), dirs=(False, True), image=image)
    result = await ground.run(config)
    assert result.error is None, result.error
    members = result.fileset.members
    assert members is not None
    return (await ground.read(members[0].file())).decode()


async def compare(both: list[Ground], script: str, image: str = IMAGE) -> str:
    first, second = [await seen(ground, script, image) for ground in both]
    assert first == second
    return first


PROBES = {
    "user": "id; grep -E '^(Uid|Gid|Groups)' /proc/self/status",
    "environment": "env | sort | grep -v '^_='",
    "directories": "pwd; ls -1a /; stat -c '%%n %%A %%u %%g' / /arg /return /tmp /arg/1/0 /arg/2/0 /arg/3/0",
    "inputs": "cd /arg; find . -type f | sort; find . -type f -exec stat -c '%%A %%s %%Y %%u' {} + | sort",
    # Without c: core dumps are as the daemon has them, and as the user has them.
    "limits": "for l in n u l s f v d t x q i e r; do ulimit -S$l; ulimit -H$l; done",
    "shell": "umask; echo $$ $0 $- $PPID $SHLVL $BASHOPTS; shopt -o pipefail; echo $#",
    "processes": "set -- /proc/[0-9]*; echo $#; readlink /proc/1/exe; tr '\\0' ' ' < /proc/1/comm",
    # Without 32 and 33, which the C library keeps for itself.
    "signals": "grep -E '^(SigIgn|SigBlk|ShdPnd)' /proc/self/status | sed 's/180000000$/000000000/'",
    "capabilities": "grep -E '^(CapPrm|CapEff)' /proc/self/status",
    "priority": "cat /proc/self/oom_score_adj; nice",
    "descriptors": "ls /proc/self/fd; readlink /proc/self/fd/0; ls -l /proc/$$/fd | grep -c pipe: || true",
    "devices": """
        ls /dev | grep -vx core
        cd /dev; stat -L -c '%%n %%A %%t %%T' null zero full random urandom tty ptmx""",
    "mounts": r"""
        for point in /proc /dev /dev/pts /dev/mqueue /dev/shm /sys; do
            sed -nE "s#^[^ ]+ $point ([^ ]+) (r[wo]).*#$point \1 \2#p" /proc/mounts | tail -1
        done""",
    "shared memory": """
        df --output=size /dev/shm
        head -c 70000000 /dev/zero > /dev/shm/x || wc -c < /dev/shm/x""",
    "writable": """
        for d in / /etc /usr /usr/bin /var /var/tmp /run /root /home /opt /srv /mnt /tmp \\
                /arg /arg/0 /return /dev /dev/shm /sys /proc /proc/sys/kernel . $HOME; do
            (echo x > $d/probe) 2>/dev/null && echo $d && rm $d/probe
        done""",
    "own file system": """
        echo x > /etc/new; rm /etc/passwd; mkdir /new; mv /opt /op2; ls /etc /new /op2
        echo y > /bin/ls; ls || echo $?""",
    "network": """
        cat /etc/hosts /etc/resolv.conf /etc/hostname; hostname; echo $HOSTNAME
        readlink /proc/self/ns/net""",
    "names": "getent hosts localhost || getent hosts 127.0.0.1 || echo no getent; cat /proc/version",
    "ipc": "tail -n +2 /proc/sysvipc/shm | wc -l; ls /dev/mqueue | wc -l",
    "kernel": """
        cat /proc/sys/kernel/pid_max; nproc
        for f in /proc/sys/vm/swappiness /proc/sys/kernel/core_pattern /sys/kernel/mm/ksm/run; do
            value=$(cat $f); (echo "$value" > $f) 2> /dev/null || echo refused
        done""",
    "standard error": "echo a >&2; echo b > /dev/stderr; echo c >&2",
    "termination": """
        trap 'echo term' TERM; kill $$; sleep 0.01; echo after
        (trap - TERM; kill -TERM $BASHPID; echo not) || echo $?""",
}


@pytest.mark.parametrize("name", PROBES)
async def test_a_probe_sees_the_same(both: list[Ground], name: str) -> None:
    text = await compare(both, PROBES[name])
    assert text


PIDS = re.compile(r"\b\d+(?= (Segmentation|Killed))")
"""Processes of sandboxes have other numbers than those of containers, but for the first."""


def endings(log: str) -> str:
    """What bash says of commands that ended; core dumps are the user's and the daemon's choice."""
    return PIDS.sub("N", log).replace(" (core dumped)", "")


ENDINGS = [
    "exit 3",
    "exit 75",
    "exit 137",
    "kill -KILL $$; echo immortal >&2; exit 4",
    "kill -SEGV $$; echo immune >&2; exit 4",
    "bash -c 'kill -SEGV $$'; :",
    "bash -c 'kill -KILL $$' || exit $?",
    "kill -TERM 0; echo still here >&2; exit 5",
    "trap 'exit 7' TERM; kill $$",
    "exec sh -c 'exit 9'",
    "exec sleep 0.01",
    "false | true",
    "set -u; echo $undefined",
    "no-such-command",
    "/etc/passwd",
    "sleep 100 & disown; exit 6",
    "setsid sleep 100 & exit 6",
    "echo panic: oops >&2; exit 2",
    "echo first; echo second > /dev/stdout; echo Error: third >&2; echo ERROR four > /dev/stderr; exit 2",
]


@pytest.mark.parametrize("script", ENDINGS)
async def test_commands_end_the_same_way(both: list[Ground], script: str) -> None:
    outcomes = []
    for ground in both:
        running = await ground.put(command(script, image=IMAGE))
        await running.wait()
        error = (await running.result()).error
        logs = b"".join([chunk async for chunk in running.logs(stdout=True, stderr=True)])
        cause = "" if error is None else str(error.cause).replace("docker returned", "sandbox returned")
        outcomes.append((error and error.kind, cause, endings(logs.decode())))
    assert outcomes[0] == outcomes[1]


@contextmanager
def listening() -> Iterator[int]:
    """A port of this machine where somebody says hello, once to each of two."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for _ in range(2):
                peer, _ = server.accept()
                with peer:
                    peer.sendall(b"hello\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


async def test_the_network_is_this_machines(both: list[Ground]) -> None:
    with listening() as port:
        assert await compare(both, f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3") == "hello\n"


async def test_both_set_what_the_image_sets(both: list[Ground]) -> None:
    text = await compare(both, 'echo "$GREETING" "$tmp"; pwd; env -u PATH bash -c \'echo $PATH\'')
    assert text.splitlines()[:2] == ["hello  world /tmp", "/data/not there"]


async def test_an_image_without_a_path_has_the_daemons(both: list[Ground]) -> None:
    # PWD is set by bubblewrap already, and by bash in either case.
    await compare(both, "tr '\\0' '\\n' < /proc/1/environ | grep -v ^PWD= | sort", image="ubuntu")
