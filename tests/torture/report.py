"""What a sweep has found: a table to read, and a document for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.torture.life import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Return how many cases were tried and how many held, by kind of fault and by phase."""
    kinds = _tally(outcomes, lambda one: one.case.kind_name)
    phases = _tally(outcomes, lambda one: one.case.phase)
    lines = [f"{'':16} tried   held"]
    lines += [f"{name:16} {tried:5} {held:6}" for name, tried, held in [*kinds, *phases]]
    lines.append(f"{'all':16} {len(outcomes):5} {sum(one.held for one in outcomes):6}")
    return "\n".join(lines)


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Return each case that did not hold, with the law that it broke and what the program said."""
    return [_describe(one) for one in outcomes if not one.held]


def document(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return each outcome as JSON has it."""
    return [
        {
            "case": one.case.name,
            "held": one.held,
            "struck": one.struck,
            "status": one.ended.status,
            "seconds": round(one.ended.seconds, 1),
            "broken": one.broken,
            "stderr": one.ended.err,
        }
        for one in outcomes
    ]


def write(path: Path, contents: Any) -> None:
    """Write a JSON document."""
    path.write_text(json.dumps(contents, indent=2) + "\n")


def _describe(outcome: Outcome) -> str:
    why = outcome.broken or ["the call did not come, so that it could not fail"]
    said = [line for line in outcome.ended.err.splitlines() if not line.startswith("  create ")]
    lines = [f"{outcome.case.name} (exit status {outcome.ended.status})", *why, "it said:", *said]
    return "\n    ".join(lines)


def _tally(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> list[tuple[str, int, int]]:
    tried = Counter(map(key, outcomes))
    held = Counter(key(one) for one in outcomes if one.held)
    return [(name, number, held[name]) for name, number in tried.items()]
