"""A folder as the zip that Ray gets: what is in it, what is not, how it is named, and what is refused."""

from __future__ import annotations

import codecs
import os
import random
import socket
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from daft_launcher.errors import JobError, UsageError
from daft_launcher.job_package import JobPackage, build_package, choose_entrypoint
from daft_launcher.job_zip import Skipped

# zipfile looks this up when it first needs it, and as nobody Python's own folder may be out of reach for good.
codecs.lookup("cp437")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job folder"
    folder.mkdir()
    return folder


def fill(folder: Path, *names: str) -> None:
    """Make files that hold their own name, and folders for names that end with a slash."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(name)
            path.chmod(0o644)


def listing(package: JobPackage) -> list[str]:
    with zipfile.ZipFile(package.path) as archive:
        return archive.namelist()


def packed(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names in the zip, and what was reported as left out."""
    with build_package(folder) as package:
        assert package.files == sum(not name.endswith("/") for name in listing(package))
        return listing(package), {skipped.path: skipped.reason for skipped in package.skipped}


@contextmanager
def as_nobody():
    """Act as a user who may not read what others have closed, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder():
    """A folder that any user of this machine may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_zip_holds_names_modes_and_content_and_nothing_else(folder: Path):
    fill(folder, "main.py", "lib/tool.sh", "lib/deep/er/données 日本.txt", "empty/", "lib/also empty/")
    (folder / "lib/tool.sh").chmod(0o755)
    with build_package(folder) as package, zipfile.ZipFile(package.path) as archive:
        entries = [
            (i.filename, oct(i.external_attr >> 16), i.date_time, i.compress_type) for i in archive.infolist()
        ]
        contents = {name: archive.read(name).decode() for name in archive.namelist()}
        assert package.size == package.path.stat().st_size
        assert (package.files, package.skipped) == (3, ())
    epoch = (1980, 1, 1, 0, 0, 0)
    assert entries == [
        ("empty/", "0o40755", epoch, zipfile.ZIP_DEFLATED),
        ("lib/also empty/", "0o40755", epoch, zipfile.ZIP_DEFLATED),
        ("lib/deep/er/données 日本.txt", "0o100644", epoch, zipfile.ZIP_DEFLATED),
        ("lib/tool.sh", "0o100755", epoch, zipfile.ZIP_DEFLATED),
        ("main.py", "0o100644", epoch, zipfile.ZIP_DEFLATED),
    ]
    assert contents == {name: "" if name.endswith("/") else name for name in contents}


def test_the_name_comes_from_the_content_alone(folder: Path, tmp_path: Path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    fill(folder, "b.py", "a/x.py")
    fill(other, "a/x.py", "b.py")
    os.utime(other / "b.py", (1, 1))
    with build_package(folder) as first, build_package(other) as second:
        assert first.path.read_bytes() == second.path.read_bytes()
        assert first.uri == second.uri
        assert first.uri.startswith("gcs://_ray_pkg_")
        assert first.uri.endswith(".zip")
        assert len(first.uri) == len("gcs://_ray_pkg_0123456789abcdef.zip")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "b.py").write_text("b"),
        lambda folder: (folder / "b.py").chmod(0o755),
        lambda folder: (folder / "b.py").rename(folder / "c.py"),
        lambda folder: (folder / "b.py").unlink(),
        lambda folder: (folder / "empty").rmdir(),
    ],
    ids=["content", "mode", "name", "removal", "empty folder"],
)
def test_any_change_gives_another_name(folder: Path, change):
    fill(folder, "a.py", "b.py", "empty/")
    with build_package(folder) as before:
        change(folder)
    with build_package(folder) as after:
        assert before.uri != after.uri


def test_with_removes_the_temporary_file(folder: Path):
    fill(folder, "main.py")
    with build_package(folder) as package:
        assert package.path.is_file()
    assert not package.path.exists()


