"""What passes between the rooms: frozen values, and the ports that providers and tools implement.

Imports nothing of ours but what nodes are, so that every other module may import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from daft_launcher.instances import End, Instance, ProviderName

OfferKind = Literal["on-demand", "spot", "volume"]

# The name in a file that nobody has edited yet.
PLACEHOLDER = "CHANGE-ME"

# A role is called daft-<name>-<region>-<role> and IAM gives it 64 characters; Terraform, EC2 and launch
# templates allow more. Lower case only: IAM and macOS file systems take `Demo` and `demo` for one name.
NAME_PATTERN = r"^[a-z]([a-z0-9_-]{0,28}[a-z0-9])?$"

# Linux hands a program no argument and no variable of 131,072 bytes (MAX_ARG_STRLEN), and what we give it stands
# among other words.
MAX_ARGUMENT_BYTES = 100_000


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster as its Terraform outputs describe it; `directory` is its Terraform root."""

    name: str
    provider: ProviderName
    region: str
    directory: Path
    head_id: str
    head_address: str | None
    number_of_workers: int
    ssh_user: str | None = None
    ends: tuple[End, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeadStatus:
    """What the head last said of its bootstrap. `step` is one of booting, installing, setup, ready, failed.

    The first one of a watch may have the step `silent`: the head exists and has said nothing yet.
    """

    step: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RayApi:
    """An HTTP address at which Ray's dashboard and job API answer, and the token that they ask for."""

    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class SshLogin:
    """All that OpenSSH's client needs to reach a head node and to know it; `identity_file` None is the agent."""

    address: str
    user: str
    host_key: str
    identity_file: Path | None
    port: int = 22


@dataclass(frozen=True, kw_only=True, order=True)
class Offer:
    """Something with a price: an hour of an instance type, or a GB of a volume type for a month."""

    kind: OfferKind
    type: str
    region: str

    @property
    def unit(self) -> Literal["hour", "GB-month"]:
        """What the price is for."""
        return "GB-month" if self.kind == "volume" else "hour"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The price of an offer in US dollars, from `source` as of `day`; without `usd`, `reason` says why not."""

    usd: Decimal | None = None
    source: str = ""
    day: date | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TaggedResource:
    """Something that carries a cluster's tags.

    `name` is for people. `type` is Terraform's, None for what is on its way out or goes with another resource, `id`
    is what Terraform imports it by, `address` its place in the cluster's root, if it has one. `traits` keep it as is.
    """

    name: str
    type: str | None = None
    id: str = ""
    address: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """What differs from cloud to cloud. Every method raises ProviderError when the provider fails it."""

    name: ProviderName

    def check_access(self) -> None:
        """Raise unless this machine may act for the user, before anything is changed."""

    def account(self) -> str:
        """Return, in words, what holds its clusters apart from namesakes elsewhere."""

    def operator_variables(self, directory: Path, *, shared: bool = False) -> Mapping[str, object]:
        """Return the Terraform variables that belong to this machine and not into committed HCL.

        `shared` says that another machine may have made the cluster, whose key is then the cluster's.
        """

    def list_instances(self, cluster: str | None = None) -> list[Instance]:
        """Return the nodes of one cluster, or of all clusters."""

    def dead_resources(self, directory: Path) -> list[str]:
        """Return the Terraform addresses whose node has died without Terraform noticing."""

    def watch_head(self, cluster: Cluster, *, step_timeout: float) -> Iterator[HeadStatus]:
        """Yield each new status of the head until it is ready.

        Raises ProviderError when it fails, is gone, or stays over `step_timeout` seconds in one step.
        """

    def all_shutting_down(self, cluster: str) -> bool:
        """Return whether every node of a cluster has been asked to end and none can follow."""

    def leftovers(self, cluster: str) -> list[str]:
        """Return what is left of a cluster, each as a name that the user can look up."""

    def remove_leftovers(self, directory: Path) -> None:
        """Remove what a destroy has left because Terraform's state is lost, as far as this machine can."""

    def tagged(self, cluster: str) -> list[TaggedResource]:
        """Return what carries the tags of a cluster, and of that the parts that Terraform keeps by themselves."""

    def remove_strays(self, strays: Sequence[TaggedResource]) -> None:
        """Remove resources that must not be adopted: secrets, which would enter the state, and open ports."""

    def open_ray_api(
        self, cluster: Cluster, *, identity_file: Path | None = None, local_port: int | None = None
    ) -> AbstractContextManager[RayApi]:
        """Keep the head's job API and dashboard reachable from this machine while the context is open.

        With `local_port` it is reachable at exactly that port of 127.0.0.1; raises TunnelError when it is busy.
        """

    def get_login(self, cluster: Cluster, *, identity_file: Path | None = None) -> SshLogin:
        """Return how to log in to the head. Raises UsageError where it is this machine."""

    def read_bootstrap_log(self, cluster: Cluster, *, identity_file: Path | None = None) -> str:
        """Return the end of what the head wrote while it was set up."""

    def find_rate(self, offer: Offer, *, cluster: str) -> Rate:
        """Return what a part of this cluster costs; without a price, and with the reason, when that cannot be had.

        The one method that never raises ProviderError.
        """


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One of Terraform's own errors or warnings, whole."""

    severity: str
    summary: str
    detail: str = ""
    address: str | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class TerraformEvent:
    """One line of Terraform's JSON event stream. `kind` is Terraform's own `type`."""

    kind: str
    message: str
    address: str | None = None
    resource_type: str | None = None
    action: str | None = None
    elapsed_seconds: float | None = None
    diagnostic: Diagnostic | None = None
    changed_outputs: tuple[str, ...] = ()
    tainted: bool = False
    import_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """A planned change of one resource; `action` is create, update, replace or delete."""

    address: str
    resource_type: str
    action: str

    @property
    def of_head(self) -> bool:
        """Whether it is the head node that changes."""
        return self.address in ("module.cluster.aws_instance.head", "module.cluster.terraform_data.head")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What Terraform would do, from its JSON event stream."""

    changes: tuple[ResourceChange, ...] = ()
    outputs_change: bool = False
    # What is replaced because making it was broken off.
    tainted: tuple[str, ...] = ()
    # The ids of what exists and is taken in.
    imports: tuple[str, ...] = ()

    def count(self, action: str) -> int:
        """Return how many resources would see this action."""
        return sum(change.action == action for change in self.changes)

    @property
    def fate_of_head(self) -> str:
        """What becomes of the head node: created, kept, updated, replaced or removed."""
        fates = {"create": "created", "update": "updated", "replace": "replaced", "delete": "removed"}
        return next((fates[change.action] for change in self.changes if change.of_head), "kept")

    @property
    def makes_or_adopts(self) -> bool:
        """Whether something comes into the state."""
        return bool(self.count("create") or self.imports)

    @property
    def empty(self) -> bool:
        """Whether an apply would change nothing at all."""
        return not self.changes and not self.outputs_change and not self.imports


class Reporter(Protocol):
    """How a use case tells the user what is happening; the console implements it."""

    @property
    def interactive(self) -> bool:
        """Whether somebody can answer a question."""

    def note(self, text: str) -> None:
        """Say something in passing."""

    def warn(self, text: str) -> None:
        """Say something that may need the user."""

    def event(self, event: TerraformEvent) -> None:
        """Show one of Terraform's events as it comes."""

    def planned(self, plan: Plan) -> None:
        """Show what an apply is about to do, one line a kind of resource."""

    def head_status(self, status: HeadStatus, *, seconds: float) -> None:
        """Show the step that the head is in; `seconds` is how long the one before took."""

    def confirm(self, question: str) -> bool:
        """Ask; False where nobody can answer."""


class Clock(Protocol):
    """Time as the use cases need it, so that tests do not wait."""

    def now(self) -> float:
        """Return seconds since an arbitrary point; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
