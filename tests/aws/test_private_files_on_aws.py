"""Files that may hold a secret: for their owner alone from the first byte on, in folders that are his alone."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awskit import Project

pytestmark = pytest.mark.real

#: What may be shared: what goes into git, and what says which provider was installed.
SHARED = re.compile(
    r"(\.gitignore|\.terraform\.lock\.hcl|\S+\.tf|\S+\.sh|cluster\.json|daft-init|providers\.lock|\.terraform/.*)$"
)
#: Python tells of each file before it opens it, and of nearly all else that it does: what was just made is looked at
#: before anything can become of it. A umask that keeps nothing from anybody shows what each file was made as.
WATCH = """\
import os, stat, sys
os.umask(0)
waiting, busy = set(), False
def look(event, arguments):
    global busy
    if busy:
        return
    busy = True
    try:
        for path in [path for path in waiting if os.path.lexists(path)]:
            modes = [stat.S_IMODE(os.lstat(one).st_mode) for one in (path, os.path.dirname(path))]
            with open(os.environ["WATCH_LOG"], "a") as log:
                log.write(f"{modes[0]:o} {modes[1]:o} {path}\\n")
            waiting.discard(path)
        if event == "open" and isinstance(arguments[0], str) and arguments[2] & os.O_CREAT:
            path = os.path.abspath(arguments[0])
            if path.startswith(tuple(os.environ["WATCH"].split(":"))) and not os.path.lexists(path):
                waiting.add(path)
    finally:
        busy = False
sys.addaudithook(look)
"""


@pytest.fixture(scope="module")
def watched(
    new_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Path]]:
    """A user's folder, and where it is noted which files the program makes in it and in the cache, and as what."""
    place = tmp_path_factory.mktemp("watch")
    (place / "sitecustomize.py").write_text(WATCH)
    project = new_project("watched", setup={"number_of_workers": 1}, access={})
    cache = place / "cache"
    watch = {"PYTHONPATH": str(place), "WATCH": f"{project.root}:{cache}", "WATCH_LOG": str(place / "log")}
    project.environ = {**project.environ, **watch, "XDG_CACHE_HOME": str(cache)}
    yield project, place / "log"
    project.daft("down", "--wait")


def test_what_may_hold_a_secret_is_closed_from_its_first_byte(watched: tuple[Project, Path]) -> None:
    project, log = watched
    assert project.up().status == 0
    project.write(number_of_workers=2)
    assert project.daft("up", "--plan", "--out", "saved.tfplan").status == 0
    around = set(_around(log, project.root))
    # As git checks out a root that was committed: closed before a state comes into it.
    project.terraform_root.chmod(0o755)
    assert project.up("--from-plan", "saved.tfplan").status == 0
    on_disk = set(_on_disk(project.root, Path(project.environ["XDG_CACHE_HOME"])))
    assert project.daft("down", "--wait").status == 0

    private = {(_name(path), mode) for mode, _, path in _made(log) if not SHARED.search(_name(path))}
    assert private == {
        (name, "600")
        for name in (
            "PID.tfplan",
            "apply.jsonl",
            "daft.lock",
            "destroy.jsonl",
            "id_ed25519",
            "init.jsonl",
            "operator.auto.tfvars.json",
            "plan.jsonl",
            "saved.tfplan",
            "terraform.tfstate",
            "tmp",
        )
    }
    assert around == {"700"}
    written = ("apply.jsonl", "init.jsonl", "plan.jsonl", "terraform.tfstate", "terraform.tfstate.backup")
    assert on_disk == {(name, "600", "700") for name in written}


def _made(log: Path) -> list[list[str]]:
    """Return mode, folder's mode and path of each file that the program has made."""
    return [line.split(" ", 2) for line in log.read_text().splitlines()]


def _around(log: Path, root: Path) -> Iterator[str]:
    """Yield the modes of the folders; a plan that a user saves lies where he wants it."""
    for _, folder, path in _made(log):
        if not SHARED.search(_name(path)) and Path(path).parent != root:
            yield folder


def _name(path: str) -> str:
    """Return a file's name without what differs from run to run."""
    name = re.sub(r"^\.(.*)\.\d+$", r"\1", Path(path).name)
    name = re.sub(r"^\d+\.tfplan$", "PID.tfplan", name)
    return re.sub(r"^tmp\w{8}$", "tmp", name)


def _on_disk(*folders: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, mode and folder's mode of states and logs, whoever made them."""
    for path in (path for folder in folders for path in folder.rglob("*")):
        # Terraform's notes of the backend have the name of a state, and nothing of it.
        if (".tfstate" in path.name or path.suffix == ".jsonl") and path.parent.name != ".terraform":
            yield path.name, *(f"{stat.S_IMODE(one.stat().st_mode):o}" for one in (path, path.parent))
