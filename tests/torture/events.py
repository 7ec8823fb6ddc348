"""What happens while a command runs: what it says, and what its Terraform writes into its logs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.aws.awskit import Project, Running

_POLL_SECONDS = 0.01
#: Events that come closer to each other are one moment.
MOMENT_SECONDS = 0.3
# These come by the clock, and not because something has happened.
_TIMED = {"apply_progress", "provision_progress", "log"}
#: Who may be killed, by the name of the program that runs.
TARGETS = {"daft": "", "terraform": "terraform", "provider": r"terraform-provider-aws\S*"}


@dataclass(frozen=True)
class Moment:
    """An event by which a moment is known, and who was alive then."""

    event: str
    alive: tuple[str, ...]


class EventStream:
    """The events of one command, from before its start on."""

    def __init__(self, project: Project) -> None:
        self._logs = project.terraform_root / "logs"
        self._name = project.name
        self._read = {log: log.stat().st_size for log in self._logs.glob("*.jsonl")}
        self._said = 0

    def new(self, running: Running) -> Iterator[str]:
        """Return the events since the last time."""
        lines = running.words().splitlines()
        yield from (f"says/{self._plain(line)}" for line in lines[self._said :])
        self._said = len(lines)
        for log in sorted(self._logs.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
            yield from (f"{log.stem}/{event}" for event in self._new_in(log))

    def _plain(self, line: str) -> str:
        """Return what is said in every life: each has a name of its own."""
        return re.sub(r"\d+", "N", line.strip().replace(self._name, "NAME"))

    def _new_in(self, log: Path) -> Iterator[str]:
        size, position = log.stat().st_size, self._read.get(log, 0)
        if size < position:
            position = 0
        with log.open("rb") as file:
            file.seek(position)
            whole = file.read().rpartition(b"\n")[0]
        self._read[log] = position + len(whole) + bool(whole)
        for line in whole.splitlines():
            if event := _event(line):
                yield event


def follow(project: Project, args: Sequence[str], on_event: Callable[[Running, str], None]) -> Running:
    """Run a command to its end and tell of each event at once."""
    stream = EventStream(project)
    running = project.start(*args)
    deadline = time.monotonic() + 900
    while True:
        ended = running.process.poll() is not None
        for event in stream.new(running):
            on_event(running, event)
        if ended:
            return running
        if time.monotonic() > deadline:
            running.kill()
        time.sleep(_POLL_SECONDS)


def record_moments(project: Project, args: Sequence[str]) -> list[Moment]:
    """Run a command undisturbed and return its moments."""
    seen: set[str] = set()
    moments: list[Moment] = []
    last = 0.0

    def note(running: Running, event: str) -> None:
        nonlocal last
        now = time.monotonic()
        if event not in seen and now - last > MOMENT_SECONDS:
            alive = tuple(name for name in TARGETS if find_process(running.process.pid, name))
            moments.append(Moment(event, alive))
            last = now
        seen.add(event)

    running = follow(project, args, note)
    assert running.process.returncode == 0, running.words()
    return moments


def find_process(ancestor: int, target: str) -> int | None:
    """Return the process of a target that descends from a process of ours, None where there is none."""
    if target == "daft":
        return ancestor
    parents = dict(_parents())
    for pid in sorted(parents, reverse=True):
        if re.fullmatch(TARGETS[target], _name(pid)) and _descends(pid, ancestor, parents):
            return pid
    return None


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            yield int(entry.name), int(stat.rpartition(")")[2].split()[1])


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _event(line: bytes) -> str | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    kind = document.get("type")
    if kind is None or kind in _TIMED:
        return None
    about = (document.get("hook") or document.get("change") or {}).get("resource") or {}
    address = about.get("addr", "").replace("module.cluster.", "")
    return f"{kind}/{address}" if address else str(kind)
