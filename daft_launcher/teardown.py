"""The use case that removes a cluster: `down`. It goes by the Terraform root as it stands, never by the file."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.adoption import adopt_for_removal
from daft_launcher.errors import DaftLauncherError, Interrupted, ProviderError, StateError, TerraformError
from daft_launcher.jobs import get_cluster, open_jobs
from daft_launcher.lock import ClusterLockedError, lock_cluster
from daft_launcher.patience import LOCK_TIMEOUT, Patience
from daft_launcher.remote_state import set_aside_damaged, to_state
from daft_launcher.state_dir import may_hold_resources, refuse_foreign
from daft_launcher.state_move import adopt_for_destroy, check_bucket, find_backend_to_leave
from daft_launcher.terraform_lock import StateLockedError
from daft_launcher.tools import RunningDestroy, Terraform, Tools
from daft_launcher.unwritten_state import UNWRITTEN, write_unwritten

if TYPE_CHECKING:
    from daft_launcher.config import ClusterReference

COMMAND = "daft down"
_AGAIN = "run `daft down --wait` again"
_ASK_SECONDS = 2.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class DownResult:
    """How a `down` ended: `existed` is False when there was nothing to remove.

    `gone` is True when nothing is left; otherwise every instance is shutting down and a Terraform that writes
    `log` removes the rest.
    """

    existed: bool
    gone: bool
    log: Path | None = None


def down(
    reference: ClusterReference,
    tools: Tools,
    *,
    wait: bool,
    deadline: float,
    lock_timeout: float = LOCK_TIMEOUT,
) -> DownResult:
    """Remove a cluster and return when all its instances have been asked to end, with `wait` when nothing is left.

    `deadline` is how many seconds all of it may take, `lock_timeout` how many others who work on the cluster are
    waited for. Raises ProviderError that names what could not be removed.
    """
    tools.provider.check_access()
    directory = tools.state_dir.root_of(reference.name, reference.provider)
    until, waited = tools.clock.now() + deadline, False
    if not (directory / "main.tf").exists():
        return DownResult(existed=False, gone=True)
    refuse_foreign(directory, ["main.tf"])
    seconds = min(lock_timeout, deadline)
    patience = Patience(seconds, clock=tools.clock, reporter=tools.reporter, directory=directory)
    while True:
        try:
            with lock_cluster(directory, command=COMMAND) as lock:
                set_aside_damaged(directory, tools.reporter)
                terraform = tools.open_terraform(directory, lock)
                destroy = functools.partial(
                    _destroy, reference, terraform, directory, tools, wait=wait, until=until
                )
                result = patience.past_own_lock(terraform, destroy)
                # What another `down` has removed meanwhile was there when this one began.
                return replace(result, existed=result.existed or waited)
        except StateLockedError as error:
            patience.wait_for_state(error)
            waited = True
        except ClusterLockedError as error:
            if not error.held_by(COMMAND) or not lock_timeout:
                patience.wait_for_holder(error)
                continue
            waited = True
            if not wait and tools.provider.all_shutting_down(reference.name):
                return DownResult(existed=True, gone=False, log=directory / "logs" / "destroy.jsonl")
            _let_other_down_work(reference, tools, until)


def _let_other_down_work(reference: ClusterReference, tools: Tools, until: float) -> None:
    _check_deadline(reference, tools, until)
    tools.clock.sleep(_ASK_SECONDS)


def agree_to_end_jobs(reference: ClusterReference, tools: Tools, *, yes: bool) -> None:
    """Ask before a cluster on which jobs run is removed, where somebody can answer.

    Raises StateError when the answer is no. A cluster that cannot be asked for its jobs is not protected by them.
    """
    if yes or not tools.reporter.interactive:
        return
    running = _running_jobs(reference, tools)
    if not running:
        return
    question = f"These jobs run on `{reference.name}`: {', '.join(running)}. End them?"
    if not tools.reporter.confirm(question):
        raise StateError("nothing was removed", hint="agree beforehand with `daft down --yes`")


def _running_jobs(reference: ClusterReference, tools: Tools) -> list[str]:
    try:
        cluster = get_cluster(reference, tools)
        with open_jobs(cluster, tools, identity_file=None) as jobs:
            return [job.submission_id for job in jobs.list_jobs() if not job.ended]
    except DaftLauncherError:
        return []


def _destroy(
    reference: ClusterReference,
    terraform: Terraform,
    directory: Path,
    tools: Tools,
    *,
    wait: bool,
    until: float,
) -> DownResult:
    if not _existed(reference, terraform, directory, tools):
        return DownResult(existed=False, gone=True)
    adopt_for_removal(reference.name, directory, terraform, tools)
    # Nothing bills at home and it takes seconds: stay until the processes are gone.
    wait = wait or reference.provider == "local"
    try:
        running = terraform.start_destroy()
        if not wait and _handed_over(running, reference, tools, until):
            return DownResult(existed=True, gone=False, log=running.log)
        _finish(running, reference, directory, tools, until=until)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted while removing `{reference.name}`; some of it may exist still",
            hint="finish with `daft down`",
        ) from None
    return DownResult(existed=True, gone=True)


def _existed(reference: ClusterReference, terraform: Terraform, directory: Path, tools: Tools) -> bool:
    """Make a root ready for its destroy, and return whether there is anything to remove."""
    backend = find_backend_to_leave(directory, tools)
    remote = backend is not None and backend.remote
    if backend and remote:
        check_bucket(backend, tools, warn=False)
    adopt_for_destroy(backend, directory)
    if not remote and not _may_exist(reference, directory, tools):
        return False
    terraform.init(reconfigure=True)
    write_unwritten(directory, terraform, tools.reporter)
    if not remote:
        return True
    held = not to_state(terraform.pull_state()).empty
    return held or bool(tools.provider.leftovers(reference.name))


def _may_exist(reference: ClusterReference, directory: Path, tools: Tools) -> bool:
    if may_hold_resources(directory) or (directory / UNWRITTEN).exists():
        return True
    return bool(tools.provider.leftovers(reference.name))


def _handed_over(running: RunningDestroy, reference: ClusterReference, tools: Tools, until: float) -> bool:
    """Wait until every instance is shutting down or Terraform has ended; True when Terraform still runs."""
    ask_again = tools.clock.now()
    while running.running:
        if tools.clock.now() >= ask_again:
            if tools.provider.all_shutting_down(reference.name):
                return running.running
            ask_again = tools.clock.now() + _ASK_SECONDS
        _check_deadline(reference, tools, until)
        tools.clock.sleep(_POLL_SECONDS)
    return False


def _finish(
    running: RunningDestroy, reference: ClusterReference, directory: Path, tools: Tools, *, until: float
) -> None:
    """Follow Terraform to its end, and make sure that nothing is left. What is left when it fails is named."""
    while running.running:
        _check_deadline(reference, tools, until)
        tools.clock.sleep(_POLL_SECONDS)
    try:
        running.wait()
    except StateLockedError:
        raise
    except TerraformError as error:
        if left := tools.provider.leftovers(reference.name):
            error.message += f"\nleft are:\n{_listed(left)}"
        error.go_on(_AGAIN)
        raise
    if reference.provider == "local" and tools.provider.leftovers(reference.name):
        # Its state is lost, so that Terraform knew nothing of them.
        tools.provider.remove_leftovers(directory)
    _await_nothing_left(reference, tools, until)


def _await_nothing_left(reference: ClusterReference, tools: Tools, until: float) -> None:
    while tools.provider.leftovers(reference.name):
        _check_deadline(reference, tools, until)
        tools.clock.sleep(_ASK_SECONDS)


def _check_deadline(reference: ClusterReference, tools: Tools, until: float) -> None:
    if tools.clock.now() < until:
        return
    left = tools.provider.leftovers(reference.name)
    raise ProviderError(
        f"cluster `{reference.name}` could not be removed in time; left are:\n{_listed(left)}",
        hint=f"{_AGAIN}; what Terraform said stands in the `logs` of its root",
    )


def _listed(names: list[str]) -> str:
    return "\n".join(f"  {name}" for name in names)
