"""A job's folder as the zip that Ray unpacks on every node, and the command that Ray runs in it."""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import JobError, UsageError
from daft_launcher.job_zip import Entry, Skipped, printable, unreadable, vanished, write_zip
from daft_launcher.models import MAX_ARGUMENT_BYTES

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["MAX_PACKAGE_BYTES", "JobPackage", "Skipped", "build_package", "check_folder", "choose_entrypoint"]

# Ray's dashboard refuses a request body of exactly this size and larger ones.
MAX_PACKAGE_BYTES = 100 * 1024 * 1024

_IGNORE_FILES = (".gitignore", ".rayignore")
# fmt: off
_NEVER_SENT = {
    ".daft", ".DS_Store", ".git", ".hg", ".ipynb_checkpoints", ".mypy_cache", ".nox", ".pytest_cache",
    ".ruff_cache", ".svn", ".terraform", ".tox", "__pycache__",
}
_SECRET_NAMES = {
    ".aws", ".git-credentials", ".netrc", ".pgpass", ".pypirc", ".ssh",
    "id_dsa", "id_ecdsa", "id_ed25519", "id_rsa",
}
# fmt: on
_SECRET_SUFFIXES = (".pem", ".key", ".ppk", ".p12", ".pfx")
_ENV_TEMPLATES = (".example", ".sample", ".template", ".dist")


@dataclass(frozen=True, kw_only=True)
class JobPackage:
    """A zip in a temporary file, named by its content. `with` removes the file in the end."""

    uri: str
    path: Path
    size: int
    files: int
    skipped: tuple[Skipped, ...] = ()

    def close(self) -> None:
        """Remove the temporary file."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> JobPackage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """One ignore file; its patterns are relative to `prefix`."""

    kind: str
    prefix: str
    spec: GitIgnoreSpec


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A folder still to be read; `inside` holds it and the real paths above it, to see links in circles."""

    prefix: str
    path: Path
    rules: tuple[_Rules, ...]
    inside: frozenset[Path]


def choose_entrypoint(words: Sequence[str], command: str | None, folder: Path) -> str:
    """Return the shell command of a job: the words of the command line, else the config's, else `main.py`."""
    if words:
        check_text("the command", line := shlex.join(words))
        return line
    if command and command.strip():
        return command
    if stat.S_ISREG(_mode(folder / "main.py")):
        return "python main.py"
    raise UsageError(
        f"no command to run: `{folder}` has no main.py",
        hint="write it after `--` (daft submit -w FOLDER -- python job.py), or as `command` under [run] in "
        "the configuration, or name the script main.py",
    )


def check_text(what: str, text: str) -> None:
    """Raise UsageError for what Linux hands no program as an argument or variable, or Ray cannot put into JSON."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8, and Ray takes nothing else") from None
    if size > MAX_ARGUMENT_BYTES:
        raise UsageError(
            f"{what} has {size:,} bytes, and no node takes more than {MAX_ARGUMENT_BYTES:,}",
            hint="put it into a file of the folder that is sent",
        )


def build_package(folder: Path, *, limit: int = MAX_PACKAGE_BYTES) -> JobPackage:
    """Zip a folder for Ray; the same content gets the same `uri`, wherever and whenever it is packed.

    Raises UsageError when there is nothing to pack, and JobError when a file cannot be read or the zip would
    reach `limit` bytes.
    """
    check_folder(folder)
    scan = _Scan(folder)
    if not scan.entries:
        raise JobError(
            f"nothing in `{folder}` is left to send to the cluster",
            hint="its ignore files and what is never sent (.git, virtual environments, keys) cover all of it",
        )
    path = None
    try:
        handle, name = tempfile.mkstemp(prefix="daft-package-", suffix=".zip")
        path = Path(name)
        with os.fdopen(handle, "wb") as file:
            written = write_zip(file, folder, scan.entries, limit=limit)
    except BaseException as error:
        if path is not None:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(folder, error) from error
        raise
    return JobPackage(
        uri=f"gcs://_ray_pkg_{written.digest[:16]}.zip",
        path=path,
        size=path.stat().st_size,
        files=written.files,
        skipped=tuple(sorted((*scan.skipped, *written.skipped), key=lambda skipped: skipped.path)),
    )


def _unwritable(folder: Path, error: OSError) -> JobError:
    return JobError(
        f"the package of `{folder}` cannot be written to a temporary file: {error.strerror or error}",
        hint="the environment variable TMPDIR names another place for temporary files",
    )


def check_folder(folder: Path) -> None:
    """Raise UsageError unless there is a folder with something in it."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        raise UsageError(
            f"there is no folder `{folder}`", hint="-w names the folder that the job needs"
        ) from None
    except OSError as error:
        raise unreadable(folder, error) from error
    if not stat.S_ISDIR(mode):
        raise UsageError(
            f"`{folder}` is a file, and -w takes a folder",
            hint=f"-w {shlex.quote(str(folder.parent))} sends the folder that it is in",
        )
    if not _children(folder):
        raise UsageError(f"the folder `{folder}` is empty", hint="-w names the folder that the job needs")


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


