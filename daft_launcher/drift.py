"""What somebody changed by hand, told from what the user changes, and from what a provider merely fills in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Path = tuple[str | int, ...]
# The provider's copy of `tags`, which says everything twice.
_MIRRORS = ("tags_all",)


@dataclass(frozen=True, kw_only=True)
class DriftedAttribute:
    """An attribute that was changed by hand; both values are None where they are secret."""

    path: str
    before: Any = None
    after: Any = None
    sensitive: bool = False


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A resource that was changed or removed by hand since the last apply."""

    address: str
    resource_type: str
    action: Literal["update", "delete"]
    attributes: tuple[DriftedAttribute, ...] = ()


def find_drift(plan: Mapping[str, Any]) -> tuple[Drift, ...]:
    """Return the drift that matters, from `resource_drift` of Terraform's JSON form of a plan.

    Drift matters when the plan would not be the same without it: the plan sets the attribute to another value
    than the one found, makes the object again that is gone, or Terraform names the attribute among those that
    led to a change (`relevant_attributes`, by which Terraform itself decides what to show). A value that is
    empty in another way than before (null, "", [], {}) is none that anybody has changed.
    """
    planned = {change["address"]: change["change"] for change in plan.get("resource_changes") or []}
    relevant: dict[str, list[Path]] = {}
    for attribute in plan.get("relevant_attributes") or []:
        relevant.setdefault(attribute["resource"], []).append(tuple(attribute["attribute"]))
    found = (
        _drift(drifted, planned.get(drifted["address"], {}), relevant.get(drifted["address"], []))
        for drifted in plan.get("resource_drift") or []
    )
    return tuple(sorted((drift for drift in found if drift), key=lambda drift: drift.address))


def _drift(drifted: Mapping[str, Any], planned: Mapping[str, Any], relevant: list[Path]) -> Drift | None:
    change = drifted["change"]
    address, resource_type = drifted["address"], drifted["type"]
    if change["actions"] == ["delete"]:
        gone = "create" in planned.get("actions", ())
        return Drift(address=address, resource_type=resource_type, action="delete") if gone else None
    attributes = tuple(
        _attribute(path, change)
        for path in _differing(change.get("before"), change.get("after"))
        if path[0] not in _MIRRORS
        if _is_set_again(path, planned) or any(path[: len(prefix)] == prefix for prefix in relevant)
    )
    if not attributes:
        return None
    return Drift(address=address, resource_type=resource_type, action="update", attributes=attributes)


def _attribute(path: Path, change: Mapping[str, Any]) -> DriftedAttribute:
    name = str(path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[1:])
    if _is_marked(change.get("before_sensitive"), path) or _is_marked(change.get("after_sensitive"), path):
        return DriftedAttribute(path=name, sensitive=True)
    return DriftedAttribute(
        path=name, before=_at(change.get("before"), path), after=_at(change.get("after"), path)
    )


def _is_set_again(path: Path, planned: Mapping[str, Any]) -> bool:
    """Whether a plan sets what lies at a path to a value that is known, and is not the one found."""
    if planned.get("actions", ["no-op"]) == ["no-op"] or not planned.get("after"):
        return False
    if _is_marked(planned.get("after_unknown"), path):
        return False
    return bool(list(_differing(_at(planned.get("before"), path), _at(planned["after"], path))))


def _differing(before: Any, after: Any, path: Path = ()) -> Iterator[Path]:  # noqa: ANN401 - any JSON
    """Yield where two values differ: into mappings and single blocks, and no further into lists, which may be sets."""
    if _is_empty(before) and _is_empty(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _differing(before.get(key), after.get(key), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) == 1:
        yield from _differing(before[0], after[0], (*path, 0))
    elif before != after:
        yield path


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return value is None or value in ("", [], {})


def _at(value: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _is_marked(marks: Any, path: Path) -> bool:  # noqa: ANN401 - Terraform's shape: true, or a tree with true at its ends
    return any(_at(marks, path[:length]) is True for length in range(len(path) + 1))
