"""The use case of a reviewer: what `up` would do, shown without touching anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daft_launcher.adoption import Planner, adopt_into
from daft_launcher.backend import Backend
from daft_launcher.drift import Drift, find_drift
from daft_launcher.errors import StateError
from daft_launcher.from_plan import origin_of, planning_place, save_plan
from daft_launcher.instances import ProviderName
from daft_launcher.launcher import find_root
from daft_launcher.lock import lock_cluster
from daft_launcher.models import Plan
from daft_launcher.planning_root import copy_root, copy_state
from daft_launcher.price_inquiry import PriceInquiry
from daft_launcher.prices import PriceReport
from daft_launcher.remote_state import read_state
from daft_launcher.render import backend_of, render_cluster
from daft_launcher.saved_plan import check_target
from daft_launcher.state_dir import (
    changed_files,
    made_directory,
    plan_file_in,
    refuse_foreign,
)
from daft_launcher.state_move import find_backend_to_plan
from daft_launcher.survey import Survey
from daft_launcher.tools import Terraform, Tools
from daft_launcher.unwritten_state import tell_unwritten

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

NO_CHANGES = "No changes. Your infrastructure matches the configuration.\n"


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What `up` would do. `text` is Terraform's own; `head` is created, kept, updated, replaced or removed."""

    cluster: str
    provider: ProviderName
    plan: Plan
    text: str
    files: tuple[str, ...]
    head: str
    drift: tuple[Drift, ...] = ()
    price: PriceReport | None = None


def plan(config: ClusterConfig, tools: Tools, *, out: Path | None = None) -> PlanReport:
    """Return what `up` would do. Leaves the cluster and the state directory as they are.

    The plan is made in a copy of the root in the user's cache, with a copy of the state where that is local.
    With `out` it is saved there, for `up` to apply.
    """
    if out:
        check_target(out)
    rendered = render_cluster(config)
    directory = find_root(config, tools)
    refuse_foreign(directory, rendered.files)
    scratch = planning_place(directory, tools.cache)
    with (
        made_directory(scratch, instead="XDG_CACHE_HOME"),
        lock_cluster(scratch, command="daft up --plan") as lock,
    ):
        backend = find_backend_to_plan(config, directory, tools)
        if out:
            _refuse_before_move(config, backend)
        operator = copy_root(rendered, directory, scratch, backend, tools)
        state = copy_state(backend, directory, scratch)
        terraform = tools.open_terraform(scratch, lock)
        prices = PriceInquiry(config, tools)
        with (
            plan_file_in(scratch) as plan_file,
            Survey(tools.provider, directory, stop=terraform.stop, then=prices.start) as survey,
        ):
            terraform.init(reconfigure=True)
            read_current = functools.partial(read_state, scratch, terraform, copy=state)
            tell_unwritten(directory, read_current, tools.reporter)
            # Nothing is written, so a remote state is read without its lock too.
            planned = terraform.plan(plan_file, lock=False, state=state)
            planner = Planner(
                name=config.setup.name,
                directory=scratch,
                terraform=terraform,
                plan_file=plan_file,
                tools=tools,
                operator=operator,
                dead=survey.dead_resources(),
                lock=False,
                state=state,
                may_forget=not backend.remote,
            )
            planned, _ = adopt_into(planner.plan() if planner.dead else planned, planner)
            # Terraform keeps silent about drift that changes nothing, and so do we; to ask it takes seconds.
            text, document = (NO_CHANGES, None) if planned.empty else _show(terraform, plan_file)
            if out:
                origin = origin_of(config, rendered, tools, terraform, planner.operator, directory=directory)
                save_plan(plan_file, out, origin, tools.reporter)
            price = prices.report(document)
    return PlanReport(
        cluster=config.setup.name,
        provider=config.setup.provider,
        plan=planned,
        text=text,
        files=tuple(changed_files(rendered, directory)),
        head=planned.fate_of_head,
        drift=find_drift(document or {}),
        price=price,
    )


def _show(terraform: Terraform, plan_file: Path) -> tuple[str, Mapping[str, Any]]:
    """Return a plan as text and as JSON, at once: for each of the two Terraform starts the provider anew."""
    with ThreadPoolExecutor(1) as beside:
        document = beside.submit(terraform.show_json, plan_file)
        return terraform.show(plan_file), document.result()


def _refuse_before_move(config: ClusterConfig, backend: Backend) -> None:
    if not backend.is_where(backend_of(config)):
        raise StateError(
            "no plan is saved: the state moves first, and a plan is for the place where the state lies",
            hint="move it with `daft up`, then save the plan",
        )