def test_what_is_never_sent(folder: Path):
    fill(folder, "main.py", ".git/config", "sub/.git", ".daft/demo/main.tf", "__pycache__/a.pyc")
    fill(folder, "sub/__pycache__/a.pyc", ".venv/pyvenv.cfg", ".venv/bin/python", "sub/any name/pyvenv.cfg")
    fill(folder, ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", "sub/x.py", ".daft.toml", "pyvenv.cfg")
    assert packed(folder) == ([".daft.toml", "main.py", "pyvenv.cfg", "sub/x.py"], {})


def test_secrets_are_left_out_and_named(folder: Path):
    fill(folder, "main.py", ".env", "sub/.env.local", ".env.example", "a.pem", "sub/server.KEY", "id_rsa")
    fill(folder, "id_ed25519", "id_ed25519.pub", ".aws/credentials", ".ssh/config", "keys.py", ".environment")
    reason = "may hold a secret; `--env NAME=VALUE` gives one to a job"
    secrets = [".aws", ".env", ".ssh", "a.pem", "id_ed25519", "id_rsa", "sub/.env.local", "sub/server.KEY"]
    assert packed(folder) == (
        [".env.example", ".environment", "id_ed25519.pub", "keys.py", "main.py"],
        dict.fromkeys(secrets, reason),
    )


def test_a_secret_that_is_ignored_anyway_needs_no_warning(folder: Path):
    fill(folder, "main.py", ".env")
    (folder / ".gitignore").write_text(".env\n")
    assert packed(folder) == ([".gitignore", "main.py"], {})


def test_ignore_files_work_as_in_git(folder: Path):
    (folder / "sub").mkdir()
    (folder / ".gitignore").write_text(
        "# comment\n*.log\n!keep.log\n/build/\nsub/*.csv\n**/cache/\nname\\ \n\n"
    )
    (folder / "sub/.gitignore").write_text("*.tmp\n!special.log\n/only-here\n")
    fill(folder, "a.log", "keep.log", "sub/b.log", "sub/special.log", "build/x", "sub/build/x", "build.py")
    fill(folder, "sub/d.csv", "d.csv", "sub/deep/d.csv", "sub/deep/cache/x", "a.tmp", "sub/a.tmp", "name ")
    fill(folder, "sub/deep/a.tmp", "only-here", "sub/only-here", "sub/deep/only-here")
    assert packed(folder) == (
        [
            ".gitignore",
            "a.tmp",
            "build.py",
            "d.csv",
            "keep.log",
            "only-here",
            "sub/.gitignore",
            "sub/build/x",
            "sub/deep/d.csv",
            "sub/deep/only-here",
            "sub/special.log",
        ],
        {},
    )


def test_what_is_in_an_ignored_folder_stays_out_whatever_it_says_itself(folder: Path):
    fill(folder, "main.py", "data/x.bin")
    (folder / ".rayignore").write_text("data/\n!data/x.bin\n")
    (folder / "data/.gitignore").write_text("!*\n")
    assert packed(folder) == ([".rayignore", "main.py"], {})


def test_rayignore_and_gitignore_both_count(folder: Path):
    fill(folder, "main.py", "a.csv", "b.bin", "c.bin")
    (folder / ".gitignore").write_bytes(b"\xef\xbb\xbf*.csv\r\nc.bin\r\n\xff\n")
    (folder / ".rayignore").write_text("b.bin\n!c.bin\n")
    assert packed(folder) == ([".gitignore", ".rayignore", "main.py"], {})


def test_a_line_that_is_no_pattern_is_named(folder: Path):
    fill(folder, "main.py")
    (folder / ".gitignore").write_text("*.log\n!\n")
    with pytest.raises(JobError) as raised:
        build_package(folder)
    assert (
        raised.value.message
        == f"`{folder}/.gitignore` has a line that is no pattern: Invalid git pattern: '!'"
    )


def test_links_inside_the_folder_arrive_as_what_they_point_to(folder: Path):
    fill(folder, "real/a.py", "main.py")
    (folder / "link.py").symlink_to("real/a.py")
    (folder / "linked").symlink_to(folder / "real")
    names, skipped = packed(folder)
    assert (names, skipped) == (["link.py", "linked/a.py", "main.py", "real/a.py"], {})
    with build_package(folder) as package, zipfile.ZipFile(package.path) as archive:
        assert archive.read("link.py") == archive.read("linked/a.py") == b"real/a.py"


def test_other_links_are_left_out_and_named(folder: Path, tmp_path: Path):
    fill(folder, "main.py", "sub/x.py", ".env", ".git/config")
    fill(tmp_path, "outside.txt", "job folder 2/x")
    for name, target in {
        "out": tmp_path / "outside.txt",
        "twin": tmp_path / "job folder 2",
        "up": "..",
        "dangling": "nowhere",
        "self": "self",
        "sub/loop": "..",
        "here": ".",
        "leak": ".env",
        "history": ".git/config",
    }.items():
        (folder / name).symlink_to(target)
    outside = "a symbolic link that points out of the folder"
    circle = "a symbolic link to a folder that it is in"
    hidden = "a symbolic link to something that is not sent"
    assert packed(folder) == (
        ["main.py", "sub/x.py"],
        {
            ".env": "may hold a secret; `--env NAME=VALUE` gives one to a job",
            "out": outside,
            "twin": outside,
            "up": outside,
            "dangling": "a symbolic link to something that does not exist",
            "self": "a symbolic link that leads back to itself",
            "sub/loop": circle,
            "here": circle,
            "leak": hidden,
            "history": hidden,
        },
    )


def test_two_folders_that_link_to_each_other_end(folder: Path):
    fill(folder, "a/x", "b/y")
    (folder / "a/to-b").symlink_to("../b")
    (folder / "b/to-a").symlink_to("../a")
    names, skipped = packed(folder)
    assert names == ["a/to-b/y", "a/x", "b/to-a/x", "b/y"]
    assert sorted(skipped) == ["a/to-b/to-a", "b/to-a/to-b"]


def test_a_folder_that_is_itself_a_link(folder: Path, tmp_path: Path):
    fill(folder, "main.py")
    (tmp_path / "link").symlink_to(folder)
    assert packed(tmp_path / "link") == (["main.py"], {})


def test_what_is_no_file_is_left_out_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    fill(folder, "main.py")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        names, skipped = packed(folder)
    assert names == ["main.py"]
    assert skipped == dict.fromkeys(
        ["pipe", "socket"], "neither a file nor a folder (a socket, pipe or device)"
    )


def test_names_that_would_not_arrive_are_left_out_and_named(folder: Path):
    fill(folder, "main.py", "back\\slash", "c:drive", "sub/c:fine", "quote'\"$ \n.txt")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.bin")).write_text("")
    assert packed(folder) == (
        ["main.py", "quote'\"$ \n.txt", "sub/c:fine"],
        {
            "back\\slash": "Ray does not unpack such a name",
            "c:drive": "Ray does not unpack such a name",
            "\\udcff.bin": "its name is not UTF-8",
        },
    )


@pytest.mark.parametrize("closed", ["sub/closed.py", "sub/", ".gitignore"])
def test_what_cannot_be_read_is_named(public_folder: Path, closed: str):
    fill(public_folder, "main.py", "sub/closed.py", ".gitignore")
    (public_folder / closed).chmod(0)
    with as_nobody(), pytest.raises(JobError) as raised:
        build_package(public_folder)
    (public_folder / closed).chmod(0o755)
    assert raised.value.message == f"`{public_folder / closed}` cannot be read: Permission denied"
    assert raised.value.hint == "make it readable, or put it into a .rayignore if the job does not need it"


def test_a_folder_that_shows_names_and_no_more(public_folder: Path):
    fill(public_folder, "sub/main.py")
    (public_folder / "sub").chmod(0o644)
    with as_nobody(), pytest.raises(JobError) as raised:
        build_package(public_folder)
    (public_folder / "sub").chmod(0o755)
    assert raised.value.message == f"`{public_folder / 'sub/main.py'}` cannot be read: Permission denied"


def test_what_cannot_be_read_and_is_ignored_does_no_harm(public_folder: Path):
    fill(public_folder, "main.py", "closed/x", "closed.bin")
    (public_folder / ".rayignore").write_text("closed*\n")
    (public_folder / "closed").chmod(0)
    (public_folder / "closed.bin").chmod(0)
    with as_nobody():
        assert packed(public_folder) == ([".rayignore", "main.py"], {})
    (public_folder / "closed").chmod(0o755)


def test_a_package_that_is_too_large_names_the_largest_entries(folder: Path, tmp_path: Path, monkeypatch):
    noise = random.Random(1)
    fill(folder, "main.py", "data/a/", "models/")
    for name, kilobytes in {
        "data/a/big.bin": 600,
        "data/small.bin": 10,
        "models/m1": 100,
        "models/m2": 90,
    }.items():
        (folder / name).write_bytes(noise.randbytes(kilobytes * 1024))
    for number in range(6):
        (folder / f"n{number}").write_bytes(b"x" * number)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(JobError) as raised:
        build_package(folder, limit=512 * 1024)
    assert raised.value.message == (
        f"`{folder}` holds 0.8 MiB in 11 files; compressed it is over 0.5 MiB, "
        "and Ray takes no more than that"
    )
    assert raised.value.hint == (
        f"put what the job does not read into `{folder}/.rayignore`; the largest entries: "
        "data/a/big.bin (0.6 MiB), models/ (0.2 MiB), main.py (0.0 MiB), n5 (0.0 MiB), n4 (0.0 MiB)"
    )
    assert list(temporary.iterdir()) == []


def test_it_is_the_size_of_the_zip_that_counts(folder: Path):
    (folder / "zeros").write_bytes(bytes(4 << 20))
    with build_package(folder, limit=1 << 20) as package:
        assert package.size < 1 << 20
    with pytest.raises(JobError):
        build_package(folder, limit=package.size)
    build_package(folder, limit=package.size + 1).close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.rmdir(), "there is no folder `{folder}`"),
        (
            lambda folder: (folder.rmdir(), folder.write_text("")),
            "`{folder}` is a file, and -w takes a folder",
        ),
        (lambda folder: None, "the folder `{folder}` is empty"),
    ],
    ids=["missing", "file", "empty"],
)
def test_a_folder_that_cannot_be_meant(folder: Path, make, message: str):
    make(folder)
    with pytest.raises(UsageError) as raised:
        build_package(folder)
    assert raised.value.message == message.format(folder=folder)
    assert raised.value.hint


