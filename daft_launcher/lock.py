"""One lock a cluster, held for as long as anything works on it, Terraform after our own end included."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from daft_launcher.errors import StateError
from daft_launcher.orphans import end_orphans

LOCK_FILE = "daft.lock"
_LONGEST_NOTE = 4096
_DYING_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Who holds a cluster's lock, as they wrote it down themselves; `terraform` is the process that works for them."""

    command: str
    user: str
    host: str
    pid: int
    since: str
    terraform: int | None = None

    def __str__(self) -> str:
        return f"`{self.command}` of {self.user} on {self.host} (process {self.pid}), since {self.since}"


class ClusterLockedError(StateError):
    """Somebody else works on the cluster; `holder` says who, None when they have not written it yet."""

    def __init__(self, directory: Path, holder: LockHolder | None) -> None:
        who = str(holder) if holder else "another process"
        super().__init__(
            f"{directory} is locked by {who}",
            hint=f"wait for it to end; what it does stands in {directory}/logs/",
        )
        self.holder = holder

    def held_by(self, command: str) -> bool:
        """Return whether the holder said that it is this command."""
        return self.holder is not None and self.holder.command == command


@contextlib.contextmanager
def lock_cluster(directory: Path, *, command: str) -> Iterator[int]:
    """Hold the cluster's lock while the context is open and yield its file descriptor.

    A child that inherits the descriptor keeps the lock until it ends, but for the providers of a Terraform that was
    killed, which would keep it forever. Raises ClusterLockedError when somebody has it, StateError when the directory
    cannot be written.
    """
    path = directory / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None
    try:
        if not _take(descriptor):
            holder = _read_holder(descriptor)
            if holder is None or not _take_from_orphans(descriptor, holder):
                raise ClusterLockedError(directory, holder)
        holder = LockHolder(
            command=command,
            user=getpass.getuser(),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
        )
        _write_holder(descriptor, holder)
        yield descriptor
    finally:
        os.close(descriptor)


def note_terraform(descriptor: int, pid: int) -> None:
    """Write down which process works under a lock that is held here."""
    if holder := _read_holder(descriptor):
        _write_holder(descriptor, replace(holder, terraform=pid))


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_from_orphans(descriptor: int, holder: LockHolder) -> bool:
    """Take a lock that is held for a Terraform that is no more, and return whether it was so."""
    if holder.terraform is None or holder.host != socket.gethostname() or not end_orphans(holder.terraform):
        return False
    deadline = time.monotonic() + _DYING_SECONDS
    while not (taken := _take(descriptor)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return taken


def _write_holder(descriptor: int, holder: LockHolder) -> None:
    # The lock holds also where there is no room left to say whose it is.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _read_holder(descriptor: int) -> LockHolder | None:
    try:
        return LockHolder(**json.loads(os.pread(descriptor, _LONGEST_NOTE, 0)))
    except (OSError, ValueError, TypeError):
        return None
