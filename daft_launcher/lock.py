"""One lock a cluster, held for as long as anything works on it, Terraform after our own end included."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from daft_launcher.errors import StateError

LOCK_FILE = "daft.lock"


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Who holds a cluster's lock, as they wrote it down themselves."""

    command: str
    user: str
    host: str
    pid: int
    since: str

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

    A child that inherits the descriptor keeps the lock until it ends. Raises ClusterLockedError when somebody
    has it, StateError when the directory cannot be written.
    """
    path = directory / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterLockedError(directory, _read_holder(path)) from None
        _write_holder(descriptor, command)
        yield descriptor
    finally:
        os.close(descriptor)


def find_holder(directory: Path) -> LockHolder | None:
    """Return who works on the cluster right now, None when nobody does."""
    path = directory / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(path)
    else:
        return None
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int, command: str) -> None:
    holder = {
        "command": command,
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _read_holder(path: Path) -> LockHolder | None:
    try:
        return LockHolder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
