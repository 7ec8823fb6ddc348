"""The processes of a node: which they are, and how they end. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# How long a node may take to say goodbye; one whose work does not end never does.
GRACE_SECONDS = 3.0
# Nobody needs to hear of a wait that is shorter.
QUIET_SECONDS = 2.0
KILL_SECONDS = 10.0

# Stands in the environment of every step of an installation, and of what a setup command leaves running.
STEP_MARK = "DAFT_LOCAL_STEP_OF"

Json = dict[str, Any]


class Failure(Exception):
    """Say what went wrong and what to do next."""


def say(line: str) -> None:
    """Print one line of progress; Terraform passes it on."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def process_start(pid: int) -> str | None:
    """Return when a process started, in a form that no other process with its number will have; None for a dead one."""
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        with contextlib.suppress(OSError):
            fields = (proc / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
            return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
        return None
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def processes() -> Iterator[tuple[int, int, str]]:
    """Yield pid, process group or session, and command line with environment of each process that we may look into."""
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        for folder in proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                words = b" ".join((folder / name).read_bytes() for name in ("cmdline", "environ"))
                if fields[0] not in "ZX":
                    yield (
                        int(folder.name),
                        int(fields[3]),
                        words.replace(b"\0", b" ").decode(errors="replace"),
                    )
        return
    listing = subprocess.run(
        ["ps", "-xEwwo", "pid=,pgid=,command="], capture_output=True, text=True, check=False
    )
    for line in listing.stdout.splitlines():
        pid, group, command = line.split(None, 2)
        yield int(pid), int(group), f"{command} "


def stragglers(node: Json) -> list[int]:
    """Return the living processes of a node, whatever process group they put themselves into.

    They inherit the node's mark, except that Ray's own workers and agents overwrite command line and environment
    with `ray::NAME`; those stay in the node's session.
    """
    mark = f"DAFT_LOCAL_NODE={node['temp_dir']} "
    return [
        pid
        for pid, session, words in processes()
        if pid != os.getpid() and (mark in words or (session == node["pid"] and words.startswith("ray")))
    ]


def alive(node: Json) -> bool:
    """Return whether the node's first process is still the one that was started."""
    started = process_start(node["pid"]) if node["pid"] is not None else None
    return started is not None and started == node["process_start"]


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return met


def read_node(folder: Path) -> Json | None:
    """Return what a node's folder says of it."""
    with contextlib.suppress(OSError, ValueError):
        node: Json = json.loads((folder / "node.json").read_text())
        return node
    return None


def write_node(folder: Path, node: Json) -> None:
    """Replace the record in one step, so that a reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "node.json.new"
    draft.write_text(json.dumps(node, indent=2, sort_keys=True) + "\n")
    draft.replace(folder / "node.json")


@contextlib.contextmanager
def locked(run: Path, name: str, *, quiet: bool = False) -> Iterator[None]:
    """Wait until no other process works on the same thing: Terraform may die and leave one of us behind."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    (run / ".gitignore").write_text("*\n")
    with (run / f"{name}.lock").open("w") as file:

        def mine() -> bool:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        if not wait_until(mine, QUIET_SECONDS):
            if not quiet:
                say(f"waiting: an earlier run still works on {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def guarded(clean_up: Callable[[], None]) -> Iterator[None]:
    """Clean up unless the block ends well, even when this process is killed: a forked one watches over it.

    Terraform kills a provisioner when it is interrupted. The watcher shares the lock, so the next one waits for it.
    """
    read, write = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        try:
            os.setsid()
            os.close(write)
            for stream in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            if not os.read(read, 1):
                clean_up()
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield
        os.write(write, b"k")
    finally:
        os.close(write)
        os.waitpid(watcher, 0)


def kill_all(find: Callable[[], list[int]]) -> bool:
    """Kill the processes that are found until none is; return False when one does not end."""

    def gone() -> bool:
        found = find()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    return wait_until(gone, KILL_SECONDS)


def stop_steps(run: Path) -> None:
    """End what runs of an installation and of setup commands, and what those left in the background."""
    mark = f"{STEP_MARK}={run} "

    def find() -> list[int]:
        return [pid for pid, _, words in processes() if pid != os.getpid() and mark in words]

    if not kill_all(find):
        raise Failure(f"processes {find()} of the installation do not end; end them and repeat the command")


def stop_node(folder: Path) -> None:
    """End every process of a node and remove its folders; nothing happens when it is gone already."""
    node = read_node(folder)
    if node is not None:
        if alive(node):
            os.kill(node["pid"], signal.SIGTERM)
            wait_until(lambda: not alive(node), GRACE_SECONDS)
        if not kill_all(lambda: stragglers(node)):
            raise Failure(
                f"{folder.name}: processes {stragglers(node)} do not end; end them and repeat the command"
            )
        shutil.rmtree(node["temp_dir"], ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
