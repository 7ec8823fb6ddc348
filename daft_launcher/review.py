"""The use case of a reviewer: what `up` would do, shown without touching anything."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.backend import BACKEND_FILE, Backend
from daft_launcher.launcher import find_root
from daft_launcher.lock import lock_cluster
from daft_launcher.models import Plan
from daft_launcher.render import render_backend, render_cluster
from daft_launcher.rendered import RenderedCluster
from daft_launcher.state_dir import (
    PRIVATE_KEY,
    changed_files,
    made_directory,
    plan_file_in,
    refuse_foreign,
    write_operator_variables,
    write_rendered,
)
from daft_launcher.state_move import find_backend_to_plan
from daft_launcher.survey import Survey
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

NO_CHANGES = "No changes. Your infrastructure matches the configuration.\n"


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What `up` would do. `text` is Terraform's own; `head` is created, kept, updated, replaced or removed."""

    plan: Plan
    text: str
    files: tuple[str, ...]
    head: str


def plan(config: ClusterConfig, tools: Tools) -> PlanReport:
    """Return what `up` would do. Leaves the cluster and the state directory as they are.

    The plan is made in a copy of the root in the user's cache, with a copy of the state where that is local.
    """
    rendered = render_cluster(config)
    directory = find_root(config, tools)
    refuse_foreign(directory, rendered.files)
    scratch = tools.cache / "plans" / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    with (
        made_directory(scratch, instead="XDG_CACHE_HOME"),
        lock_cluster(scratch, command="daft up --plan") as lock,
    ):
        backend = find_backend_to_plan(config, directory, tools)
        _copy_root(rendered, directory, scratch, backend, tools)
        terraform = tools.open_terraform(scratch, lock)
        with (
            plan_file_in(scratch) as plan_file,
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
    return PlanReport(plan=planned, text=text, files=files, head=planned.fate_of_head)


def _copy_root(
    rendered: RenderedCluster, directory: Path, scratch: Path, backend: Backend, tools: Tools
) -> None:
    local = Backend(type="local", settings={})
    text = render_backend(backend if backend.remote else local)
    rendered = replace(rendered, files={**rendered.files, BACKEND_FILE: text})
    write_rendered(rendered, scratch, instead="XDG_CACHE_HOME")
    # A key pair that `up` made is the cluster's; where there is none yet, the one planned with never leaves here.
    owner = directory if (directory / PRIVATE_KEY).exists() else scratch
    variables = tools.provider.operator_variables(owner, shared=backend.remote)
    write_operator_variables(scratch, variables)
    copy = scratch / "terraform.tfstate"
    copy.unlink(missing_ok=True)
    source = backend.local_path(directory)
    if not backend.remote and source.exists():
        shutil.copyfile(source, copy)
        copy.chmod(0o600)
