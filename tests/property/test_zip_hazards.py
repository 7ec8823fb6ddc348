"""A folder that is hostile, or changes while it is packed: a zip of what was there, or words, and always an end."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from daft_launcher.errors import DaftLauncherError, JobError
from daft_launcher.job_package import _Scan, build_package
from daft_launcher.job_zip import Entry, write_zip
from tests.property.examples import bounded, count, inputs
from tests.property.hostile import CONTROLS, NO_UTF8, texts

LIMIT = 1 << 20
OUTSIDE = b"what lies outside of the folder"


def _name(text: str) -> str:
    """Return the nearest that may be the name of a file."""
    encoded = text.replace("/", "|").replace("\0", "").encode("utf-8", "surrogateescape")
    return encoded[:200].decode("utf-8", "surrogateescape")


_NAMES = texts(*CONTROLS, *NO_UTF8, longest=4).map(_name).filter(lambda name: name not in ("", ".", ".."))
_KINDS = [
    "file",
    "empty",
    "folder",
    "link out",
    "link in",
    "link up",
    "loop",
    "dead link",
    "pipe",
    "socket",
    "device",
]


def _make(path: Path, kind: str, outside: Path) -> None:
    """Put something of a kind where nothing is yet."""
    if kind == "file":
        path.write_bytes(os.fsencode(path.name))
    elif kind == "folder":
        path.mkdir()
        (path / "inner").write_bytes(b"inner")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        _socket(path)
    elif kind == "empty":
        path.touch()
    else:
        targets = {
            "link out": outside,
            "link in": "first",
            "link up": "..",
            "loop": path.name,
            "device": "/dev/zero",
        }
        path.symlink_to(targets.get(kind, "nowhere"))


def _socket(path: Path) -> None:
    """Make a socket, whose address is short wherever the folder lies."""
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/s")
        (path.parent / "s").rename(path)
    finally:
        os.close(here)


@inputs(150, children=st.dictionaries(_NAMES, st.sampled_from(_KINDS), max_size=8))
def test_a_folder_of_anything(children: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as top:
        folder, outside = Path(top, "job"), Path(top, "outside")
        folder.mkdir()
        outside.write_bytes(OUTSIDE)
        (folder / "first").write_bytes(b"first")
        for name, kind in children.items():
            if not os.path.lexists(folder / name):
                _make(folder / name, kind, outside)
        try:
            package = build_package(folder)
        except DaftLauncherError:
            return
        with package, zipfile.ZipFile(package.path) as archive:
            assert archive.testzip() is None
            for name in archive.namelist():
                if not name.endswith("/"):
                    assert archive.read(name) == (folder / name).read_bytes() != OUTSIDE
            sent = {name.split("/")[0] for name in archive.namelist()}
            left_out = {skipped.path for skipped in package.skipped}
            for name, kind in children.items():
                if kind in ("file", "empty", "folder") and not _is_left_to_rules(name):
                    assert name in sent or name.encode("utf-8", "backslashreplace").decode() in left_out, name


def _is_left_to_rules(name: str) -> bool:
    return name.startswith(".")


def _vanish(path: Path) -> None:
    path.unlink()


def _become(kind: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        _make(path, kind, path.parent.parent / "outside")

    return change


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda path: _replace(path, content)


def _replace(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


#: What may happen to a file once it was seen, or while it is read.
CHANGES: dict[str, Callable[[Path], None]] = {
    "vanishes": _vanish,
    "shrinks": _write(b""),
    "is written anew": _write(os.urandom(3 << 19)),
    "grows": _append,
    **{
        f"becomes {kind}": _become(kind)
        for kind in ("folder", "link out", "loop", "pipe", "socket", "device")
    },
    "becomes another": _become("file"),
}


#: Where nothing but words is true: what took the file's place is none, or one half of it was another's.
REFUSED = {
    *(("before", name) for name in CHANGES if name.startswith("becomes ") and name != "becomes another"),
    *(("while", name) for name in ("shrinks", "is written anew")),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes(tmp_path: Path, name: str, when: str) -> None:
    count()
    folder, path = tmp_path / "job", tmp_path / "job/data"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(OUTSIDE)
    content = os.urandom(3 << 19)
    path.write_bytes(content)
    entries = _Scan(folder).entries
    with bounded(10):
        if when == "before":
            CHANGES[name](path)
        target = Target(lambda: CHANGES[name](path) if when == "while" else None)
        if (when, name) in REFUSED:
            with pytest.raises(JobError, match="data` changed while it was being read"):
                write_zip(target, folder, entries, limit=LIMIT * 100)
            return
        written = write_zip(target, folder, entries, limit=LIMIT * 100)
    with zipfile.ZipFile(target) as archive:
        inside = {entry: archive.read(entry) for entry in archive.namelist()}
    if written.skipped:
        assert (inside, name, when) == ({}, "vanishes", "before")
    elif when == "before":
        assert inside == {"data": path.read_bytes()}
        assert inside["data"] != OUTSIDE
    else:  # what was opened is still what was there
        assert inside == {"data": content}


class Target(io.BytesIO):
    """Where a zip is written; once half a MiB has come, something happens."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self._happen = happen
        self._done = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        written = super().write(data)
        if not self._done and self.tell() > LIMIT // 2:
            self._done = True
            self._happen()
        return written


@pytest.mark.parametrize("name", [".gitignore", ".rayignore"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "loop", "dead link", "folder"])
def test_an_ignore_file_that_is_none(tmp_path: Path, name: str, kind: str) -> None:
    count()
    (tmp_path / "main.py").write_text("")
    _make(tmp_path / name, kind, tmp_path)
    with bounded(10), build_package(tmp_path) as package, zipfile.ZipFile(package.path) as archive:
        assert "main.py" in archive.namelist()


def test_a_hole_of_a_terabyte_is_refused_at_once(tmp_path: Path) -> None:
    count()
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    with (
        bounded(10),
        pytest.raises(JobError, match=r"holds 1048576\.0 MiB in 1 files; compressed it is over"),
    ):
        build_package(tmp_path)


def test_ten_thousand_files(tmp_path: Path) -> None:
    count()
    for number in range(10_000):
        (tmp_path / f"{number:05}").touch()
    with bounded(), build_package(tmp_path) as package, zipfile.ZipFile(package.path) as archive:
        assert archive.namelist() == [f"{number:05}" for number in range(10_000)]


def test_a_folder_deeper_than_paths_may_be_long(tmp_path: Path) -> None:
    count()
    here = os.open(tmp_path, os.O_RDONLY)
    name = "deeper" * 40
    for _ in range(20):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        with bounded(), pytest.raises(JobError, match="cannot be read: File name too long"):
            build_package(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / name], check=True)  # Python's own would go down too far


def test_the_list_of_changes_can_fail(tmp_path: Path) -> None:
    """A link that is followed would send what lies outside."""
    (tmp_path / "outside").write_bytes(OUTSIDE)
    (tmp_path / "data").symlink_to("outside")
    entry = Entry(name="data", path=tmp_path / "data", size=1)
    with pytest.raises(JobError, match="changed while it was being read"):
        write_zip(io.BytesIO(), tmp_path, [entry], limit=LIMIT)
