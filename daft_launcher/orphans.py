"""The providers of a Terraform that was killed: they wait for it forever, and hold its cluster's lock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Terraform's own convention for the name of the program, as OpenTofu's.
_PROVIDER = "terraform-provider-"


def end_orphans(terraform: int) -> bool:
    """Kill the providers of a Terraform that is no more, and return whether there were any.

    `terraform` is its process number, and so the number of its process group, which no other gets while it has members.
    What else is left of the group goes on, as the steps of a local node do, which end by themselves.
    """
    if _lives(terraform):
        return False
    orphans = [pid for pid, group, program in _processes() if group == terraform and _PROVIDER in program]
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(orphans)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield number, process group and program of each process that we may look into."""
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        for folder in proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # The name in the middle may hold anything: proc(5).
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                words = (folder / "cmdline").read_text(errors="replace")
                yield int(folder.name), int(fields[2]), words.partition("\0")[0]
        return
    with contextlib.suppress(OSError):
        listing = subprocess.run(
            ["ps", "-Ao", "pid=,pgid=,comm="], capture_output=True, text=True, check=False
        )
        for line in listing.stdout.splitlines():
            pid, group, program = line.split(None, 2)
            yield int(pid), int(group), program
