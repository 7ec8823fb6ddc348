"""What exists of a cluster and is not in its Terraform state: taken in by its tags, to be kept or to be removed.

A resource that has the name and not the tags is somebody else's, and is neither adopted nor removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daft_launcher.errors import TerraformError
from daft_launcher.models import Plan, TaggedResource
from daft_launcher.remote_state import read_state
from daft_launcher.render import render_adopted, render_imports
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import (
    PRIVATE_KEY,
    WrittenFiles,
    plan_file_in,
    write_generated,
    write_operator_variables,
)
from daft_launcher.tools import Terraform, Tools

_HEAD = "module.cluster.aws_instance.head"
_OF_FORMER_HEAD = {
    f"module.cluster.terraform_data.{name}" for name in ("head_generation", "image", "placement")
}
_PARAMETER = "aws_ssm_parameter"
_RULES = ("aws_vpc_security_group_ingress_rule", "aws_vpc_security_group_egress_rule")
_HELD = ("image_id", "instance_type", "root_device_name", "subnet_id", "vpc_id")
_TRIES = 3


@dataclass(kw_only=True)
class Planner:
    """How the plans of one root are made. `dead` are the addresses of nodes that have died without Terraform noticing.

    `operator` are this machine's own variables in the root, which are others once a head of another machine is adopted.
    `state` is a copy of the state, where the plan is to be made on one. Without `may_forget` the state stays as it is.
    """

    name: str
    directory: Path
    terraform: Terraform
    plan_file: Path
    tools: Tools
    operator: Mapping[str, object]
    dead: Sequence[str] = ()
    lock: bool = True
    state: Path | None = None
    may_forget: bool = True

    def plan(self, *more: str) -> Plan:
        """Return the plan that makes what died anew, and more addresses."""
        replace = [*self.dead, *more]
        return self.terraform.plan(self.plan_file, replace=replace, lock=self.lock, state=self.state)


def adopt_into(planned: Plan, planner: Planner) -> tuple[Plan, list[TaggedResource]]:
    """Return a plan that takes in what exists instead of making it once more, and all that carries the tags.

    That is the plan which is given, and nothing, when it makes nothing. What the state has under an address whose
    resource is another by now, it must forget first.
    """
    missing = {change.address for change in planned.changes if change.action == "create"}
    tagged = planner.tools.provider.tagged(planner.name) if missing else []
    lost = [resource for resource in tagged if resource.address in missing]
    if lost and _has_forgotten(lost, planner):
        planned = _plan_with(lost, planner)
    return planned, tagged


def _has_forgotten(lost: Sequence[TaggedResource], planner: Planner) -> bool:
    """Say what is adopted, and make the state forget what it has in its place; False where it must not."""
    _tell(lost, planner.name, planner.tools)
    known = read_state(planner.directory, planner.terraform, copy=planner.state).addresses
    stale = [resource.address for resource in lost if resource.address in known]
    if _HEAD in stale:
        # They tell of the former head, and would have the one that exists replaced.
        stale += sorted(known & _OF_FORMER_HEAD)
    if stale and not planner.may_forget:
        planner.tools.reporter.note(
            "the state is older than the cluster: `daft up` adopts it, and the plan shows it as new"
        )
        return False
    if stale:
        planner.terraform.forget([address for address in stale if address], state=planner.state)
    return True


def _plan_with(lost: Sequence[TaggedResource], planner: Planner) -> Plan:
    head = next((resource for resource in lost if resource.address == _HEAD), None)
    held = {key: head.traits[key] for key in _HELD} if head else None
    if head:
        _let_in_its_key(planner)
    with _files(render_imports(lost, held), planner.directory):
        planned = planner.plan()
        marked = head is not None and "generation" in head.traits
        if marked and _is_of_another_day(planner.terraform.show_json(planner.plan_file)):
            planned = planner.plan(_HEAD)
    if head and not (planner.directory / PRIVATE_KEY).exists():
        planner.tools.reporter.note(
            f"the key of `{planner.name}` was made elsewhere: log in with `-i KEY`, its private half"
        )
    return planned


def find_strays(
    planned: Plan, tagged: Sequence[TaggedResource], directory: Path, terraform: Terraform
) -> list[TaggedResource]:
    """Return what must go before a plan is applied, because neither it nor the state has it.

    These are parameters, which hold secrets that no state may have, ports that are open to a former machine, and the
    rule that a group began with.
    """
    candidates = [resource for resource in tagged if resource.type in (_PARAMETER, *_RULES)]
    if not candidates:
        return []
    ids = read_state(directory, terraform).ids
    return [
        resource
        for resource in candidates
        if (resource.type, resource.id) not in ids and resource.id not in planned.imports
    ]


def adopt_for_removal(name: str, directory: Path, terraform: Terraform, tools: Tools) -> None:
    """Have an initialised root's state know all that carries the cluster's tags, for a destroy to remove it.

    Raises TerraformError when something cannot be taken in.
    """
    for tries_left in reversed(range(_TRIES)):
        tagged = tools.provider.tagged(name)
        if not tagged:
            return None
        ids = read_state(directory, terraform).ids
        unknown = [
            resource for resource in tagged if resource.type and (resource.type, resource.id) not in ids
        ]
        if strays := [resource for resource in unknown if resource.type == _PARAMETER]:
            tools.provider.remove_strays(strays)
        # Rules go with their group.
        lost = [resource for resource in unknown if resource.type not in (_PARAMETER, *_RULES)]
        if not lost:
            return None
        _tell(lost, name, tools)
        try:
            return _take_in(lost, directory, terraform)
        except TerraformError:
            # What was on its way out has gone meanwhile, as it should.
            if not tries_left or tools.provider.tagged(name) == tagged:
                raise
    return None


def _take_in(lost: Sequence[TaggedResource], directory: Path, terraform: Terraform) -> None:
    resources = {f"{resource.type}.adopted_{number}": resource for number, resource in enumerate(lost, 1)}
    with _files(render_adopted(resources), directory), plan_file_in(directory) as plan_file:
        terraform.plan(plan_file, targets=list(resources))
        terraform.apply(plan_file)


def _let_in_its_key(planner: Planner) -> None:
    """Plan with the key that a head was made with, and not with one that was made a moment ago for a new head."""
    variables = planner.tools.provider.operator_variables(planner.directory, shared=True)
    if variables == planner.operator:
        return
    write_operator_variables(planner.directory, variables)
    planner.operator = variables
    for name in (PRIVATE_KEY, f"{PRIVATE_KEY}.pub"):
        (planner.directory / name).unlink(missing_ok=True)


def _is_of_another_day(document: Mapping[str, Any]) -> bool:
    """Return whether a plan would only write upon the head that it was set up as is wanted now."""
    for change in (one["change"] for one in document.get("resource_changes", []) if one["address"] == _HEAD):
        before, after = (((change[side] or {}).get("tags") or {}) for side in ("before", "after"))
        return before.get("daft:generation") != after.get("daft:generation")
    return False


@contextlib.contextmanager
def _files(rendered: RenderedCluster, directory: Path) -> Iterator[None]:
    """Have more files in a root while a plan is made, which keeps what they say."""
    written = WrittenFiles(directory)
    for name in rendered.files:
        written.keep(name)
    try:
        for name, text in rendered.files.items():
            write_generated(directory, name, text)
        yield
    finally:
        written.restore()


def _tell(lost: Sequence[TaggedResource], name: str, tools: Tools) -> None:
    listed = "\n".join(f"  {resource.name}" for resource in lost)
    tools.reporter.note(f"taking in what exists of `{name}` and is not in its state:\n{listed}")
