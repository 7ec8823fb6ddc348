"""What `up` does with a saved plan in place of a new one: hold it against the present, and put it to use as it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import DaftLauncherError, StateError
from daft_launcher.models import Plan, Reporter
from daft_launcher.rendered import RenderedCluster
from daft_launcher.saved_plan import (
    LOCK_FILE,
    Origin,
    SavedPlan,
    SavedPlanError,
    StateVersion,
    digest_files,
    provider_versions,
    read_lock,
    version_of,
    write_saved_plan,
)
from daft_launcher.state_dir import PRIVATE_KEY, WrittenFiles, write_private
from daft_launcher.terraform_events import plan_in
from daft_launcher.tools import Terraform, Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

KEY_STAYS = (
    "the plan lets in a key that was made for it, so that it can be applied on this machine alone; "
    "`-i KEY` or `ssh_key_name` names one that others know"
)
_PUBLIC_KEY_VARIABLE = "ssh_public_key"
_MOST_NAMED = 5


def launcher_version() -> str:
    """Return this program's own version."""
    from importlib.metadata import version  # most runs of `up` have no use for it

    return version("daft-launcher")


def planning_place(directory: Path, cache: Path) -> Path:
    """Return the folder in the cache in which the plans of a root are made."""
    return cache / "plans" / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


def origin_of(
    config: ClusterConfig,
    rendered: RenderedCluster,
    tools: Tools,
    terraform: Terraform,
    operator: Mapping[str, object],
    *,
    directory: Path,
) -> Origin:
    """Return what a plan hangs on that `terraform` has made for a root with the machine's own variables."""
    place = planning_place(directory, tools.cache)
    return Origin(
        name=config.setup.name,
        provider=config.setup.provider,
        region=_region(config),
        account=tools.provider.account(),
        files=digest_files(rendered.files),
        operator=operator,
        terraform=terraform.version,
        launcher=launcher_version(),
        # Once it is the cluster's, it has outlived the plan that it was made for.
        own_key=not (directory / PRIVATE_KEY).exists() and _opened_by(operator, place / PRIVATE_KEY),
    )


def save_plan(plan_file: Path, out: Path, origin: Origin, reporter: Reporter) -> None:
    """Keep a plan that Terraform has made. Raises StateError when it cannot be written."""
    write_saved_plan(out, plan_file.read_bytes(), origin)
    if origin.own_key:
        reporter.note(KEY_STAYS)


def check_saved(
    saved: SavedPlan, config: ClusterConfig, rendered: RenderedCluster, directory: Path, tools: Tools
) -> None:
    """Raise SavedPlanError unless cluster, account, configuration, providers and key are those planned with.

    Reads, and changes nothing. Terraform and the state are checked by `prepare_root` and `take_plan`.
    """
    _check_cluster(saved, config)
    _check_account(saved, tools.provider.account())
    _check_files(saved, digest_files(rendered.files))
    _check_providers(saved, directory)
    _check_key(saved, directory, tools)


def prepare_root(
    saved: SavedPlan, directory: Path, written: WrittenFiles, terraform: Terraform, tools: Tools
) -> None:
    """Put into a root what the plan was made with: the providers' lock file, and a key where the root has none.

    Raises SavedPlanError unless it is the Terraform that made the plan: no other one takes it.
    """
    _check_terraform(saved, terraform.version)
    with _writing_in(directory):
        written.keep(LOCK_FILE)
        _write_lock(saved, directory)
        key = directory / PRIVATE_KEY
        if saved.origin.own_key and not key.exists():
            written.keep(PRIVATE_KEY)
            made = planning_place(directory, tools.cache) / PRIVATE_KEY
            write_private(key, made.read_text(encoding="utf-8"))