class _Scan:
    """What of a folder belongs into the zip (`entries`, sorted), and what was left out (`skipped`)."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self.entries: list[Entry] = []
        self.skipped: list[Skipped] = []
        pending = [_Folder(prefix="", path=folder, rules=(), inside=frozenset({self._root}))]
        while pending:
            pending += self._read(pending.pop())
        self.entries.sort(key=lambda entry: entry.name)

    def _read(self, folder: _Folder) -> Iterator[_Folder]:
        """Add a folder's files to `entries` and yield the folders in it."""
        children = _children(folder.path)
        rules = (*folder.rules, *_load_rules(folder))
        if not children and folder.prefix:
            self.entries.append(Entry(name=folder.prefix, path=folder.path, size=0))
        for child in children:
            name = folder.prefix + child.name
            is_folder = stat.S_ISDIR(_mode(child))
            if _never_sent(child, is_folder=is_folder) or _is_ignored(rules, name, is_folder=is_folder):
                continue
            reason = _refusal(name) or self._link_refusal(child, folder.inside)
            if reason:
                self._skip(name, reason)
            elif is_folder:
                yield _Folder(
                    prefix=f"{name}/", path=child, rules=rules, inside=folder.inside | {child.resolve()}
                )
            else:
                self._add_file(name, child)

    def _add_file(self, name: str, path: Path) -> None:
        try:
            status = path.stat()
        except FileNotFoundError:
            self.skipped.append(vanished(name))
        except OSError as error:
            raise unreadable(path, error) from error
        else:
            if stat.S_ISREG(status.st_mode):
                # The file itself, so that no link has to be followed once the folder was looked through.
                real = path.resolve() if path.is_symlink() else path
                self.entries.append(Entry(name=name, path=real, size=status.st_size))
            else:
                self._skip(name, "neither a file nor a folder (a socket, pipe or device)")

    def _link_refusal(self, path: Path, inside: frozenset[Path]) -> str | None:
        """Return why a symbolic link cannot be sent as what it points to, or None."""
        if not os.path.islink(path):  # noqa: PTH114 - pathlib's raises for a path that is too long or closed
            return None
        try:
            target = path.resolve(strict=True)
        except FileNotFoundError:
            return "a symbolic link to something that does not exist"
        except (OSError, RuntimeError):  # until Python 3.13, a link that points to itself is a RuntimeError
            return "a symbolic link that leads back to itself"
        if not target.is_relative_to(self._root):
            return "a symbolic link that points out of the folder"
        if target in inside:
            return "a symbolic link to a folder that it is in"
        hidden = target.relative_to(self._root).parts
        if any(part in _NEVER_SENT or _secret(part) for part in hidden):
            return "a symbolic link to something that is not sent"
        return None

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(Skipped(path=printable(name), reason=reason))


def _mode(path: Path) -> int:
    """Return what a path is, links followed, or 0 when that cannot be told."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _never_sent(path: Path, *, is_folder: bool) -> bool:
    return path.name in _NEVER_SENT or (is_folder and stat.S_ISREG(_mode(path / "pyvenv.cfg")))


def _secret(name: str) -> bool:
    name = name.lower()
    if name == ".env" or name.startswith(".env."):
        return not name.endswith(_ENV_TEMPLATES)
    return name in _SECRET_NAMES or name.endswith(_SECRET_SUFFIXES)


def _refusal(name: str) -> str | None:
    """Return why something may not be sent under this name, or None."""
    if _secret(name.rpartition("/")[2]):
        return "may hold a secret; `--env NAME=VALUE` gives one to a job"
    if printable(name) != name:
        return "its name is not UTF-8"
    if "\\" in name or name[1:2] == ":":
        return "Ray does not unpack such a name"
    return None


def _load_rules(folder: _Folder) -> Iterator[_Rules]:
    from pathspec import GitIgnoreSpec

    for kind in _IGNORE_FILES:
        path = folder.path / kind
        if not stat.S_ISREG(_mode(path)):  # a pipe would wait for somebody to write to it
            continue
        try:
            lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            yield _Rules(kind=kind, prefix=folder.prefix, spec=GitIgnoreSpec.from_lines(lines))
        except ValueError as error:
            raise JobError(f"`{path}` has a line that is no pattern: {error}", hint="correct it") from error


def _is_ignored(rules: Sequence[_Rules], name: str, *, is_folder: bool) -> bool:
    """Apply the ignore files as git does: the deepest file that says anything of a name decides."""
    for kind in _IGNORE_FILES:
        for rule in reversed(rules):
            if rule.kind != kind:
                continue
            verdict = rule.spec.check_file(name[len(rule.prefix) :] + "/" * is_folder).include
            if verdict:
                return True
            if verdict is not None:
                break
    return False
