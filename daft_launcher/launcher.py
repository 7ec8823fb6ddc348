"""The use cases that make and change a cluster: `up`, and `up --plan`, which touches nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from daft_launcher.errors import DaftLauncherError, Interrupted, StateError
from daft_launcher.lock import ClusterLockedError, lock_cluster
from daft_launcher.models import Clock, Cluster, Instance, InstanceState, Plan, Provider, Reporter
from daft_launcher.render import render_cluster
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import (
    StateDir,
    changed_files,
    may_hold_resources,
    read_reference,
    refuse_foreign,
    state_file,
    to_cluster,
    write_operator_variables,
    write_rendered,
)
from daft_launcher.survey import Survey

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

PRIVATE_KEY = "id_ed25519"
_DOWN_SECONDS = 600


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


@dataclass(frozen=True, kw_only=True)
class UpResult:
    """A cluster that takes jobs; `changed` is False when it already was as the configuration says."""

    cluster: Cluster
    changed: bool


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What `up` would do. `text` is Terraform's own; `head` is created, kept, updated, replaced or removed."""

    plan: Plan
    text: str
    files: tuple[str, ...]
    head: str


def up(config: ClusterConfig, tools: Tools, *, yes: bool, step_timeout: float) -> UpResult:
    """Create or converge a cluster and return when its head takes jobs; does not wait for workers.

    `yes` agrees beforehand to replacing the head. `step_timeout` is how many seconds the head may stay in one
    step of its bootstrap. Raises DaftLauncherError; until the plan is agreed to, nothing has been changed.
    """
    rendered = render_cluster(config)
    directory = _root_for(config, tools)
    refuse_foreign(directory, rendered.files)
    tools.provider.check_access()
    with _made(directory), _lock_after_down(directory, tools) as lock:
        terraform = tools.open_terraform(directory, lock)
        with _plan_file(directory) as plan_file:
            plan = _agreed_plan(rendered, directory, terraform, plan_file, tools, yes=yes)
            with _explaining_what_exists(config.setup.name, tools):
                if not plan.empty:
                    terraform.apply(plan_file)
                cluster = to_cluster(terraform.output().get("cluster"), directory)
                _wait_for_head(cluster, tools, step_timeout)
    return UpResult(cluster=cluster, changed=not plan.empty)


def plan(config: ClusterConfig, tools: Tools) -> PlanReport:
    """Return what `up` would do. Leaves the cluster and the state directory as they are.

    The plan is made in a copy of the root in the user's cache, with a copy of the state where that is local.
    """
    rendered = render_cluster(config)
    directory = _root_for(config, tools)
    refuse_foreign(directory, rendered.files)
    scratch = tools.cache / "plans" / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    with _made(scratch, instead="XDG_CACHE_HOME"), lock_cluster(scratch, command="daft up --plan") as lock:
        _copy_root(rendered, directory, scratch, tools)
        terraform = tools.open_terraform(scratch, lock)
        with (
            _plan_file(scratch) as plan_file,
            Survey(tools.provider, directory, stop=terraform.stop) as survey,
        ):
            terraform.init(reconfigure=True)
            # Nothing is written, so a remote state is read without its lock too.
            planned = terraform.plan(plan_file, lock=False)
            if dead := survey.dead_resources():
                planned = terraform.plan(plan_file, replace=dead, lock=False)
            # Terraform's own text keeps silent about drift that changes nothing; asking for it takes seconds.
            text = NO_CHANGES if planned.empty else terraform.show(plan_file)
    files = tuple(changed_files(rendered, directory))
    return PlanReport(plan=planned, text=text, files=files, head=_fate_of_head(planned))


NO_CHANGES = "No changes. Your infrastructure matches the configuration.\n"


def _root_for(config: ClusterConfig, tools: Tools) -> Path:
    """Return where the cluster's root lies. Raises StateError when another cluster of that name lives there."""
    setup = config.setup
    directory = tools.state_dir.root_of(setup.name, setup.provider)
    stored = read_reference(directory)
    if stored is None or setup.provider == "local" or stored["region"] == setup.region:
        return directory
    if not may_hold_resources(directory):
        return directory
    raise StateError(
        f"cluster `{setup.name}` was made in {stored['region']}, and the configuration now says {setup.region}: "
        "a cluster cannot move",
        hint="run `daft down` first (it goes by where the cluster is), or give the new one another name",
    )


def _agreed_plan(
    rendered: RenderedCluster,
    directory: Path,
    terraform: Terraform,
    plan_file: Path,
    tools: Tools,
    *,
    yes: bool,
) -> Plan:
    """Write the root, plan, and return the plan that the user agrees to; put everything back when there is none."""
    written = write_rendered(rendered, directory)
    try:
        write_operator_variables(directory, tools.provider.operator_variables(directory))
        dead = tools.provider.dead_resources(directory)
        terraform.init()
        planned = terraform.plan(plan_file, replace=dead)
        tools.reporter.planned(planned)
        _agree_to_replacing_head(planned, dead, tools.reporter, yes=yes)
    except BaseException:
        written.restore()
        raise
    return planned


