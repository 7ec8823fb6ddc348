"""A zip in which nothing but names, modes and content shows, and the digest of just these."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from daft_launcher.errors import JobError

_CHUNK_BYTES = 1 << 20
_DEFLATE_RATIO = 1032  # https://zlib.net/zlib_tech.html: nothing gets smaller than that


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file that goes into the zip, or a folder that has nothing in it (its name ends with `/`)."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file or folder that was left out although no ignore file names it."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of the entries: the digest of all that is in the zip, and the files that had gone."""

    digest: str
    files: int
    skipped: tuple[Skipped, ...]


def write_zip(file: IO[bytes], folder: Path, entries: Sequence[Entry], *, limit: int) -> Written:
    """Write the entries of `folder` in the order given.

    Raises JobError when one cannot be read, and as soon as `limit` bytes are written.
    """
    if sum(entry.size for entry in entries) // _DEFLATE_RATIO >= limit:
        raise _too_large(folder, entries, limit)
    writer = _Writer(file, folder, entries, limit)
    whole = hashlib.sha256()
    files = 0
    skipped = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            line = writer.add(archive, entry)
            if line is None:
                skipped.append(vanished(entry.name))
                continue
            whole.update(line.encode())
            files += not entry.name.endswith("/")
    writer.check_size()
    return Written(digest=whole.hexdigest(), files=files, skipped=tuple(skipped))


def vanished(name: str) -> Skipped:
    """Return the entry for a file that was there a moment ago."""
    return Skipped(path=printable(name), reason="vanished while the folder was being read")


def printable(name: str) -> str:
    """Return a file's name with what is not UTF-8 in it written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def unreadable(path: Path, error: OSError) -> JobError:
    """Return the error for a file or folder that the job needs and the user may not read."""
    return JobError(
        f"`{path}` cannot be read: {error.strerror}",
        hint="make it readable, or put it into a .rayignore if the job does not need it",
    )


def _changed(path: Path) -> JobError:
    return JobError(
        f"`{path}` changed while it was being read",
        hint="submit again, or put it into a .rayignore if the job does not need it",
    )


class _Writer:
    def __init__(self, file: IO[bytes], folder: Path, entries: Sequence[Entry], limit: int) -> None:
        self._file = file
        self._folder = folder
        self._entries = entries
        self._limit = limit

    def add(self, archive: zipfile.ZipFile, entry: Entry) -> str | None:
        """Write one entry and return its part of the digest, or None when the file has gone."""
        if entry.name.endswith("/"):
            archive.writestr(_zip_info(entry.name, stat.S_IFDIR | 0o755), b"")
            return f"{entry.name}\0"
        source = _open(entry)
        if source is None:
            return None
        with source:
            before = os.fstat(source.fileno())
            mode = stat.S_IFREG | (before.st_mode & 0o777)
            content = self._copy(source, archive, _zip_info(entry.name, mode), entry, size=before.st_size)
            after = os.fstat(source.fileno())
        # What is written at its end meanwhile, as to a log, leaves the part that was there as it was.
        if after.st_size <= before.st_size and after.st_mtime_ns != before.st_mtime_ns:
            raise _changed(entry.path)
        self.check_size()
        return f"{entry.name}\0{mode:o}\0{content}\0"

    def _copy(
        self, source: IO[bytes], archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: Entry, *, size: int
    ) -> str:
        """Write the first `size` bytes of a file and return their digest."""
        digest = hashlib.sha256()
        with archive.open(info, "w", force_zip64=True) as target:
            while size and (chunk := _read(source, entry, min(size, _CHUNK_BYTES))):
                size -= len(chunk)
                digest.update(chunk)
                target.write(chunk)
                self.check_size()
        return digest.hexdigest()

    def check_size(self) -> None:
        """Raise when the zip has become too large."""
        if self._file.tell() >= self._limit:
            raise _too_large(self._folder, self._entries, self._limit)


def _open(entry: Entry) -> IO[bytes] | None:
    """Return the file of an entry, or None when it has gone.

    What took its place since may be a pipe, which would wait for somebody to write to it, or lead out of the folder.
    """
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise _changed(entry.path) from error
        raise unreadable(entry.path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _changed(entry.path)
    return os.fdopen(descriptor, "rb")


def _read(source: IO[bytes], entry: Entry, size: int) -> bytes:
    try:
        return source.read(size) or b""
    except OSError as error:
        raise unreadable(entry.path, error) from error


def _zip_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, so that the mode means something wherever this runs
    info.external_attr = mode << 16
    return info


def _too_large(folder: Path, entries: Sequence[Entry], limit: int) -> JobError:
    total = sum(entry.size for entry in entries)
    largest = ", ".join(f"{printable(name)} ({_mebibytes(size)})" for name, size in _largest(entries)[:5])
    return JobError(
        f"`{folder}` holds {_mebibytes(total)} in {len(entries)} files; compressed it is over "
        f"{_mebibytes(limit)}, and Ray takes no more than that",
        hint=f"put what the job does not read into `{folder / '.rayignore'}`; the largest entries: {largest}",
    )


def _largest(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Return the entries of the folder by size, each narrowed to the place where nearly all of it is."""
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        parent = ""
        for part in entry.name.rstrip("/").split("/"):
            path = f"{parent}/{part}" if parent else part
            sizes[parent][path] += entry.size
            parent = path
    narrowed = [_narrow(name, size, sizes) for name, size in sizes[""].items()]
    return sorted(narrowed, key=lambda item: (-item[1], item[0]))


def _narrow(name: str, size: int, sizes: Mapping[str, Mapping[str, int]]) -> tuple[str, int]:
    while name in sizes:
        child, child_size = max(sizes[name].items(), key=lambda item: item[1])
        if child_size < 0.9 * size:
            return f"{name}/", size
        name, size = child, child_size
    return name, size


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
