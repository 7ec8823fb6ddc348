"""The sweep of faults: every case of a recorded life, several lives side by side, and what came of each."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tests.torture.calls import Call
from tests.torture.cases import PHASES, Case, Itinerary, Trial, alone, apart, plan_lives
from tests.torture.disk import FullDiskLife
from tests.torture.events import Moment, record_moments
from tests.torture.kills import Kill, KilledLife
from tests.torture.life import Life, Outcome
from tests.torture.world import World

_Some = TypeVar("_Some", bound=Trial)


class Sweep:
    """A sweep in one world; `tell` hears of each life that has ended."""

    def __init__(self, world: World, *, jobs: int, tell: Callable[[str], None] = print) -> None:
        self._world = world
        self._jobs = jobs
        self._tell = tell
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.things: Mapping[str, int] | None = None
        #: How long each life took, in seconds.
        self.lives: list[float] = []
        #: What was left of clusters in the end.
        self.orphans: list[str] = []

    def record(self, kind: type[Life] = Life) -> Mapping[str, Sequence[Call]]:
        """Return the calls of each phase of a life without faults, in order. Raises AssertionError when that fails."""
        life = kind(self._world, f"recorded-{kind.__name__.lower()}", {})
        life.live()
        assert not life.trouble, life.trouble
        self.things = life.things
        return life.recorded

    def record_moments(self) -> Mapping[str, Sequence[Moment]]:
        """Return the moments of `up` and of `down`, undisturbed."""
        with self._world.project("moments") as (project, _):
            up = record_moments(project, PHASES["up"])
            self.things = self._world.count("moments")
            return {"up": up, "down": record_moments(project, PHASES["down"])}

    def run(self, cases: Sequence[Case], kind: type[Life] = Life) -> list[Outcome]:
        """Return the outcome of every case. One that shared a life with others is judged there only where it held."""
        return self._judge(cases, (plan_lives, plan_lives, alone, apart), kind)

    def run_kills(self, kills: Sequence[Kill]) -> list[Outcome]:
        """Return the outcome of every kill; there is one of a command in a life."""
        return self._judge(kills, (alone, apart), KilledLife)

    def run_full(self, kills: Sequence[Kill]) -> list[Outcome]:
        """Return the outcome of every full disk."""
        return self._judge(kills, (alone, apart), FullDiskLife)

    def _judge(
        self,
        trials: Sequence[_Some],
        plans: Sequence[Callable[[list[_Some]], Sequence[Itinerary]]],
        kind: type[Life],
    ) -> list[Outcome]:
        found: dict[Trial, Outcome] = {}
        for plan in plans:
            left = [trial for trial in trials if trial not in found or not found[trial].conclusive]
            if left:
                found |= {outcome.case: outcome for outcome in self._live(plan(left), kind)}
        return [found[trial] for trial in trials if trial in found]

    def _live(self, itineraries: Sequence[Itinerary], kind: type[Life]) -> list[Outcome]:
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            lives = [pool.submit(self._live_one, itinerary, kind) for itinerary in itineraries]
            return [outcome for life in lives for outcome in life.result()]

    def _live_one(self, itinerary: Itinerary, kind: type[Life]) -> list[Outcome]:
        begun = time.monotonic()
        with self._lock:
            name = f"t{next(self._numbers):04}"
        life = kind(self._world, name, itinerary, things=self.things)
        try:
            life.live()
        except Exception as error:
            # The kit's own trouble ends one life, and not the sweep: its cases are tried again.
            self._tell(f"{name}: {type(error).__name__}: {error}")
        with self._lock:
            self._note(name, life, time.monotonic() - begun)
        return life.outcomes

    def _note(self, name: str, life: Life, seconds: float) -> None:
        self.lives.append(seconds)
        self.orphans += life.left
        broken = [one for one in life.outcomes if one.broken]
        held = sum(one.held for one in life.outcomes)
        self._tell(f"{name}: {held} held, {len(broken)} broken, {life.commands} commands, {seconds:.0f} s")
        for one in life.outcomes:
            came = (
                "held" if one.held else one.broken[0].splitlines()[0][:200] if one.broken else "did not come"
            )
            self._tell(f"  {one.case.name}: {came}")
