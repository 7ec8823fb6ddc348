"""What git would do with a file: asked of git itself, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SECONDS = 5.0
# What `git check-ignore` ends with for a file in a working tree that git would take in.
_NOT_IGNORED = 1


def is_exposed(path: Path) -> bool:
    """Return whether a file lies in a git working tree that does not ignore it; False where git cannot be asked."""
    git = shutil.which("git")
    if git is None:
        return False
    try:
        done = subprocess.run(
            [git, "check-ignore", "--quiet", "--", path.name],
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == _NOT_IGNORED
