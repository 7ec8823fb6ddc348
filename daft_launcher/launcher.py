"""The use case that makes and changes a cluster: `up`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.adoption import Planner, adopt_into, find_strays
from daft_launcher.backend import BACKEND_FILE, parse_backend
from daft_launcher.errors import DaftLauncherError, HeadFailedError, Interrupted, StateError
from daft_launcher.from_plan import check_saved, prepare_root, take_plan
from daft_launcher.instances import Instance, InstanceState
from daft_launcher.lifetimes import tell_limits
from daft_launcher.models import Cluster, Plan, Reporter, TaggedResource
from daft_launcher.patience import LOCK_TIMEOUT, Patience, PatientTerraform
from daft_launcher.remote_state import set_aside_damaged
from daft_launcher.render import render_cluster
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import (
    OPERATOR_FILE,
    made_directory,
    may_hold_resources,
    plan_file_in,
    read_reference,
    refuse_foreign,
    to_cluster,
    was_applied,
    write_operator_variables,
    write_rendered,
)
from daft_launcher.state_move import settle_state
from daft_launcher.terraform_lock import StalePlanError
from daft_launcher.tools import Terraform, Tools
from daft_launcher.unwritten_state import write_unwritten

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig
    from daft_launcher.saved_plan import SavedPlan

_LOG_LINES = 15
_PLANS = 3


@dataclass(frozen=True, kw_only=True)
class UpResult:
    """A cluster that takes jobs; `changed` is False when it already was as the configuration says."""

    cluster: Cluster
    changed: bool


def up(
    config: ClusterConfig,
    tools: Tools,
    *,
    yes: bool,
    step_timeout: float,
    lock_timeout: float = LOCK_TIMEOUT,
    saved: SavedPlan | None = None,
    settled: Callable[[], None] = lambda: None,
) -> UpResult:
    """Create or converge a cluster and return when its head takes jobs; does not wait for workers.

    `yes` agrees beforehand to replacing the head and to moving the state. `step_timeout` is how many seconds the
    head may stay in one step of its bootstrap, `lock_timeout` how many others who work on the cluster are waited for.
    `saved` is applied as it is, in place of a new plan; raises SavedPlanError when it cannot be. `settled` is called
    when all that is left is to put files away. Raises DaftLauncherError; until the plan is agreed to, nothing has been
    changed but where the state lies.
    """
    rendered = render_cluster(config)
    directory = find_root(config, tools)
    refuse_foreign(directory, rendered.files)
    tools.provider.check_access()
    if saved:
        check_saved(saved, config, rendered, directory, tools)
    patience = Patience(lock_timeout, clock=tools.clock, reporter=tools.reporter, directory=directory)
    with made_directory(directory), patience.hold("daft up") as lock:
        set_aside_damaged(directory, tools.reporter)
        settle_state(config, directory, tools, patience, lock=lock, yes=yes)
        terraform = PatientTerraform(tools.open_terraform(directory, lock), patience)
        with plan_file_in(directory) as plan_file:
            agree = functools.partial(
                _agreed_plan,
                config.setup.name,
                rendered,
                directory,
                terraform,
                plan_file,
                tools,
                yes=yes,
                saved=saved,
            )
            agreed = agree()
            with _explaining_what_exists(config.setup.name, tools):
                _apply(agreed, terraform, plan_file, tools, plan_again=agree, once=saved is not None)
                cluster = to_cluster(terraform.output().get("cluster"), directory)
                _wait_for_head(cluster, tools, step_timeout)
                tell_limits(config, tools)
                settled()
    return UpResult(cluster=cluster, changed=not agreed.plan.empty)


def find_root(config: ClusterConfig, tools: Tools) -> Path:
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


@dataclass(frozen=True, kw_only=True)
class _Agreed:
    """What the user has agreed to; `strays` are in its way."""

    plan: Plan
    strays: tuple[TaggedResource, ...]


def _agreed_plan(
    name: str,
    rendered: RenderedCluster,
    directory: Path,
    terraform: Terraform,
    plan_file: Path,
    tools: Tools,
    *,
    yes: bool,
    saved: SavedPlan | None,
) -> _Agreed:
    """Write the root, plan or take the saved plan, and return what the user agrees to; put all back when nothing."""
    written = write_rendered(rendered, directory)
    try:
        # Where a head of another machine was adopted, its key is not here.
        shared = parse_backend(rendered.files[BACKEND_FILE]).remote or was_applied(directory)
        variables = (
            saved.origin.operator if saved else tools.provider.operator_variables(directory, shared=shared)
        )
        written.keep(OPERATOR_FILE)
        write_operator_variables(directory, variables)
        if saved:
            prepare_root(saved, directory, written, terraform, tools)
        dead = tools.provider.dead_resources(directory)
        # The state is where the root says, so that what Terraform remembers of another place is of no use.
        terraform.init(reconfigure=True)
        write_unwritten(directory, terraform, tools.reporter)
        if saved:
            planned = take_plan(saved, terraform, plan_file)
            tagged = tools.provider.tagged(name) if planned.makes_or_adopts else []
        else:
            planner = Planner(
                name=name,
                directory=directory,
                terraform=terraform,
                plan_file=plan_file,
                tools=tools,
                operator=variables,
                dead=dead,
            )
            planned, tagged = adopt_into(planner.plan(), planner)
        tools.reporter.planned(planned)
        _agree_to_replacing_head(planned, dead, tools.reporter, yes=yes, saved=saved)
        strays = find_strays(planned, tagged, directory, terraform)
    except BaseException:
        written.restore()
        raise
    return _Agreed(plan=planned, strays=tuple(strays))


def _apply(
    agreed: _Agreed,
    terraform: Terraform,
    plan_file: Path,
    tools: Tools,
    *,
    plan_again: Callable[[], _Agreed],
    once: bool,
) -> None:
    """Make what was planned and, unless `once`, what is planned then when that was not all.

    It was not when somebody else was quicker, or when AWS has left out a part that Terraform goes on without.
    """
    tries_left = 1 if once else _PLANS
    while not agreed.plan.empty:
        tries_left -= 1
        try:
            if agreed.strays:
                tools.provider.remove_strays(agreed.strays)
            missing = terraform.apply(plan_file)
        except StalePlanError as error:
            if once:
                error.hint = "save a new plan with `daft up --plan --out FILE`"
            if not tries_left:
                raise
            missing = ["somebody else has changed the cluster meanwhile"]
        if not missing or not tries_left:
            for text in missing:
                tools.reporter.warn(text)
            return
        for text in missing:
            tools.reporter.note(f"{text}; planning again")
        agreed = plan_again()


def _agree_to_replacing_head(
    plan: Plan, dead: Sequence[str], reporter: Reporter, *, yes: bool, saved: SavedPlan | None
) -> None:
    if plan.fate_of_head not in ("replaced", "removed") or yes:
        return
    # No job runs on a head that has failed, nor on one that was never finished.
    without_jobs = {*dead, *plan.tainted}
    if any(change.address in without_jobs for change in plan.changes if change.of_head):
        return
    if not reporter.confirm("This replaces the head node and ends every job that runs on it. Go on?"):
        again = f"daft up --from-plan {saved.path}" if saved else "daft up"
        raise StateError(
            "the head node would be replaced and its running jobs ended; nothing was changed",
            hint=f"agree with `{again} --yes`, or look at it first with `daft up --plan`",
        )


def _wait_for_head(cluster: Cluster, tools: Tools, step_timeout: float) -> None:
    before = tools.clock.now()
    try:
        for status in tools.provider.watch_head(cluster, step_timeout=step_timeout):
            now = tools.clock.now()
            tools.reporter.head_status(status, seconds=now - before)
            before = now
    except HeadFailedError as error:
        error.message += _end_of_log(cluster, tools)
        raise


def _end_of_log(cluster: Cluster, tools: Tools) -> str:
    """Return the last lines of the head's log for a message, nothing where it cannot be had."""
    with contextlib.suppress(DaftLauncherError):
        lines = [line for line in tools.provider.read_bootstrap_log(cluster).splitlines() if line.strip()]
        if lines:
            return "\nthe end of its log:\n" + "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])
    return ""


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
        error.go_on("go on with `daft up`, or remove what exists with `daft down`")
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
