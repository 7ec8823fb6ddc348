"""The state directory: one Terraform root for each cluster, and what lies in it."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daft_launcher.errors import StateError
from daft_launcher.instances import ProviderName
from daft_launcher.lock import ClusterLockedError
from daft_launcher.models import Cluster
from daft_launcher.rendered import REFERENCE_FILE, RenderedCluster, from_hcl, is_generated

OPERATOR_FILE = "operator.auto.tfvars.json"
PRIVATE_KEY = "id_ed25519"


@dataclass(frozen=True)
class StateDir:
    """The folder `.daft` of a project."""

    path: Path

    def root_of(self, name: str, provider: ProviderName) -> Path:
        """Return where a cluster's Terraform root lies.

        A local cluster has its own: one file may mean a cluster on AWS and its rehearsal here.
        """
        return self.path / (f"{name}.local" if provider == "local" else name)


@dataclass
class WrittenFiles:
    """What `write_rendered` changed, and how to take it back."""

    directory: Path
    before: dict[str, str | None] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        """The paths of the files whose text is new, sorted."""
        return sorted(self.before)

    def keep(self, name: str) -> None:
        """Have `restore` put back another file too, as it is now."""
        self.before[name] = _read(self.directory / name)

    def restore(self) -> None:
        """Put back what was there before."""
        for name, text in self.before.items():
            path = self.directory / name
            if text is None:
                path.unlink(missing_ok=True)
            elif name == OPERATOR_FILE:
                write_private(path, text)
            else:
                path.write_text(text, encoding="utf-8")
        for name in sorted(self.before, key=len, reverse=True):
            _remove_empty_parents(self.directory / name, self.directory.parent)


def changed_files(rendered: RenderedCluster, directory: Path) -> list[str]:
    """Return which files `write_rendered` would write or remove, sorted."""
    stale = [name for name in _generated_files(directory) if name not in rendered.files]
    return sorted([name for name, text in rendered.files.items() if _read(directory / name) != text] + stale)


def diff_rendered(rendered: RenderedCluster, directory: Path) -> str:
    """Return what `write_rendered` would change as a unified diff, empty when nothing."""
    lines: list[str] = []
    for name in changed_files(rendered, directory):
        before = (_read(directory / name) or "").splitlines(keepends=True)
        after = rendered.files.get(name, "").splitlines(keepends=True)
        lines += difflib.unified_diff(before, after, f"{directory}/{name}", f"{name} (would be written)")
    return "".join(lines)


def write_rendered(
    rendered: RenderedCluster, directory: Path, *, instead: str = "`--state-dir` or DAFT_STATE_DIR"
) -> WrittenFiles:
    """Write the generated files that changed, remove generated ones that are no more, and say which.

    `instead` is how the user names another place, for the hint of an error.
    Raises StateError, with nothing changed, when a file of somebody else is in the way or the disk refuses.
    """
    refuse_foreign(directory, rendered.files)
    written = WrittenFiles(directory)
    try:
        for name in changed_files(rendered, directory):
            path = directory / name
            written.before[name] = _read(path)
            if name in rendered.files:
                _write(path, rendered.files[name])
            else:
                path.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            written.restore()
        raise StateError(
            f"{error.filename or directory} cannot be written: {error.strerror}",
            hint=f"name another place with {instead}",
        ) from None
    return written


def write_generated(directory: Path, name: str, text: str) -> None:
    """Write one generated file of a root. Raises StateError when the disk refuses."""
    try:
        _write(directory / name, text)
    except OSError as error:
        raise StateError(f"{error.filename} cannot be written: {error.strerror}") from None


def write_operator_variables(directory: Path, variables: Mapping[str, object]) -> bool:
    """Keep this machine's own Terraform variables out of git, for the user alone; True when they changed.

    Raises StateError when the directory cannot be written.
    """
    path = directory / OPERATOR_FILE
    text = json.dumps(dict(sorted(variables.items())), indent=2) + "\n"
    if _read(path) == text:
        return False
    try:
        write_private(path, text)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None
    return True


def write_private(path: Path, content: str | bytes) -> None:
    """Replace a file in one step with one that only the user may read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_reference(directory: Path) -> dict[str, Any] | None:
    """Return the name, provider, region and profile that a root was generated for, None if none was."""
    try:
        reference = json.loads((directory / REFERENCE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (
        reference
        if isinstance(reference, dict) and {"name", "provider", "region"} <= set(reference)
        else None
    )


def was_applied(directory: Path) -> bool:
    """Return whether an apply has been begun in a root on this machine."""
    return (directory / "logs" / "apply.jsonl").exists()


def state_file(directory: Path) -> Path | None:
    """Return where a root keeps Terraform's state, None when that is not on this machine."""
    backend = _read(directory / "backend.tf") or 'backend "local"'
    if 'backend "local"' not in backend:
        return None
    path = re.search(r'^\s*path\s*=\s*(".*")$', backend, re.MULTILINE)
    return directory / (from_hcl(path[1]) if path else "terraform.tfstate")


def may_hold_resources(directory: Path) -> bool:
    """Return False only when Terraform's state certainly holds nothing; one that lies elsewhere may."""
    path = state_file(directory)
    if path is None:
        return True
    text = _read(path)
    if not text:
        return path.exists()
    try:
        return bool(json.loads(text)["resources"])
    except (ValueError, KeyError, TypeError):
        return True


def to_cluster(output: object, directory: Path) -> Cluster:
    """Return the cluster that a root's `cluster` output describes. Raises StateError when it does not."""
    try:
        values: Any = output
        return Cluster(
            name=values["name"],
            provider=values["provider"],
            region=values["region"],
            directory=directory,
            head_id=values["head_id"],
            head_address=values["head_address"],
            number_of_workers=values["number_of_workers"],
            ssh_user=values["ssh_user"],
        )
    except (KeyError, TypeError):
        raise StateError(
            f"Terraform's state in {directory} does not describe a whole cluster",
            hint="finish it with `daft up`, or remove what there is with `daft down`",
        ) from None


def refuse_foreign(directory: Path, names: Iterable[str]) -> None:
    """Raise StateError when one of these files in a root is there and was not generated here."""
    for name in names:
        path = directory / name
        try:
            if path.is_symlink() or (path.exists() and not (path.is_file() and is_generated(path))):
                raise StateError(
                    f"{path} is in the way: it was not generated here, and is never overwritten",
                    hint="move it away, or name another place with `--state-dir` or DAFT_STATE_DIR",
                )
        except OSError as error:
            raise StateError(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def plan_file_in(directory: Path) -> Iterator[Path]:
    """Yield where a root's plan may be kept while the context is open; it is gone afterwards."""
    path = directory.resolve() / f"{os.getpid()}.tfplan"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def made_directory(directory: Path, *, instead: str = "`--state-dir` or DAFT_STATE_DIR") -> Iterator[None]:
    """Make a directory that is closed to others, and take it away again if nothing came to lie in it but its lock."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{directory} cannot be made: {error.strerror}",
            hint=f"name another place with {instead}",
        ) from None
    try:
        yield
    except ClusterLockedError:
        # Whoever holds the lock made the same folder at the same time.
        raise
    except BaseException:
        _take_away(directory, missing)
        raise


def _take_away(directory: Path, made: Sequence[Path]) -> None:
    # From an apply on, this folder may hold the only record of what exists.
    if directory not in made or was_applied(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    for path in made[1:]:
        with contextlib.suppress(OSError):
            path.rmdir()


def _generated_files(directory: Path) -> Iterator[str]:
    """Yield the files that an earlier version of ours may have put here."""
    for pattern in ("*.tf", "modules/*/*"):
        for path in directory.glob(pattern):
            if path.is_file() and is_generated(path):
                yield path.relative_to(directory).as_posix()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def _remove_empty_parents(path: Path, stop: Path) -> None:
    for parent in path.parents:
        if parent == stop.parent:
            return
        try:
            parent.rmdir()
        except OSError:
            return
