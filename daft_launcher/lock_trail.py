"""The locks on a remote state that the Terraform of one root has tried to take, as it notes them down itself.

Where S3 takes a lock and the answer is lost, Terraform asks again, and takes its own lock for somebody else's. A lock
that stands here while nobody works in the root is held by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from daft_launcher.backend import find_declared
from daft_launcher.state_dir import write_private

# Terraform's own switches: whoever turns its logging on gets the log where they want it.
_LOGGING = ("TF_LOG", "TF_LOG_CORE", "TF_LOG_PATH")
_ATTEMPT = re.compile(r"Attempting to lock .*\btf_backend\.lock\.id=(\S+)")
_KEPT = 100


class LockTrail:
    """What the Terraform of one root notes down of its locks, in a file that only the user may read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "logs" / "locks.log"

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which Terraform notes its locks down, the same one where there are none to note."""
        backend = find_declared(self._directory)
        if backend is None or not backend.remote or any(environ.get(name) for name in _LOGGING):
            return dict(environ)
        try:
            self._shorten()
        except OSError:
            return dict(environ)
        return {**environ, "TF_LOG_CORE": "INFO", "TF_LOG_PATH": str(self._path.resolve())}

    def includes(self, lock_id: str) -> bool:
        """Return whether it was here that somebody tried to take a lock."""
        return lock_id in self._locks()

    def _locks(self) -> dict[str, str]:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        return {found[1]: line for line in lines if (found := _ATTEMPT.search(line))}

    def _shorten(self) -> None:
        """Keep what is noted of the last locks, and nothing else."""
        kept = [f"{line}\n" for line in list(self._locks().values())[-_KEPT:]]
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path, "".join(kept))
