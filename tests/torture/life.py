"""One life of a cluster under faults: made, scaled, listed and removed, and what of the law was broken."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.aws.awskit import Project
from tests.torture.calls import Call
from tests.torture.cases import PHASES, Case, Itinerary, Step, Trial
from tests.torture.proxy import FaultProxy, Rule
from tests.torture.world import World

#: A command that takes longer has no end.
BOUND = 900.0
WORKERS = 2


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status, None when it had to be killed, and what it said."""

    status: int | None
    out: str
    err: str
    seconds: float


@dataclass
class Outcome:
    """What became of one case. `broken` are the laws that did not hold, `shared` the cases that may be to blame too."""

    case: Trial
    struck: int
    ended: Ended
    broken: list[str] = field(default_factory=list)
    shared: int = 0

    @property
    def held(self) -> bool:
        return self.struck > 0 and not self.broken

    @property
    def conclusive(self) -> bool:
        """Whether no other case can be to blame."""
        return self.held or (self.struck > 0 and not self.shared)


def run(project: Project, *args: str, bound: float = BOUND) -> Ended:
    """Run the program to its end, or for `bound` seconds."""
    begun = time.monotonic()
    running = project.start(*args)
    try:
        status: int | None = running.process.wait(bound)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
        status = None
    return Ended(status, running.said(), running.words(), time.monotonic() - begun)


def judge_words(ended: Ended, step: Step) -> list[str]:
    """Return what is wrong with how a command ended under its faults."""
    if ended.status is None:
        return [f"no end within {BOUND:.0f} s"]
    broken = []
    if "Traceback" in ended.err or "has a fault" in ended.err:
        broken.append("it ends with a fault of the program's own")
    if ended.status == 0:
        return broken
    if ended.status != 1:
        broken.append(f"it ends with {ended.status}")
    return broken + judge_message(ended, step)


def judge_message(ended: Ended, step: Step, *, hint: bool = True) -> list[str]:
    """Return what a failure's message lacks; `hint` tells whether it needs one."""
    broken = []
    if not re.search("^(error|warning): ", ended.err, re.MULTILINE):
        broken.append("no error")
    if hint and "\nhint: " not in ended.err:
        broken.append("no hint")
    if not any(case.is_named(ended.err) for case in step):
        broken.append("the message does not name the cause")
    return broken


class Life:
    """One cluster from its making to its end."""

    def __init__(
        self, world: World, name: str, itinerary: Itinerary, *, things: Mapping[str, int] | None = None
    ) -> None:
        """`things` is how many of each kind of thing a cluster consists of; without it, what is there is taken."""
        self._world = world
        self._name = name
        self._itinerary = itinerary
        self._workers = WORKERS
        self.things = things
        self._whole = things is None
        #: The calls of each phase's last command, in order.
        self.recorded: dict[str, list[Call]] = {}
        self.outcomes: list[Outcome] = []
        self.commands = 0
        #: What did not come right in a phase without its fault, and what was left in the end.
        self.trouble: list[str] = []
        self.left: list[str] = []

    def live(self) -> None:
        """Go through all phases. What could not be reached has no outcome."""
        with self._project() as (project, proxy):
            self._world.make_foreign(self._name)
            right = self._phase("up", project, proxy)
            for phase in ("scale", "list"):
                if right and (self._itinerary.get(phase) or self._whole):
                    right = self._phase(phase, project, proxy)
            # What an earlier fault has spoilt is not the fault of a later one.
            self._phase("down", project, proxy, steps=self._itinerary.get("down", ()) if right else ())
            if not self._world.remove_foreign(self._name):
                self._blame(self.outcomes, "something that is not ours is gone")
            self.left = self._world.tagged(self._name)

    def _project(self) -> AbstractContextManager[tuple[Project, FaultProxy]]:
        return self._world.project(self._name)

    def _phase(
        self, phase: str, project: Project, proxy: FaultProxy, *, steps: Sequence[Step] | None = None
    ) -> bool:
        """Run a phase with all its faults, and then without; return whether the law holds in the end."""
        outcomes: list[Outcome] = []
        ended: Ended | None = None
        for step in self._itinerary.get(phase, ()) if steps is None else steps:
            ended, some = self._strike(phase, step, project, proxy)
            outcomes += some
        if ended is None and phase == "scale":
            self._scale(project)
        if ended is None or ended.status != 0:
            ended = self._command(phase, project, proxy, ())
        wrong = f"without a fault it ends with {ended.status}: {ended.err.strip()}" if ended.status else ""
        if wrong := wrong or self._wrong(phase, project):
            self._blame(outcomes, wrong)
            self.trouble.append(f"{phase}: {wrong}")
        self.outcomes += outcomes
        return not wrong

    def _strike(
        self, phase: str, step: Step, project: Project, proxy: FaultProxy
    ) -> tuple[Ended, list[Outcome]]:
        if phase == "scale":
            self._scale(project)
        rules = [Rule(case.call, case.kind) for case in step if isinstance(case, Case)]
        ended = self._command(phase, project, proxy, rules)
        outcomes = [
            Outcome(case, rule.strikes, ended, judge_words(ended, step), shared=len(step) - 1)
            for case, rule in zip(step, rules, strict=True)
        ]
        return ended, outcomes

    def _scale(self, project: Project) -> None:
        self._workers = WORKERS + 1 if self._workers == WORKERS else WORKERS
        project.write(number_of_workers=self._workers)

    def _command(self, phase: str, project: Project, proxy: FaultProxy, rules: Sequence[Rule]) -> Ended:
        self.commands += 1
        names = (self._name,) if phase == "list" else ()
        with proxy.during(rules) as record:
            ended = run(project, *PHASES[phase], *names)
        self.recorded[phase] = record.calls
        if proxy.troubles:
            raise RuntimeError(f"moto or the proxy failed, {len(proxy.troubles)} times: {proxy.troubles[0]}")
        return ended

    def _wrong(self, phase: str, project: Project) -> str:
        """Return what is not as it should be after a phase that ended well."""
        if phase == "down":
            left = self._world.tagged(self._name)
            return f"left are {', '.join(left)}" if left else ""
        nodes = self._world.nodes(project)
        if nodes != {"head": 1, "worker": self._workers}:
            return f"nodes: {nodes}, asked for: {self._workers}"
        counted = self._world.count(self._name)
        if self.things is None:
            self.things = counted
        expected = {**self.things, "i": 1 + self._workers}
        return f"there are {counted} in place of {expected}" if counted != expected else ""

    @staticmethod
    def _blame(outcomes: Sequence[Outcome], why: str) -> None:
        for outcome in outcomes:
            outcome.broken.append(why)
            outcome.shared = max(outcome.shared, len(outcomes) - 1)


class SharedLife(Life):
    """A life whose state lies in a bucket."""

    @contextlib.contextmanager
    def _project(self) -> Iterator[tuple[Project, FaultProxy]]:
        with super()._project() as (project, proxy):
            project.keep_state(type="s3", bucket=f"states-of-{self._name}")
            made = run(project, "backend", "create")
            assert made.status == 0, made.err
            yield project, proxy
