"""Waiting for whoever works on a cluster: said once with their name, and never without end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from daft_launcher.lock import ClusterLockedError, lock_cluster
from daft_launcher.models import Clock, Plan, Reporter
from daft_launcher.terraform_lock import STALE_SECONDS, StateLock, StateLockedError
from daft_launcher.tools import RunningDestroy, Terraform

# How long `up` and `down` wait: longer than either works on a cluster, the head's bootstrap included.
LOCK_TIMEOUT = 1800.0
_ASK_SECONDS = 1.0
_ASK_TERRAFORM_SECONDS = 3.0
# S3 does not take more locks than that in one command and lose the answer.
_BREAKS = 3

_Result = TypeVar("_Result")


class Patience:
    """How much longer this command waits for others, `seconds` in all; with 0 it waits for nobody."""

    def __init__(self, seconds: float, *, clock: Clock, reporter: Reporter, directory: Path) -> None:
        self._until = clock.now() + seconds
        self._clock = clock
        self._reporter = reporter
        self._directory = directory
        self._told: object = None
        self._broken = 0
        # A root that this command has made itself is gone when it fails.
        self._lasting = (directory / ".terraform").exists()

    @contextlib.contextmanager
    def hold(self, command: str) -> Iterator[int]:
        """Hold the cluster's lock on this machine. Raises ClusterLockedError when patience is at its end."""
        with contextlib.ExitStack() as held:
            while True:
                try:
                    lock = held.enter_context(lock_cluster(self._directory, command=command))
                    break
                except ClusterLockedError as error:
                    self.wait_for_holder(error)
            yield lock

    def wait_for_holder(self, error: ClusterLockedError) -> None:
        """Let a moment pass in which the holder of the lock may end. Raises `error` when none is left."""
        if self._is_over:
            raise error
        self._tell(error.holder, f"waiting for {error.holder or 'another process'}")
        self._clock.sleep(_ASK_SECONDS)

    def wait_for_state(self, error: StateLockedError) -> None:
        """Let a moment pass in which a state may be unlocked. Raises `error` when none is left.

        A lock that is older than anything takes is not waited for: nobody is left to end it.
        """
        stale = error.lock is not None and error.lock.age(_now()) > STALE_SECONDS
        if stale or self._is_over:
            error.hint = self._how_to_break(error.lock, stale=stale)
            raise error
        self._tell(error.lock, f"waiting for {error.lock or 'somebody else'} to unlock the state")
        self._clock.sleep(_ASK_TERRAFORM_SECONDS)

    def insist(self, terraform: Terraform, attempt: Callable[[], _Result]) -> _Result:
        """Return what an attempt with a Terraform returns once nobody else has locked the state."""
        while True:
            try:
                return self.past_own_lock(terraform, attempt)
            except StateLockedError as error:
                self.wait_for_state(error)

    def past_own_lock(self, terraform: Terraform, attempt: Callable[[], _Result]) -> _Result:
        """Return what an attempt returns; a lock that its root took, and that nobody holds, is broken for it.

        The root's lock on this machine must be held, so that nothing else works in the root. Raises StateLockedError
        when somebody else has locked the state.
        """
        while True:
            try:
                return attempt()
            except StateLockedError as error:
                if error.lock is None or self._broken == _BREAKS or not terraform.break_own_lock(error.lock):
                    raise
                self._broken += 1
                self._reporter.note(
                    f"broke a lock on the state that was taken here and that nobody holds: {error.lock}"
                )

    @property
    def _is_over(self) -> bool:
        return self._clock.now() >= self._until

    def _tell(self, holder: object, text: str) -> None:
        if self._told != (holder or text):
            self._reporter.note(f"{text}; Ctrl-C gives up")
        self._told = holder or text

    def _how_to_break(self, lock: StateLock | None, *, stale: bool) -> str:
        if lock is None:
            return "run the command again"
        place = self._directory
        command = f"terraform -chdir={place} force-unlock {lock.lock_id}"
        if not self._lasting:
            command = f"daft render && terraform -chdir={place} init && {command}"
        if stale:
            return (
                f"no command takes so long, so that its Terraform was likely killed. If it was: `{command}`"
            )
        return f"wait for it to end. Only if its Terraform was killed, break the lock: `{command}`"


class PatientTerraform:
    """A Terraform that waits for whoever has locked the state, as long as patience allows."""

    def __init__(self, terraform: Terraform, patience: Patience) -> None:
        self._terraform = terraform
        self._patience = patience
        self.init = terraform.init
        self.show = terraform.show
        self.show_json = terraform.show_json
        self.output = terraform.output
        self.pull_state = terraform.pull_state
        self.break_own_lock = terraform.break_own_lock
        self.try_lock = terraform.try_lock
        self.stop = terraform.stop

    @property
    def version(self) -> str:
        """Which Terraform it is, in words."""
        return self._terraform.version

    def plan(
        self,
        out: Path,
        *,
        replace: Sequence[str] = (),
        targets: Sequence[str] = (),
        lock: bool = True,
        state: Path | None = None,
    ) -> Plan:
        """Return what an apply would change, and save it."""
        return self._patience.insist(
            self._terraform,
            lambda: self._terraform.plan(out, replace=replace, targets=targets, lock=lock, state=state),
        )

    def forget(self, addresses: Sequence[str], *, state: Path | None = None) -> None:
        """Take resources out of the state."""
        self._patience.insist(self._terraform, lambda: self._terraform.forget(addresses, state=state))

    def apply(self, plan_file: Path) -> Sequence[str]:
        """Make what a saved plan says."""
        return self._patience.insist(self._terraform, lambda: self._terraform.apply(plan_file))

    def push_state(self, file: Path, *, force: bool = False) -> None:
        """Write a state."""
        self._patience.insist(self._terraform, lambda: self._terraform.push_state(file, force=force))

    def start_destroy(self) -> RunningDestroy:
        """Start removing everything; who waits for its end hears of a lock."""
        return self._terraform.start_destroy()


def _now() -> datetime:
    return datetime.now(timezone.utc)
