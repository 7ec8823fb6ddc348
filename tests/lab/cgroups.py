"""Control groups for the machines' inits: a tree for this lab, below the root of the unified hierarchy.

No namespace ends with its groups in it, so a lab first removes what one that was killed has left.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path

_MOUNT = Path("/run/cgroup")
_PREFIX = "daft-lab."
_ENTER = 'echo 0 >"$0/cgroup.procs" && exec "$@"'


def open_tree() -> Path:
    """Make this lab's tree, with this process in it, and return where it is."""
    _MOUNT.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", _MOUNT], check=True)
    for left in _MOUNT.glob(f"{_PREFIX}*"):
        _remove(left)
    tree = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MOUNT))
    _join(tree / "lab")
    return tree


def close_tree(tree: Path) -> None:
    """Remove it, as far as nothing runs in it any more."""
    (_MOUNT / "cgroup.procs").write_text("0")
    _remove(tree)


def inside(name: str, *command: str) -> list[str]:
    """Return a command that runs another in a group of its own, made if need be."""
    (group := _tree() / name).mkdir(exist_ok=True)
    return ["sh", "-c", _ENTER, str(group), *command]


def _tree() -> Path:
    line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return _MOUNT / Path(line.removeprefix("0::/")).parts[-2]


def _join(group: Path) -> None:
    group.mkdir()
    (group / "cgroup.procs").write_text("0")


def _remove(group: Path) -> None:
    for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
