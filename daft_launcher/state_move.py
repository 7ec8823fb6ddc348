"""A cluster's state where the configuration wants it: found where it stands, and moved without losing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.backend import BACKEND_FILE, Backend, find_declared, find_recorded
from daft_launcher.errors import StateError
from daft_launcher.patience import Patience
from daft_launcher.remote_state import State, opened, pull_document, pull_state, to_state
from daft_launcher.render import backend_of, render_backend
from daft_launcher.state_dir import write_generated, write_private
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig


@dataclass(frozen=True, kw_only=True)
class Move:
    """The way of a state from one backend of a root to another."""

    source: Backend
    target: Backend
    directory: Path

    def is_needed(self, source: State, target: State) -> bool:
        """Return whether there is something to move. Raises StateError when another state is in the way."""
        if source.empty:
            return False
        if target.empty:
            return True
        if source.lineage == target.lineage:
            # Whoever moved it before has gone on from there.
            return source.serial > target.serial
        if source.is_same(target):
            # A move was cut short after Terraform had written it, and before it got back its lineage.
            return True
        raise StateError(
            f"{self.target.describe(self.directory)} holds another state than "
            f"{self.source.describe(self.directory)}, and one of the two would be lost",
            hint="give this cluster a `key` of its own in [backend], or put back the [backend] that it had",
        )

    def __str__(self) -> str:
        return f"from {self.source.describe(self.directory)} to {self.target.describe(self.directory)}"


def check_bucket(backend: Backend, tools: Tools, *, warn: bool) -> None:
    """Raise ProviderError when a state's bucket is not to be used; say what is unwise about it if asked."""
    if not backend.remote:
        return
    for warning in tools.open_bucket(backend).check():
        if warn:
            tools.reporter.warn(warning)


def find_backend_to_plan(config: ClusterConfig, directory: Path, tools: Tools) -> Backend:
    """Return where `up --plan` reads the state, and say when `up` would move it from there. Moves nothing.

    Raises StateError when the place that the configuration names holds another cluster's state.
    """
    wanted = backend_of(config)
    check_bucket(wanted, tools, warn=True)
    standing = find_recorded(directory) or find_declared(directory)
    if _is_known(wanted, directory):
        return wanted
    target = _target(config, wanted, directory, tools)
    if standing is None or standing.is_where(wanted):
        return wanted
    move = Move(source=standing, target=wanted, directory=directory)
    if move.is_needed(pull_state(standing, directory, tools), target):
        tools.reporter.note(f"`daft up` would move the state {move}")
        return standing
    return wanted


def settle_state(
    config: ClusterConfig, directory: Path, tools: Tools, patience: Patience, *, lock: int, yes: bool
) -> None:
    """Have a cluster's state where the configuration wants it, after asking where that means a move.

    What a run that was cut short has left is finished: the state is given up nowhere before it lies elsewhere.
    Raises StateError, with nothing changed, when the answer is no or the place holds another cluster's state.
    """
    wanted = backend_of(config)
    check_bucket(wanted, tools, warn=True)
    standing = find_recorded(directory) or find_declared(directory)
    if _is_known(wanted, directory):
        return
    target = _target(config, wanted, directory, tools)
    if standing is None or standing.is_where(wanted):
        return
    move = Move(source=standing, target=wanted, directory=directory)
    needed = move.is_needed(pull_state(standing, directory, tools), target)
    if needed:
        _ask(config.setup.name, move, tools, yes=yes)
    backup = _copy(move, tools, patience) if needed else None
    _adopt(move, tools, lock=lock, keep=backup is None)
    if backup:
        _tell(move, backup, tools)


def find_backend_to_leave(directory: Path, tools: Tools) -> Backend | None:
    """Return the backend by which a root is destroyed, None where there is no root.

    That is the one its files name, unless the state still lies where Terraform last used it.
    """
    declared, recorded = find_declared(directory), find_recorded(directory)
    if declared is None or recorded is None or recorded.is_where(declared):
        return declared
    source = pull_state(recorded, directory, tools)
    target = pull_state(declared, directory, tools)
    move = Move(source=recorded, target=declared, directory=directory)
    return recorded if move.is_needed(source, target) else declared


