"""Run a command inside the lab: `python -m tests.lab.enter pytest tests/lab`, or nothing but `bash`.

The command lives in namespaces of its own, with no way out but the loopback device: no packet leaves this machine, no
port clashes with another program's, and the kernel ends and forgets all of it when the outer process dies, even by
SIGKILL. What has to come from the network is fetched before.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests import provider_mirror
from tests.lab import cgroups, index
from tests.provider_mirror import find_mirror, make_mirror

#: Set inside the lab: the folder with the packages.
VARIABLE = "DAFT_TEST_LAB"
_UNSHARE = ("unshare", "-mnpuif", "--kill-child", "--mount-proc", "--propagation", "private")
_PROGRAMS = {  # and the Debian packages that bring them
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "sudo": "sudo",
    "unshare": "util-linux",
    "useradd": "passwd",
    "/lib/systemd/systemd": "systemd",
    "/usr/bin/python3": "python3",
}


def main(words: list[str]) -> int:
    if words[:1] == ["--inside"]:
        return _inside(words[1:])
    if problem := find_obstacle():
        print(f"the lab cannot run here: {problem}", file=sys.stderr)
        return 1
    if VARIABLE not in os.environ:
        packages = index.collect()
        os.environ[VARIABLE] = str(packages)
        mirror = find_mirror(os.environ) or make_mirror(packages.with_name("providers"))
        os.environ[provider_mirror.VARIABLE] = str(mirror)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    here = [sys.executable, "-m", "tests.lab.enter", "--inside"]
    # unshare itself would ignore SIGTERM, and outlive this process.
    namespaces = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *_UNSHARE, *here, *(words or ["bash"])])
    _leave_to_the_command(signal.SIGINT, signal.SIGQUIT)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: namespaces.kill())
    return abs(namespaces.wait())


def find_obstacle() -> str | None:
    """Return why this machine cannot be a lab; None when it can."""
    if sys.platform != "linux":
        return "it is made of Linux namespaces"
    if os.geteuid() != 0:
        return "it needs root, for namespaces, overlay mounts and several users: try sudo"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = {package for program, package in _PROGRAMS.items() if not shutil.which(program, path=path)}
    if missing:
        return f"programs are missing: apt-get install {' '.join(sorted(missing))}"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        return f"the kernel or the container makes no namespaces: {tried.stderr.strip()}"
    return None


def _inside(command: list[str]) -> int:
    """Be the namespaces' init: run the command, bury what becomes an orphan, and end with the command's status."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Over the outside's: names of network namespaces, the SSH server's folder, locks.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "lab", "/run"], check=True)
    for folder in ("/run/netns", "/run/sshd", "/run/lock"):
        Path(folder).mkdir()
    tree = cgroups.open_tree()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _leave_to_the_command(signal.SIGINT, signal.SIGQUIT)
    child = os.spawnvp(os.P_NOWAIT, command[0], command)
    while True:
        pid, status = os.wait()
        if pid == child:
            cgroups.close_tree(tree)
            return abs(os.waitstatus_to_exitcode(status))


def _leave_to_the_command(*numbers: signal.Signals) -> None:
    # A terminal sends these to all its processes. Not SIG_IGN, which the command would inherit.
    for number in numbers:
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
