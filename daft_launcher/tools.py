"""What the use cases work with: Terraform in one root, a provider, a reporter, a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daft_launcher.models import Clock, Plan, Provider, Reporter
from daft_launcher.state_dir import StateDir


class RunningDestroy(Protocol):
    """A destroy that goes on by itself."""

    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""

    def wait(self) -> object:
        """Follow it to its end; raises TerraformError when it failed."""


class Terraform(Protocol):
    """One Terraform root, as the use cases need it."""

    def init(self, *, reconfigure: bool = False) -> None:
        """Install what the root needs, if anything has changed."""

    def plan(self, out: Path, *, replace: Sequence[str] = (), lock: bool = True) -> Plan:
        """Return what an apply would change, and save it."""

    def show(self, plan_file: Path) -> str:
        """Return a saved plan as text."""

    def show_json(self, plan_file: Path) -> Mapping[str, Any]:
        """Return a saved plan in Terraform's JSON form."""

    def apply(self, plan_file: Path) -> None:
        """Make what a saved plan says."""

    def start_destroy(self) -> RunningDestroy:
        """Start removing everything."""

    def output(self) -> Mapping[str, object]:
        """Return the outputs by name."""

    def stop(self) -> None:
        """End in order whatever runs in the root, and let nothing more start."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What every use case works with. `open_terraform` takes a root and the descriptor of its lock."""

    state_dir: StateDir
    provider: Provider
    open_terraform: Callable[[Path, int | None], Terraform]
    reporter: Reporter
    clock: Clock
    cache: Path
