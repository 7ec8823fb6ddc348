"""What the use cases work with: Terraform in one root, a provider, a reporter, a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daft_launcher.backend import Backend
from daft_launcher.models import Clock, Plan, Provider, Reporter
from daft_launcher.reach import USUAL_REACH, Reach
from daft_launcher.state_dir import StateDir
from daft_launcher.terraform_lock import StateLock


class RunningDestroy(Protocol):
    """A destroy that goes on by itself."""

    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""

    def wait(self) -> object:
        """Follow it to its end; raises TerraformError when it failed."""


class Bucket(Protocol):
    """The bucket of a state that lies elsewhere. Every method raises ProviderError when it is not to be used."""

    name: str

    def check(self) -> list[str]:
        """Return what is unwise about it, each as a sentence."""

    def create(self, agree: Callable[[str], bool]) -> list[str]:
        """Make it, or bring it into order, and return what was done; `agree` is asked before it changes another's."""


class Terraform(Protocol):
    """One Terraform root, as the use cases need it."""

    @property
    def version(self) -> str:
        """Which Terraform it is, in words."""

    def init(self, *, reconfigure: bool = False) -> None:
        """Install what the root needs, if anything has changed."""

    def plan(
        self,
        out: Path,
        *,
        replace: Sequence[str] = (),
        targets: Sequence[str] = (),
        lock: bool = True,
        state: Path | None = None,
    ) -> Plan:
        """Return what an apply would change, and save it; `state` is a copy of a local state to plan on."""

    def show(self, plan_file: Path) -> str:
        """Return a saved plan as text."""

    def show_json(self, plan_file: Path) -> Mapping[str, Any]:
        """Return a saved plan in Terraform's JSON form."""

    def apply(self, plan_file: Path) -> Sequence[str]:
        """Make what a saved plan says, and return what the root's checks find wrong with what came of it."""

    def start_destroy(self) -> RunningDestroy:
        """Start removing everything."""

    def output(self) -> Mapping[str, object]:
        """Return the outputs by name."""

    def pull_state(self) -> Mapping[str, object]:
        """Return the state as Terraform keeps it, an empty one where there is none."""

    def forget(self, addresses: Sequence[str], *, state: Path | None = None) -> None:
        """Take resources out of the state, or out of a copy of it, and leave them as they are."""

    def try_lock(self) -> None:
        """Take the state's lock and give it back. Raises StateLockedError when somebody has it."""

    def break_own_lock(self, lock: StateLock) -> bool:
        """Break a lock that this root's Terraform took, and return whether it did; nothing may run in the root."""

    def push_state(self, file: Path, *, force: bool = False) -> None:
        """Write a state; without `force` only over an older one of the same line."""

    def stop(self) -> None:
        """End in order whatever runs in the root, and let nothing more start."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What every use case works with. `open_terraform` takes a root and the descriptor of its lock."""

    state_dir: StateDir
    provider: Provider
    open_terraform: Callable[[Path, int | None], Terraform]
    open_bucket: Callable[[Backend], Bucket]
    reporter: Reporter
    clock: Clock
    cache: Path
    reach: Reach = USUAL_REACH
