"""The ports that use cases work through, played by values: each call is written down in one common order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daft_launcher.backend import Backend, find_declared
from daft_launcher.config import ClusterConfig
from daft_launcher.errors import TerraformError
from daft_launcher.instances import Instance, InstanceState, ProviderName, Role
from daft_launcher.models import (
    Cluster,
    HeadStatus,
    Offer,
    Plan,
    Rate,
    RayApi,
    ResourceChange,
    SshLogin,
    TaggedResource,
    TerraformEvent,
)
from daft_launcher.state_dir import StateDir
from daft_launcher.terraform_lock import StateLock
from daft_launcher.tools import Tools

AWS_HEAD = "module.cluster.aws_instance.head"
HEAD_CREATED = ResourceChange(address=AWS_HEAD, resource_type="aws_instance", action="create")
HEAD_REPLACED = ResourceChange(address=AWS_HEAD, resource_type="aws_instance", action="replace")
HEAD_UPDATED = ResourceChange(address=AWS_HEAD, resource_type="aws_instance", action="update")
WORKERS_UPDATED = ResourceChange(
    address="module.cluster.aws_autoscaling_group.workers",
    resource_type="aws_autoscaling_group",
    action="update",
)
OUTPUT = {
    "name": "demo",
    "provider": "aws",
    "region": "us-west-2",
    "head_id": "i-head",
    "head_address": "198.51.100.7",
    "number_of_workers": 2,
    "ssh_user": "ec2-user",
}

Step = BaseException | None


class FakeClock:
    """Time that passes only when somebody waits for it, and what happens at a time."""

    def __init__(self) -> None:
        self.time = 0.0
        self.at: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        for moment, do in [entry for entry in self.at if entry[0] <= self.time]:
            self.at.remove((moment, do))
            do()


def instance(
    role: Role = "head",
    instance_id: str = "i-head",
    state: InstanceState = InstanceState.RUNNING,
    **more: Any,
) -> Instance:
    values = {"cluster": "demo", "provider": "aws", "region": "us-west-2"} | more
    return Instance(role=role, instance_id=instance_id, state=state, **values)


@dataclass
class World:
    """One stage for all fakes. `calls` is what was asked of them, in order."""

    root: Path
    calls: list[Any] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    # the provider
    provider_name: ProviderName = "aws"
    account: str = "AWS account 123456789012"
    operator: dict[str, object] = field(default_factory=lambda: {"operator_cidrs": ["203.0.113.7/32"]})
    # What is found of another machine's, once a head of it is to be let go on.
    former_operator: dict[str, object] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    instances: list[Instance] | Exception = field(default_factory=list)
    statuses: list[tuple[float, HeadStatus | BaseException]] = field(default_factory=list)
    shutting_down: bool = False
    left: list[str] = field(default_factory=list)
    tagged: list[TaggedResource] = field(default_factory=list)
    login: SshLogin | None = None
    log: str | Exception = ""
    rates: dict[str, Rate | Exception] = field(default_factory=dict)
    rates_are_late: bool = False
    asked_for: list[tuple[str, str, str, str]] = field(default_factory=list)
    # Terraform
    version: str = "Terraform 1.11.4"
    # `plans` come before `plan`, each once.
    plan: Plan = field(default_factory=Plan)
    plans: list[Plan] = field(default_factory=list)
    on_plan: Callable[[Path], object] = lambda _: None
    plan_bytes: bytes = b"a plan"
    planned_on: Path | None = None
    state: dict[str, object] = field(default_factory=dict)
    fails: dict[str, BaseException] = field(default_factory=dict)
    outputs: dict[str, object] = field(default_factory=lambda: {"cluster": OUTPUT})
    plan_json: dict[str, Any] = field(default_factory=dict)
    plans_until_stopped: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    on_init: Callable[[], object] = lambda: None
    on_apply: Callable[[], object] = lambda: None
    # What the checks of the root find wrong after each apply.
    missing: list[list[str]] = field(default_factory=list)
    destroy_seconds: float = 3.0
    destroy_fails: BaseException | None = None
    # the states that lie in buckets, each by the name of its place, and what is unwise about those
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    unwise: list[str] = field(default_factory=list)
    on_lock: Callable[[], object] = lambda: None
    own_locks: set[str] = field(default_factory=set)
    on_break: Callable[[], object] = lambda: None
    on_push: Callable[[], object] = lambda: None
    # the reporter
    interactive: bool = False
    answer: bool = False

    @property
    def state_dir(self) -> StateDir:
        return StateDir(self.root / ".daft")

    @property
    def directory(self) -> Path:
        return self.state_dir.path / "demo"

    def tools(self) -> Tools:
        return Tools(
            state_dir=self.state_dir,
            provider=FakeProvider(self),
            open_terraform=self.open_terraform,
            open_bucket=self.open_bucket,
            reporter=FakeReporter(self),
            clock=self.clock,
            cache=self.root / "cache",
        )

    def open_terraform(self, directory: Path, lock: int | None) -> FakeTerraform:
        self.call("open_terraform", directory)
        assert lock is not None
        return FakeTerraform(self, directory)

    def open_bucket(self, backend: Backend) -> FakeBucket:
        return FakeBucket(self, backend)

    def call(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments) if arguments else name)
        if failure := self.fails.get(name):
            raise failure

    def tree(self) -> dict[str, str]:
        """Return everything under the state directory with its text, lock files without theirs."""
        return {
            path.relative_to(self.root).as_posix(): "" if path.name == "daft.lock" else path.read_text()
            for path in sorted(self.state_dir.path.rglob("*"))
            if path.is_file()
        }


class FakeProvider:
    """A cloud in which everything stands as the world says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = world.provider_name

    def check_access(self) -> None:
        self.world.call("check_access")

    def account(self) -> str:
        return self.world.account

    def operator_variables(self, directory: Path, *, shared: bool = False) -> Mapping[str, object]:
        self.world.call("operator_variables", directory, *(["shared"] if shared else []))
        return self.world.former_operator if shared and self.world.former_operator else self.world.operator

    def list_instances(self, cluster: str | None = None) -> list[Instance]:
        self.world.call("list_instances", cluster)
        if isinstance(self.world.instances, Exception):
            raise self.world.instances
        return self.world.instances

    def dead_resources(self, directory: Path) -> list[str]:
        self.world.call("dead_resources", directory)
        return self.world.dead

    def watch_head(self, cluster: Cluster, *, step_timeout: float) -> Iterator[HeadStatus]:
        self.world.call("watch_head", cluster, step_timeout)
        for seconds, status in self.world.statuses:
            self.world.clock.sleep(seconds)
            if isinstance(status, BaseException):
                raise status
            yield status

    def all_shutting_down(self, cluster: str) -> bool:
        self.world.call("all_shutting_down", cluster)
        return self.world.shutting_down

    def leftovers(self, cluster: str) -> list[str]:
        self.world.call("leftovers", cluster)
        return self.world.left

    def remove_leftovers(self, directory: Path) -> None:
        self.world.call("remove_leftovers", directory)
        self.world.left = []

    def tagged(self, cluster: str) -> list[TaggedResource]:
        self.world.call("tagged", cluster)
        return self.world.tagged

    def remove_strays(self, strays: Sequence[TaggedResource]) -> None:
        self.world.call("remove_strays", *(stray.id for stray in strays))

    def open_ray_api(
        self, cluster: Cluster, *, identity_file: Path | None = None, local_port: int | None = None
    ) -> AbstractContextManager[RayApi]:
        raise NotImplementedError

    def get_login(self, cluster: Cluster, *, identity_file: Path | None = None) -> SshLogin:
        self.world.call("get_login", cluster, identity_file)
        return self.world.login

    def read_bootstrap_log(self, cluster: Cluster, *, identity_file: Path | None = None) -> str:
        self.world.call("read_bootstrap_log", cluster, identity_file)
        if isinstance(self.world.log, Exception):
            raise self.world.log
        return self.world.log

    def find_rate(self, offer: Offer, *, cluster: str) -> Rate:
        # Not among the calls: they have an order, and prices are asked for beside them.
        self.world.asked_for.append((offer.kind, offer.type, offer.region, cluster))
        if self.world.rates_are_late:
            self.world.stopped.wait(30)
        rate = self.world.rates.get(offer.type, Rate(reason="nobody knows"))
        if isinstance(rate, Exception):
            raise rate
        return rate


