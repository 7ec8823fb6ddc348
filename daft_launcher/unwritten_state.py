"""A state that Terraform could not write to its place, and has left in the root: written after all, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daft_launcher.models import Reporter
from daft_launcher.remote_state import (
    DamagedStateError,
    State,
    read_document,
    read_state,
    set_aside,
    to_state,
)
from daft_launcher.tools import Terraform

#: Terraform's own name for it: developer.hashicorp.com/terraform/cli/commands/state/push
UNWRITTEN = "errored.tfstate"


@dataclass(frozen=True)
class _Unwritten:
    """The file, and the state that it holds; None where it is damaged."""

    path: Path
    state: State | None

    def continues(self, current: State) -> bool:
        """Return whether it says more than the state as it lies, of the same cluster."""
        if self.state is None or self.state.serial <= current.serial:
            return False
        return current.empty or self.state.lineage == current.lineage


def write_unwritten(directory: Path, terraform: Terraform, reporter: Reporter) -> None:
    """Write what Terraform could not write into the state of an initialised root, if it goes on from there.

    The file gets another name, and is never deleted. Raises TerraformError, with all as it was, when it cannot be
    written this time either.
    """
    found = _find(directory)
    if found is None:
        return
    if found.continues(read_state(directory, terraform)):
        terraform.push_state(found.path)
        aside = set_aside(found.path, "backup")
        reporter.note(f"wrote the state that Terraform could not write before; {aside} keeps it as it was")
    elif found.state:
        set_aside(found.path, "backup")
    else:
        aside = set_aside(found.path, "damaged")
        reporter.warn(
            f"{found.path}, the state that Terraform could not write, is damaged, and lies in {aside} now; "
            "what exists is found by its tags"
        )


def tell_unwritten(directory: Path, read_current: Callable[[], State], reporter: Reporter) -> None:
    """Say that `up` would first write what Terraform could not write. Changes nothing."""
    found = _find(directory)
    if found and found.continues(read_current()):
        reporter.note(
            f"`daft up` would first write {found.path}, the state that Terraform could not write; "
            "this plan is made without it"
        )


def _find(directory: Path) -> _Unwritten | None:
    path = directory / UNWRITTEN
    if not path.exists():
        return None
    try:
        return _Unwritten(path, to_state(read_document(path)))
    except DamagedStateError:
        return _Unwritten(path, None)