def adopt_for_destroy(backend: Backend | None, directory: Path) -> None:
    """Have a root's files name the backend at which its state lies."""
    if backend is not None and backend != find_declared(directory):
        write_generated(directory, BACKEND_FILE, render_backend(backend))


def _is_known(wanted: Backend, directory: Path) -> bool:
    """Return whether the state is where it was when Terraform last worked in this root; then nobody need look."""
    known = find_recorded(directory) or (None if wanted.remote else find_declared(directory))
    return known is not None and known.is_where(wanted)


def _target(config: ClusterConfig, wanted: Backend, directory: Path, tools: Tools) -> State:
    """Return what lies where the state is wanted. Raises StateError when that is another cluster's."""
    target = pull_state(wanted, directory, tools)
    setup = config.setup
    if target.empty or not wanted.remote:
        return target
    other_region = setup.provider == "aws" and target.region not in (None, setup.region)
    if not target.is_of_a_cluster or target.cluster not in (None, setup.name) or other_region:
        region = f" in {target.region}" if target.region else ""
        whose = f"cluster `{target.cluster}`{region}" if target.cluster else "something that is no cluster"
        raise StateError(
            f"{wanted.describe(directory)} holds the state of {whose}, and not of `{setup.name}` in {setup.region}",
            hint="give this cluster a `key` of its own in [backend]",
        )
    return target


def _ask(name: str, move: Move, tools: Tools, *, yes: bool) -> None:
    if yes or tools.reporter.confirm(f"The state of `{name}` moves {move}. Go on?"):
        return
    raise StateError(
        f"the state of `{name}` would move {move}; nothing was changed",
        hint="agree to it with `daft up --yes`, or put back the [backend] that it had",
    )


def _copy(move: Move, tools: Tools, patience: Patience) -> Path:
    """Write a state where it is wanted, and return the file that keeps it as it was."""
    with opened(move.source, move.directory, tools) as terraform:
        patience.insist(terraform, terraform.try_lock)
    document = pull_document(move.source, move.directory, tools)
    source = to_state(document)
    backup = _backup_path(move.directory)
    write_private(backup, json.dumps(document, indent=2) + "\n")
    with opened(move.target, move.directory, tools) as terraform:
        target = to_state(terraform.pull_state())
        if move.is_needed(source, target):
            if target.empty or target.lineage == source.lineage:
                patience.insist(terraform, lambda: terraform.push_state(backup))
            if target.lineage != source.lineage:
                # Terraform gives it a new lineage where there was no state, and its own only to one that is there.
                patience.insist(terraform, lambda: terraform.push_state(backup, force=True))
        written = to_state(terraform.pull_state())
    unchanged = to_state(pull_document(move.source, move.directory, tools)) == source
    if not written.is_same(source) or not unchanged:
        raise StateError(
            f"somebody else changed the state while it moved {move}",
            hint=f"run the command again; {backup} keeps it as it was",
        )
    return backup


def _backup_path(directory: Path) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    return directory / f"terraform.tfstate.{stamp}.backup"


def _adopt(move: Move, tools: Tools, *, lock: int, keep: bool) -> None:
    """Have a root use the state where it lies by now; with `keep` a file of it that is left here is set aside.

    Terraform takes a state file beside a backend that is new to it for one that is to be moved there.
    """
    directory = move.directory
    write_generated(directory, BACKEND_FILE, render_backend(move.target))
    if not move.source.remote:
        left = move.source.local_path(directory)
        if keep and left.exists():
            left.replace(_backup_path(directory))
        left.unlink(missing_ok=True)
    if (directory / "main.tf").exists():
        tools.open_terraform(directory, lock).init(reconfigure=True)


def _tell(move: Move, backup: Path, tools: Tools) -> None:
    tools.reporter.note(f"moved the state {move}; {backup} keeps it as it was")
    if move.source.remote:
        tools.reporter.warn(
            f"what lies at {move.source.describe(move.directory)} is out of date from now on: "
            "whoever has the old [backend] must take the new one"
        )
