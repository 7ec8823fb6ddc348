"""Whatever ends the lab's outer process, nothing of the lab stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.machine import wait_for


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_outer_process(how: signal.Signals, tmp_path: Path) -> None:
    # A lab in the lab: it needs no more than this one does. Whoever left it by setsid belongs to it all the same.
    sign = f"sleep {600 + how}"
    script = f"setsid {sign} & echo $! > {tmp_path}/started; wait"
    outer = subprocess.Popen([sys.executable, "-m", "tests.lab.enter", "bash", "-c", script])
    wait_for((tmp_path / "started").exists, "command in the lab")
    assert _running(sign)
    outer.send_signal(how)
    outer.wait(10)

    wait_for(lambda: not _running(sign), "end of the command", timeout=2)


def test_status_is_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.enter", "sh", "-c", "exit 7"], timeout=60, check=False
    )
    assert done.returncode == 7


def _running(sign: str) -> bool:
    words = f"{sign.replace(' ', chr(0))}\0".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == words:
                return True
        except OSError:  # it has just ended
            continue
    return False