def take_plan(saved: SavedPlan, terraform: Terraform, plan_file: Path) -> Plan:
    """Put Terraform's own bytes into `plan_file`, in an initialised root, and return what they would change.

    Raises SavedPlanError when the state, or a provider's checksum, is not the one that the plan was made with.
    """
    _check_checksums(saved, plan_file.parent)
    _check_state(saved, version_of(terraform.pull_state()))
    with _writing_in(plan_file.parent):
        # Terraform wants the lock file as it was, without the other platforms that `init` has learnt of.
        _write_lock(saved, plan_file.parent)
        descriptor = os.open(plan_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(saved.terraform_plan)
    return plan_in(terraform.show_json(plan_file))


def _write_lock(saved: SavedPlan, directory: Path) -> None:
    if read_lock(saved.lock):
        (directory / LOCK_FILE).write_text(saved.lock, encoding="utf-8")


@contextlib.contextmanager
def _writing_in(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"{directory} cannot be written: {error.strerror}") from None


def _check_cluster(saved: SavedPlan, config: ClusterConfig) -> None:
    planned = (saved.origin.name, saved.origin.provider, saved.origin.region)
    configured = (config.setup.name, config.setup.provider, _region(config))
    if planned != configured:
        raise SavedPlanError(
            saved.path,
            f"it is a plan of {_cluster(*planned)}, and the configuration says {_cluster(*configured)}",
            hint="name the file of that cluster with `-c`",
        )


def _check_account(saved: SavedPlan, account: str) -> None:
    if account != saved.origin.account:
        raise SavedPlanError(
            saved.path,
            f"it was made for {saved.origin.account}, and this is {account}",
            hint=f"apply it for {saved.origin.account}, or make a new one with `daft up --plan --out {saved.path}`",
        )


def _check_files(saved: SavedPlan, files: Mapping[str, str]) -> None:
    differing = _differing(saved.origin.files, files)
    if not differing:
        return
    reason = f"the configuration has changed since, in {_listed(differing)}"
    if (ours := launcher_version()) != saved.origin.launcher:
        reason += f"; daft-launcher {saved.origin.launcher} saved it, and this is {ours}"
    raise SavedPlanError(saved.path, reason)


def _check_terraform(saved: SavedPlan, ours: str) -> None:
    theirs = saved.origin.terraform
    if ours != theirs:
        again = f"make a new one with `daft up --plan --out {saved.path}`"
        raise SavedPlanError(
            saved.path,
            f"{theirs} made it, and this is {ours}",
            hint=f"let DAFT_TERRAFORM name {theirs}, or {again}",
        )


def _check_providers(saved: SavedPlan, directory: Path) -> None:
    lock = directory / LOCK_FILE
    if not lock.exists():
        return
    planned, here = provider_versions(saved.lock), provider_versions(lock.read_text(encoding="utf-8"))
    if differing := _differing(planned, here):
        name = differing[0]
        raise SavedPlanError(
            saved.path,
            f"{lock} selects {name} {here.get(name, 'not at all')}, and it was made with "
            f"{planned.get(name, 'none of it')}",
        )


def _check_checksums(saved: SavedPlan, directory: Path) -> None:
    """Raise SavedPlanError when the plan knows no checksum of this platform's providers, and `init` had to add it."""
    lock, planned = directory / LOCK_FILE, read_lock(saved.lock)
    now = read_lock(lock.read_text(encoding="utf-8")) if planned else {}
    added = {checksum for name in now for checksum in now[name][1] - planned[name][1]}
    # "zh:" is the checksum of a package as it is fetched; what is installed is known by "h1:" alone.
    if any(checksum.startswith("h1:") for checksum in added):
        raise SavedPlanError(
            saved.path,
            "it was made with providers of other checksums than this machine's, as for another platform",
            hint=f"name all platforms with `terraform -chdir={directory} providers lock -platform=…`, keep the lock "
            "file in git, and make a new plan",
        )


def _check_state(saved: SavedPlan, now: StateVersion) -> None:
    planned = saved.state
    if now == planned:
        return
    if not planned.lineage:
        reason = f"there was no state when it was made, and now there is one, at serial {now.serial}"
    elif not now.lineage:
        reason = f"it was made on serial {planned.serial} of a state that is not here"
    elif now.lineage != planned.lineage:
        reason = "it was made on the state of another cluster of that name"
    else:
        reason = f"the state has moved since, from serial {planned.serial} to {now.serial}"
    raise SavedPlanError(saved.path, reason)


def _check_key(saved: SavedPlan, directory: Path, tools: Tools) -> None:
    if not saved.origin.own_key:
        return
    key = directory / PRIVATE_KEY
    if key.exists():
        if not _opened_by(saved.origin.operator, key):
            raise SavedPlanError(saved.path, f"it lets in another SSH key than {key}, which was made since")
    elif not _opened_by(saved.origin.operator, planning_place(directory, tools.cache) / PRIVATE_KEY):
        raise SavedPlanError(
            saved.path,
            "the SSH key that it lets in was made for it, and lies where it was made; nobody here could log in",
            hint="apply it there, or plan with `-i KEY` or with `ssh_key_name` under `[aws]`, which all machines know",
        )


def _opened_by(operator: Mapping[str, object], key: Path) -> bool:
    """Return whether the Terraform variables let in the private key of a file, which need not be there."""
    from daft_launcher.ssh_keys import public_key_of

    public = operator.get(_PUBLIC_KEY_VARIABLE)
    try:
        return public is not None and key.exists() and public_key_of(key) == public
    except DaftLauncherError:
        return False


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _region(config: ClusterConfig) -> str:
    return config.setup.region if config.setup.provider == "aws" else "local"


def _cluster(name: str, provider: str, region: str) -> str:
    return f"`{name}` on this machine" if provider == "local" else f"`{name}` on {provider} in {region}"
