"""The cases of the sweep: each distinct call of a recorded life, with each kind of fault that fits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tests.torture.calls import Call
from tests.torture.kinds import KINDS, Kind
from tests.torture.unseen import UNSEEN

#: What each phase types, in the order of a life; between `up` and `scale` the file asks for other workers.
PHASES = {
    "up": ("up",),
    "scale": ("up",),
    "list": ("list",),
    "down": ("down", "--wait", "--timeout", "240"),
}
#: So many faults that strike once, each another call, are borne by one command.
GROUP = 16


class Trial(Protocol):
    """One thing that goes wrong in one phase of a life."""

    @property
    def phase(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def kind_name(self) -> str: ...

    def is_named(self, text: str) -> bool:
        """Return whether a message says what went wrong."""
        ...


@dataclass(frozen=True)
class Case:
    """One call of one phase, and how it fails. `early` is True before the phase has changed anything."""

    phase: str
    call: Call
    kind: Kind
    early: bool

    @property
    def name(self) -> str:
        return f"{self.phase}/{self.call}/{self.kind.name}"

    @property
    def kind_name(self) -> str:
        return self.kind.name

    def is_named(self, text: str) -> bool:
        return self.kind.is_named(text, self.call)


_Some = TypeVar("_Some", bound=Trial)

#: What fails in one command.
Step = tuple[Trial, ...]
#: The steps of one life, by phase.
Itinerary = Mapping[str, Sequence[Step]]


def enumerate_cases(recorded: Mapping[str, Sequence[Call]]) -> list[Case]:
    """Return every case of a recorded life: each distinct call of its phases, in the order in which they came first."""
    return [
        Case(phase, call, kind, early=not any(one.writes for one in calls[: calls.index(call) + 1]))
        for phase, calls in recorded.items()
        for call in dict.fromkeys(calls)
        for kind in KINDS
        if kind.fits(call) and _makes_sense(kind, call, calls)
    ]


def _makes_sense(kind: Kind, call: Call, calls: Sequence[Call]) -> bool:
    first = calls.index(call)
    if kind.name == "unseen":
        # Of a thing that is not made yet, nobody can expect to see it.
        maker = UNSEEN[call.service, call.action].made_by
        last = len(calls) - 1 - list(reversed(calls)).index(call)
        return any(one.action.startswith(maker) for one in calls[:last])
    if kind.name.startswith("clock"):
        # The clock is off for a whole command: each client meets it at its first call.
        return call.client not in {one.client for one in calls[:first]}
    return True


def sample(cases: Sequence[_Some], number: int) -> list[_Some]:
    """Return so many cases, spread evenly over all."""
    if number >= len(cases):
        return list(cases)
    return [cases[(2 * place + 1) * len(cases) // (2 * number)] for place in range(number)]


def plan_lives(cases: Iterable[Case]) -> list[dict[str, list[Step]]]:
    """Return itineraries in which each case has its command, in as few lives as that takes.

    A cluster is made once in a life, so that one fault that strikes while it is made needs a life of its own; what
    fails before anything is made may go before it. The same holds for its end.
    """
    steps = _steps(cases)
    late = {
        phase: [step for step in some if not all(case.early for case in step) or step[0].kind.passes]
        for phase, some in steps.items()
        if phase in ("up", "down")
    }
    number = max(1, *(len(some) for some in late.values()))
    lives: list[dict[str, list[Step]]] = [{phase: [] for phase in PHASES} for _ in range(number)]
    for phase in PHASES:
        early = [step for step in steps[phase] if step not in late.get(phase, [])]
        for place, step in enumerate(early):
            lives[place % number][phase].append(step)
        for life, step in zip(lives, late.get(phase, []), strict=False):
            life[phase].append(step)
    return lives


def alone(cases: Iterable[Trial]) -> list[dict[str, list[Step]]]:
    """Return itineraries in which each case is alone in its phase."""
    by_phase: dict[str, list[Trial]] = {phase: [] for phase in PHASES}
    for case in cases:
        by_phase[case.phase].append(case)
    number = max(map(len, by_phase.values()))
    return [
        {phase: [(some[place],)] if place < len(some) else [] for phase, some in by_phase.items()}
        for place in range(number)
    ]


def apart(cases: Iterable[Trial]) -> list[dict[str, list[Step]]]:
    """Return itineraries in which each case is alone in its life, and so the only one to blame."""
    return [{case.phase: [(case,)]} for case in cases]


def _steps(cases: Iterable[Case]) -> dict[str, list[tuple[Case, ...]]]:
    steps: dict[str, list[tuple[Case, ...]]] = {phase: [] for phase in PHASES}
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.kind.passes:
            groups.setdefault((case.phase, case.kind.name), []).append(case)
        else:
            steps[case.phase].append((case,))
    for (phase, _), group in groups.items():
        steps[phase] += [tuple(group[start : start + GROUP]) for start in range(0, len(group), GROUP)]
    return steps
