"""The sweep of full disks: the state directory has no room left, from one moment of a command to its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.aws.awskit import Project, Running
from tests.torture.events import Moment
from tests.torture.kills import Kill, KilledLife
from tests.torture.proxy import FaultProxy

_SIZE = "4m"
_FILLER = "filler"


class FullDiskLife(KilledLife):
    """A life whose state directory lies on a small disk of its own, which is full from a moment on."""

    @contextlib.contextmanager
    def _project(self) -> Iterator[tuple[Project, FaultProxy]]:
        with self._world.project(self._name) as (project, proxy), small_disk(project.root / ".daft") as disk:
            project.through = (*disk.enter, f"--wdns={project.root}")
            project.state_dir = disk.place
            self._disk = disk
            yield project, proxy

    def _hit(self, kill: Kill, running: Running) -> bool:
        self._disk.fill()
        return True

    def _relieve(self) -> None:
        self._disk.free()


class SmallDisk:
    """A disk that only the processes of one mount namespace see."""

    def __init__(self, holder: int, place: Path, enter: Sequence[str]) -> None:
        #: What goes before a command, for it to see the disk.
        self.enter = tuple(enter)
        #: Where it can be looked at from outside.
        self.place = Path(f"/proc/{holder}/root{place}")
        self._filler = self.place / _FILLER

    def fill(self) -> None:
        """Leave no room for another byte."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk]:
    """Mount a small disk in a namespace of its own for the length of a `with` block."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = 'mount -t tmpfs -o size="$0",mode=0755 tmpfs "$1" && echo mounted && exec cat'
    place.mkdir()
    holder = subprocess.Popen(
        ["unshare", *user, "--mount", "sh", "-c", script, _SIZE, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = holder.stdout.readline() if holder.stdout else ""
        assert said == "mounted\n", "no disk could be mounted"
        entered = ["--user", "--preserve-credentials"] if user else []
        yield SmallDisk(holder.pid, place, ["nsenter", "--target", str(holder.pid), *entered, "--mount"])
    finally:
        holder.communicate()


def enumerate_full(recorded: Mapping[str, Sequence[Moment]]) -> list[Kill]:
    """Return a full disk for each moment of each command."""
    return [
        Kill(phase, moment.event, "disk", "FULL") for phase, moments in recorded.items() for moment in moments
    ]