class FakeTerraform:
    """A Terraform that does nothing but say what was asked of it."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory

    def init(self, *, reconfigure: bool = False) -> None:
        self.world.on_init()
        self.world.call("init", *(["reconfigure"] if reconfigure else []))

    @property
    def version(self) -> str:
        return self.world.version

    def plan(
        self,
        out: Path,
        *,
        replace: Sequence[str] = (),
        targets: Sequence[str] = (),
        lock: bool = True,
        state: Path | None = None,
    ) -> Plan:
        assert out.parent == self.directory.resolve()
        out.write_bytes(self.world.plan_bytes)
        out.chmod(0o600)
        self.world.planned_on = state
        self.world.call("plan", *([list(targets)] if targets else [list(replace), lock]))
        self.world.on_plan(self.directory)
        if self.world.plans_until_stopped:
            assert self.world.stopped.wait(30)
            raise TerraformError("interrupted")
        return self.world.plans.pop(0) if self.world.plans else self.world.plan

    def show(self, plan_file: Path) -> str:
        assert plan_file.read_bytes() == self.world.plan_bytes
        self.world.call("show")
        return "Terraform's own text\n"

    def show_json(self, plan_file: Path) -> Mapping[str, Any]:
        assert (plan_file.read_bytes(), plan_file.stat().st_mode & 0o777) == (self.world.plan_bytes, 0o600)
        actions = {"replace": ["delete", "create"]}
        changes = [
            {
                "address": change.address,
                "type": change.resource_type,
                "change": {"actions": actions.get(change.action, [change.action])},
            }
            for change in self.world.plan.changes
        ]
        return {"resource_changes": changes, **self.world.plan_json}

    def apply(self, plan_file: Path) -> Sequence[str]:
        assert plan_file.read_bytes() == self.world.plan_bytes
        (self.directory / "logs").mkdir(exist_ok=True)
        (self.directory / "logs" / "apply.jsonl").write_text("")
        self.world.on_apply()
        self.world.call("apply")
        return self.world.missing.pop(0) if self.world.missing else ()

    def pull_state(self) -> Mapping[str, object]:
        self.world.call("pull_state", self.place)
        return self.world.states.get(self.place, self.world.state)

    def forget(self, addresses: Sequence[str], *, state: Path | None = None) -> None:
        self.world.call("forget", list(addresses), *([state] if state else []))

    def try_lock(self) -> None:
        self.world.call("try_lock", self.place)
        self.world.on_lock()

    def break_own_lock(self, lock: StateLock) -> bool:
        if lock.lock_id not in self.world.own_locks:
            return False
        self.world.call("break_own_lock", lock.lock_id)
        self.world.on_break()
        return True

    def push_state(self, file: Path, *, force: bool = False) -> None:
        self.world.call("push_state", self.place, force)
        state = json.loads(file.read_text())
        if self.place not in self.world.states:
            state["lineage"] = f"new at {self.place}"  # as Terraform does
        self.world.states[self.place] = state
        self.world.on_push()

    @property
    def place(self) -> str:
        declared = find_declared(self.directory)
        assert declared is not None
        return declared.describe(self.directory)

    def stop(self) -> None:
        self.world.call("stop")
        self.world.stopped.set()

    def start_destroy(self) -> FakeDestroy:
        self.world.call("start_destroy")
        return FakeDestroy(self.world, self.directory / "logs" / "destroy.jsonl")

    def output(self) -> Mapping[str, object]:
        self.world.call("output")
        return self.world.outputs


class FakeBucket:
    """A bucket that says of itself what the world says."""

    def __init__(self, world: World, backend: Backend) -> None:
        self.world = world
        self.name = backend.settings["bucket"]

    def check(self) -> list[str]:
        self.world.call("check_bucket", self.name)
        return self.world.unwise

    def create(self, agree: Callable[[str], bool]) -> list[str]:
        raise NotImplementedError


class FakeDestroy:
    """A destroy that ends by itself after a while."""

    def __init__(self, world: World, log: Path) -> None:
        self.world = world
        self.log = log
        self.ends = world.clock.now() + world.destroy_seconds

    @property
    def running(self) -> bool:
        return self.world.clock.now() < self.ends

    def wait(self) -> object:
        self.world.call("wait")
        self.world.clock.sleep(max(0.0, self.ends - self.world.clock.now()))
        if self.world.destroy_fails:
            raise self.world.destroy_fails
        return None


class FakeReporter:
    """A reporter that writes down what the user would see."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def interactive(self) -> bool:
        return self.world.interactive

    def note(self, text: str) -> None:
        self.world.call("note", text)

    def warn(self, text: str) -> None:
        self.world.call("warn", text)

    def event(self, event: TerraformEvent) -> None:
        self.world.call("event", event)

    def planned(self, plan: Plan) -> None:
        self.world.call("planned")

    def head_status(self, status: HeadStatus, *, seconds: float) -> None:
        self.world.call("head_status", status.step, seconds)

    def confirm(self, question: str) -> bool:
        self.world.call("confirm", question)
        return self.world.answer


def config(provider: str = "aws", **setup: Any) -> ClusterConfig:
    return ClusterConfig.model_validate({"setup": {"name": "demo", "provider": provider, **setup}})
