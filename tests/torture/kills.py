"""The sweep of kills: a signal to the program, to its Terraform or to the provider, at each moment of a command."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.aws.awskit import Project, Running, is_free, wait_until
from tests.torture.cases import PHASES, Step
from tests.torture.events import Moment, find_process, follow
from tests.torture.life import Ended, Life, Outcome, judge_message
from tests.torture.proxy import FaultProxy

_SIGNALS = ("KILL", "INT")
# Terraform lives on when the program is killed, and finishes what it has begun.
_SETTLED = 600.0
_NAMED = {
    "daft": "interrupted",
    "disk": "no space left",
    "terraform": "killed by|interrupt|cancel|halted",
    "provider": "did not respond|plugin|cancel|unavailable|EOF|connection",
}


@dataclass(frozen=True)
class Kill:
    """A signal to one process at one moment of a phase."""

    phase: str
    event: str
    target: str
    signal: str

    @property
    def kind_name(self) -> str:
        return f"{self.signal} {self.target}"

    @property
    def name(self) -> str:
        return f"{'disk' if self.target == 'disk' else 'kill'}/{self.phase}/{self.event}/{self.target}/{self.signal}"

    def is_named(self, text: str) -> bool:
        """Return whether a message says what has happened."""
        return bool(re.search(_NAMED[self.target], text, re.IGNORECASE))


def enumerate_kills(recorded: Mapping[str, Sequence[Moment]]) -> list[Kill]:
    """Return every kill: each moment of each command, with whoever was alive then."""
    return [
        Kill(phase, moment.event, target, name)
        for phase, moments in recorded.items()
        for moment in moments
        for target in moment.alive
        for name in _SIGNALS
    ]


class KilledLife(Life):
    """A life in which the commands are killed, and after each the next one has to go on."""

    def _strike(
        self, phase: str, step: Step, project: Project, proxy: FaultProxy
    ) -> tuple[Ended, list[Outcome]]:
        kill = step[0]
        assert isinstance(kill, Kill)
        struck: list[str] = []

        def on_event(running: Running, event: str) -> None:
            if event == kill.event and not struck and self._hit(kill, running):
                struck.append(event)

        self.commands += 1
        begun = time.monotonic()
        with proxy.during(()):
            running = follow(project, PHASES[phase], on_event)
            status = running.process.returncode
            ended = Ended(status, running.said(), running.words(), time.monotonic() - begun)
            broken = [*judge_end(ended, kill, exists=bool(self._world.tagged(self._name))), *_settle(project)]
        self._relieve()
        return ended, [Outcome(kill, len(struck), ended, broken)]

    def _hit(self, kill: Kill, running: Running) -> bool:
        """Do it, and return whether there was anybody to do it to."""
        pid = find_process(running.process.pid, kill.target)
        if pid is None:
            return False
        try:
            os.kill(pid, getattr(signal, f"SIG{kill.signal}"))
        except ProcessLookupError:
            return False
        return True

    def _relieve(self) -> None:
        """Put right what would stand in the way of the next command."""


def judge_end(ended: Ended, kill: Kill, *, exists: bool) -> list[str]:
    """Return what is wrong with how a command ended that was disturbed; `exists` tells whether anything is there.

    Who presses Ctrl-C before that knows what to do next.
    """
    if ended.status == 0 or (kill.target == "daft" and ended.status == -signal.SIGKILL):
        return []
    if "Traceback" in ended.err or "has a fault" in ended.err:
        return ["it ends with a fault of the program's own"]
    interrupted = (kill.target, kill.signal) == ("daft", "INT")
    expected = 130 if interrupted else 1
    broken = [] if ended.status == expected else [f"it ends with {ended.status}"]
    return broken + judge_message(ended, (kill,), hint=exists or not interrupted)


def _settle(project: Project) -> list[str]:
    """Wait until nothing works on the cluster any more; return what is wrong when that does not come."""
    lock = project.terraform_root / "daft.lock"
    try:
        wait_until(lambda: not lock.exists() or is_free(lock), timeout=_SETTLED)
    except AssertionError:
        return [f"the cluster is locked still, {_SETTLED:.0f} s later"]
    return []
