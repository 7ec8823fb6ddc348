"""Which real parts a command works with: the one place that puts them together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.models import Provider, Reporter
from daft_launcher.reach import USUAL_REACH, Reach
from daft_launcher.state_dir import StateDir, read_reference

if TYPE_CHECKING:
    from daft_launcher.backend import Backend
    from daft_launcher.config import ClusterConfig, ClusterReference
    from daft_launcher.terraform_binary import TerraformBinary
    from daft_launcher.tools import Bucket, Terraform, Tools


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all commands share: who shows things, which environment holds, where the state directory lies."""

    reporter: Reporter
    environ: Mapping[str, str]
    state_dir: StateDir
    reach: Reach = USUAL_REACH

    def tools_for(self, config: ClusterConfig, *, identity_file: Path | None = None) -> Tools:
        """Return the tools for a configured cluster."""
        return self._tools(_provider(config, self.state_dir, identity_file, self.reach))

    def tools_for_removal(self, reference: ClusterReference) -> Tools:
        """Return the tools for a cluster as its root was generated, whatever the file says by now."""
        stored = read_reference(self.state_dir.root_of(reference.name, reference.provider)) or {}
        if reference.provider == "local":
            return self._tools(_local(self.state_dir))
        region = stored.get("region", reference.region)
        return self._tools(_aws(region=region, profile=stored.get("profile", reference.profile)))

    def _tools(self, provider: Provider) -> Tools:
        from daft_launcher.terraform_init import cache_folder
        from daft_launcher.tools import Tools

        return Tools(
            state_dir=self.state_dir,
            provider=provider,
            open_terraform=self._open_terraform,
            open_bucket=open_bucket,
            reporter=self.reporter,
            clock=SystemClock(),
            cache=cache_folder(),
            reach=self.reach,
        )

    def _open_terraform(self, directory: Path, lock: int | None) -> Terraform:
        from daft_launcher.terraform import TerraformRoot
        from daft_launcher.terraform_init import missing_cli_config

        if missing := missing_cli_config(self.environ):
            self.reporter.warn(
                f"TF_CLI_CONFIG_FILE names {missing}, which is not there; Terraform runs without it"
            )
        return TerraformRoot(
            directory.resolve(),
            self._find_terraform(),
            environ=self.environ,
            on_event=self.reporter.event,
            lock=lock,
        )

    def _find_terraform(self) -> TerraformBinary:
        from daft_launcher.terraform_binary import find_terraform

        return find_terraform(progress=self.reporter.note, environ=self.environ)


def open_bucket(backend: Backend) -> Bucket:
    """Return the bucket that holds a state."""
    from daft_launcher.providers.aws_buckets import StateBucket

    return StateBucket(backend)


def _provider(
    config: ClusterConfig, state_dir: StateDir, identity_file: Path | None, reach: Reach
) -> Provider:
    if config.setup.provider == "local":
        return _local(state_dir)
    return _aws(
        region=config.setup.region,
        profile=config.aws.profile,
        ssh_allowed_cidrs=config.aws.ssh_allowed_cidrs,
        ssh_key_name=config.aws.ssh_key_name,
        identity_file=identity_file,
        reach=reach,
    )


def _local(state_dir: StateDir) -> Provider:
    from daft_launcher.providers.local import LocalProvider

    return LocalProvider(state_dir.path)


def _aws(
    *,
    region: str,
    profile: str | None,
    ssh_allowed_cidrs: tuple[str, ...] = (),
    ssh_key_name: str | None = None,
    identity_file: Path | None = None,
    reach: Reach = USUAL_REACH,
) -> Provider:
    from daft_launcher.providers.aws import AWSProvider

    return AWSProvider(
        region=region,
        profile=profile,
        ssh_allowed_cidrs=ssh_allowed_cidrs,
        ssh_key_name=ssh_key_name,
        identity_file=identity_file,
        clock=SystemClock(),
        reach=reach,
    )
