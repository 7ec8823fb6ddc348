"""One instance as a machine: namespaces, an init, a disk, an SSH server, user data, and a plug to pull."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.lab import cgroups, network

_SCRIPT = Path(__file__).with_name("machine.sh")
_IMAGE = Path(__file__).with_name("image")
_UNSHARE = ("unshare", "-mpuifC", "--kill-child", "--propagation", "private")
_T = TypeVar("_T")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What EC2 and the image decide of a machine."""

    instance_id: str
    private: str
    public: str | None
    user: str
    public_key: str
    user_data: bytes
    endpoint: str
    delay: float
    init: str


class Machine:
    """A machine; `folder` keeps its disk until it is thrown away, and its logs for good."""

    def __init__(self, facts: Facts, folder: Path) -> None:
        self.facts = facts
        self.folder = folder
        self.name = facts.instance_id[:15]  # as long as the name of an interface can be
        self._unshare: subprocess.Popen[bytes] | None = None

    def start(self, facts: Facts | None = None) -> None:
        """Switch it on: for the first time, or again with the disk that it has and the address that it is given."""
        self.facts = facts or self.facts
        self._give_disk()
        network.plug_in(self.name, private=self.facts.private, public=self.facts.public)
        facts = self.facts
        words = (facts.private, facts.user, str(facts.delay), facts.endpoint, facts.init)
        with (self.folder / "console.log").open("ab") as console:
            self._unshare = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name),
                    *cgroups.inside(
                        self.name, *_UNSHARE, "bash", str(_SCRIPT), str(_IMAGE), str(self.folder)
                    ),
                    *words,
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={"PATH": _PATH},
            )

    def _give_disk(self) -> None:
        if self.folder.exists():
            return
        (self.folder / "disk").mkdir(parents=True)
        disk = ["mount", "-t", "tmpfs", "-o", "mode=755,size=8g", "machine", self.folder / "disk"]
        subprocess.run(disk, check=True)
        (self.folder / "user-data").write_bytes(self.facts.user_data)
        (self.folder / "authorized_keys").write_text(self.facts.public_key + "\n")

    @property
    def on(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def end(self) -> str | None:
        """Return how a machine ended by itself: "reboot", "halt" or "crash"; None while it is on or was killed."""
        if self._unshare is None or (status := self._unshare.poll()) is None:
            return None
        # How an init's end looks from outside its PID namespace: reboot(2), "Behavior inside PID namespaces".
        return {-signal.SIGHUP: "reboot", -signal.SIGINT: "halt"}.get(status, "crash")

    def kill(self) -> None:
        """Pull the plug: the kernel ends every process of the machine with its init. The disk stays."""
        if self._unshare is None:
            return
        self._unshare.kill()
        self._unshare.wait(10)
        self._unshare = None
        network.unplug(self.name)

    def throw_away(self) -> None:
        """Pull the plug, and the disk with it."""
        self.kill()
        if (self.folder / "disk").is_mount():
            subprocess.run(["umount", "--lazy", self.folder / "disk"], check=True)

    def run(
        self, *argv: str, user: str | None = None, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root or as an account of the machine."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        enter = ["nsenter", f"--target={self._init()}", "-m", "-n", "-p", "-u", "-i", "-C", "--root", "--wd"]
        return subprocess.run(
            [*enter, *become, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={"PATH": _PATH},
        )

    def read(self, path: str) -> str:
        """Return a file of the machine's."""
        done = self.run("cat", path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, name: str = "daft-bootstrap.log") -> str:
        """Return a file of /var/log, also when the machine is gone."""
        path = self.folder / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def console(self) -> str:
        """Return what the machine's init says."""
        return (self.folder / "console.log").read_text(errors="replace")

    def cut_ssh(self) -> int:
        """End every SSH connection to the machine, and return how many processes served them."""
        pids = (
            "self=$(cat /run/sshd.pid); for pid in $(pgrep -x sshd); do [ $pid = $self ] || echo $pid; done"
        )
        found = self.run("sh", "-c", pids).stdout.split()
        if found:
            self.run("kill", "-KILL", *found)
        return len(found)

    def _init(self) -> int:
        assert self._unshare is not None, f"{self.name} is off"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        return int(wait_for(lambda: children.read_text().split(), "the machine's init")[0])


def wait_for(look: Callable[[], _T], what: str, *, timeout: float = 30, pause: float = 0.1) -> _T:
    """Return what `look` returns once it is true."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} seconds"
        time.sleep(pause)
    return found