def test_nothing_left_to_send(folder: Path):
    fill(folder, ".git/config", "id_rsa")
    with pytest.raises(JobError, match="is left to send to the cluster"):
        build_package(folder)


def test_a_temporary_folder_that_takes_nothing(folder: Path, tmp_path: Path, monkeypatch):
    fill(folder, "main.py")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(JobError, match="cannot be written to a temporary file: No such file or directory"):
        build_package(folder)


def test_a_folder_of_one_folder_keeps_it(folder: Path):
    fill(folder, "package/main.py")
    assert packed(folder) == (["package/main.py"], {})


def test_skipped_is_sorted(folder: Path):
    fill(folder, "main.py", "z.pem", "a.pem")
    with build_package(folder) as package:
        assert [skipped.path for skipped in package.skipped] == ["a.pem", "z.pem"]
        assert isinstance(package.skipped[0], Skipped)


@pytest.mark.parametrize(
    ("words", "command", "entrypoint"),
    [
        (["python", "job.py", "a b", "$HOME", "it's", "line\nbreak", ""], "x",
         "python job.py 'a b' '$HOME' 'it'\"'\"'s' 'line\nbreak' ''"),
        ([], "python etl.py | tee out", "python etl.py | tee out"),
        ([], None, "python main.py"),
        ([], "  ", "python main.py"),
    ],
)  # fmt: skip
def test_the_entrypoint(folder: Path, words, command, entrypoint):
    fill(folder, "main.py")
    assert choose_entrypoint(words, command, folder) == entrypoint


def test_no_entrypoint(folder: Path):
    (folder / "main.py").mkdir()
    with pytest.raises(UsageError) as raised:
        choose_entrypoint([], None, folder)
    assert raised.value.message == f"no command to run: `{folder}` has no main.py"
    assert "--" in raised.value.hint
    assert "[run]" in raised.value.hint
    assert "main.py" in raised.value.hint