@contextlib.contextmanager
def _lock_after_down(directory: Path, tools: Tools) -> Iterator[int]:
    """Hold the cluster's lock, after waiting for a `daft down` that still removes what was there before."""
    waits_until, told = tools.clock.now() + _DOWN_SECONDS, False
    with contextlib.ExitStack() as held:
        while True:
            try:
                lock = held.enter_context(lock_cluster(directory, command="daft up"))
                break
            except ClusterLockedError as error:
                if not error.held_by("daft down") or tools.clock.now() >= waits_until:
                    raise
                if not told:
                    tools.reporter.note(f"waiting for {error.holder} to end")
                told = True
                tools.clock.sleep(1)
        yield lock


def _agree_to_replacing_head(plan: Plan, dead: Sequence[str], reporter: Reporter, *, yes: bool) -> None:
    if _fate_of_head(plan) not in ("replaced", "removed") or yes:
        return
    if any(change.address in dead for change in plan.changes if _is_head(change.address)):
        return
    if not reporter.confirm("This replaces the head node and ends every job that runs on it. Go on?"):
        raise StateError(
            "the head node would be replaced and its running jobs ended; nothing was changed",
            hint="agree with `daft up --yes`, or look at it first with `daft up --plan`",
        )


def _fate_of_head(plan: Plan) -> str:
    fates = {"create": "created", "update": "updated", "replace": "replaced", "delete": "removed"}
    actions = [change.action for change in plan.changes if _is_head(change.address)]
    return fates[actions[0]] if actions else "kept"


def _is_head(address: str) -> bool:
    return address in ("module.cluster.aws_instance.head", "module.cluster.terraform_data.head")


def _wait_for_head(cluster: Cluster, tools: Tools, step_timeout: float) -> None:
    before = tools.clock.now()
    for status in tools.provider.watch_head(cluster, step_timeout=step_timeout):
        now = tools.clock.now()
        tools.reporter.head_status(status, seconds=now - before)
        before = now


@contextlib.contextmanager
def _explaining_what_exists(name: str, tools: Tools) -> Iterator[None]:
    """Add to a failure or an interruption what exists by now, and the commands that go on or go back."""
    try:
        yield
    except KeyboardInterrupt:
        message = f"interrupted; {_what_exists(name, tools)}"
        raise Interrupted(message, hint="go on with `daft up`, remove it with `daft down`") from None
    except DaftLauncherError as error:
        error.message += f"\n{_what_exists(name, tools)}"
        ways = "go on with `daft up`, or remove what exists with `daft down`"
        error.hint = f"{error.hint}; then {ways}" if error.hint else ways
        raise


def _what_exists(name: str, tools: Tools) -> str:
    try:
        alive = [node for node in tools.provider.list_instances(name) if _is_alive(node)]
    except DaftLauncherError as error:
        return f"what exists of `{name}` could not be listed: {error.message}"
    if not alive:
        return f"no instance of `{name}` exists; other resources of it may"
    return f"these exist: {', '.join(f'{node.role} {node.instance_id}' for node in alive)}"


def _is_alive(node: Instance) -> bool:
    return node.state not in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)


def _copy_root(rendered: RenderedCluster, directory: Path, scratch: Path, tools: Tools) -> None:
    # A key pair that `up` made is the cluster's; where there is none yet, the one planned with never leaves here.
    owner = directory if (directory / PRIVATE_KEY).exists() else scratch
    write_operator_variables(scratch, tools.provider.operator_variables(owner))
    local_state = 'backend "local"' in rendered.files["backend.tf"]
    if local_state:
        backend = (
            rendered.files["backend.tf"].partition("terraform {")[0]
            + 'terraform {\n  backend "local" {\n  }\n}\n'
        )
        rendered = replace(rendered, files={**rendered.files, "backend.tf": backend})
    write_rendered(rendered, scratch, instead="XDG_CACHE_HOME")
    copy = scratch / "terraform.tfstate"
    copy.unlink(missing_ok=True)
    source = state_file(directory)
    if local_state and source is not None and source.exists():
        shutil.copyfile(source, copy)
        copy.chmod(0o600)


@contextlib.contextmanager
def _plan_file(directory: Path) -> Iterator[Path]:
    path = directory.resolve() / f"{os.getpid()}.tfplan"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _made(directory: Path, *, instead: str = "`--state-dir` or DAFT_STATE_DIR") -> Iterator[None]:
    """Make a directory, and take it away again if nothing came to lie in it but its lock."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{directory} cannot be made: {error.strerror}",
            hint=f"name another place with {instead}",
        ) from None
    try:
        yield
    except BaseException:
        _take_away(directory, missing)
        raise


def _take_away(directory: Path, made: Sequence[Path]) -> None:
    # From an apply on, this folder may hold the only record of what exists.
    if directory not in made or (directory / "logs" / "apply.jsonl").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    for path in made[1:]:
        with contextlib.suppress(OSError):
            path.rmdir()
