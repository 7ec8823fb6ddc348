"""Clusters on AWS: EC2 instances, found by their tags alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from daft_launcher.errors import AWSError, MissingCredentialsError
from daft_launcher.instances import Instance, InstanceState, ProviderName, sort_instances
from daft_launcher.models import Clock, Cluster, HeadStatus, Offer, Rate, RayApi, SshLogin, TaggedResource
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_head import HeadWatch, get_head_login
from daft_launcher.providers.aws_instances import (
    PAGE_SIZE,
    cluster_filters,
    describe_instances,
    read_instances,
)
from daft_launcher.providers.aws_reach import as_token, explaining_silence, kept_open, ssh_arguments
from daft_launcher.providers.aws_tagged import find_parts, find_tagged, is_all_shutting_down, remove_strays
from daft_launcher.reach import USUAL_REACH, Reach
from daft_launcher.state_dir import read_reference, was_applied

BOOTSTRAP_LOG_PATH = "/var/log/daft-bootstrap.log"
DEFAULT_SSH_USER = "ec2-user"
_LIVING = (InstanceState.RUNNING, InstanceState.PENDING, InstanceState.STOPPING, InstanceState.STOPPED)
# By these Terraform takes the variables of the generated root from the environment.
_CIDRS_GIVEN, _KEY_GIVEN = "TF_VAR_operator_cidrs", "TF_VAR_ssh_public_key"


@dataclass(frozen=True, kw_only=True)
class RegionListing:
    """The instances of several regions, and the regions that did not answer."""

    instances: tuple[Instance, ...] = ()
    failures: Mapping[str, AWSError] = field(default_factory=dict)


class AWSProvider:
    """One region of one AWS account, as one profile sees it."""

    name: ProviderName = "aws"

    def __init__(
        self,
        *,
        region: str,
        profile: str | None,
        ssh_allowed_cidrs: Sequence[str],
        ssh_key_name: str | None,
        clock: Clock,
        identity_file: Path | None = None,
        reach: Reach = USUAL_REACH,
    ) -> None:
        self._region = region
        self._access = AWSAccess(profile=profile)
        self._ssh_allowed_cidrs = ssh_allowed_cidrs
        self._ssh_key_name = ssh_key_name
        self._identity_file = identity_file
        self._clock = clock
        self._reach = reach
        self._account: str | None = None

    def check_access(self) -> None:
        """Raise unless AWS knows these credentials in this region."""
        with self._access.asking("sts", self._region, "use AWS") as sts:
            self._account = sts.get_caller_identity()["Account"]

    def account(self) -> str:
        """Return whose account the credentials are of; AWS is asked once."""
        if self._account is None:
            self.check_access()
        return f"AWS account {self._account}"

    def operator_variables(self, directory: Path, *, shared: bool = False) -> Mapping[str, object]:
        """Return who may log in: this machine's address and public key, where nothing else names others.

        What the environment gives to Terraform is Terraform's to take, as where it runs without us; a key that was
        named to us goes before it.
        """
        variables: dict[str, object] = {}
        if not os.environ.get(_CIDRS_GIVEN):
            variables["operator_cidrs"] = self._operator_cidrs()
        if self._identity_file or not os.environ.get(_KEY_GIVEN):
            variables["ssh_public_key"] = self._public_key(directory, shared=shared)
        return variables

    def list_instances(self, cluster: str | None = None) -> list[Instance]:
        """Return the nodes of one cluster, or of all, in this region."""
        return _list_region(self._access, self._region, cluster, PAGE_SIZE)

    def dead_resources(self, directory: Path) -> list[str]:
        """Return the head's address when it has said that it failed or has ended, or is shutting down.

        Only a new one can become ready. AWS replaces dead workers, and Terraform's refresh notices a head that is gone,
        but takes one that is shutting down for there. One that may not terminate itself has stopped at its cluster's
        end.
        """
        stored = read_reference(directory)
        if stored is None or stored["provider"] != self.name:
            return []
        heads = [node for node in self.list_instances(stored["name"]) if node.role == "head"]
        dead = {
            (InstanceState.RUNNING, "failed"),
            (InstanceState.STOPPING, "ended"),
            (InstanceState.STOPPED, "ended"),
        }
        # The one before may be shutting down still, when `down` did not wait for it.
        states = {head.state for head in heads} - {InstanceState.TERMINATED}
        found = states == {InstanceState.SHUTTING_DOWN} or any(
            (head.state, head.status) in dead for head in heads
        )
        return ["module.cluster.aws_instance.head"] if found else []

    def watch_head(self, cluster: Cluster, *, step_timeout: float) -> Iterator[HeadStatus]:
        """Yield each new status of the head until it is ready."""
        watch = HeadWatch(self._access, cluster, clock=self._clock, step_timeout=step_timeout)
        return watch.statuses()

    def all_shutting_down(self, cluster: str) -> bool:
        """Return whether every instance has been asked to end, and no Auto Scaling group can add another."""
        return is_all_shutting_down(self._access, self._region, cluster)

    def leftovers(self, cluster: str) -> list[str]:
        """Return what in this region, and in IAM, still carries the cluster's tags."""
        return [resource.name for resource in find_tagged(self._access, self._region, cluster)]

    def remove_leftovers(self, directory: Path) -> None:
        """Leave everything: some of it takes minutes to vanish, and Terraform removes the rest."""

    def tagged(self, cluster: str) -> list[TaggedResource]:
        """Return what in this region, and in IAM, carries the cluster's tags, with its rules and policies."""
        found = find_tagged(self._access, self._region, cluster)
        return [*found, *find_parts(self._access, self._region, cluster, found)]

    def remove_strays(self, strays: Sequence[TaggedResource]) -> None:
        """Delete the cluster's parameters and close its ports, of those that are named."""
        remove_strays(self._access, self._region, strays)

    @contextmanager
    def open_ray_api(
        self, cluster: Cluster, *, identity_file: Path | None = None, local_port: int | None = None
    ) -> Iterator[RayApi]:
        """Forward the head's dashboard port to this machine while the context is open."""
        from daft_launcher import ssh

        login = self.get_login(cluster, identity_file=identity_file)
        with self._explaining_silence(cluster):
            token = as_token(self._read(login, self._reach.token_path), self._reach.token_path, login)
        tunnel = ssh.open_tunnel(
            **ssh_arguments(login, self._reach.ssh_timeout),
            remote_port=self._reach.ray_port,
            local_port=local_port,
        )
        with tunnel as port, kept_open(tunnel, every=self._reach.tunnel_check):
            yield RayApi(url=f"http://127.0.0.1:{port}", token=token)

    def get_login(self, cluster: Cluster, *, identity_file: Path | None = None) -> SshLogin:
        """Return how to log in to the head, which has said its address and host key through AWS."""
        from daft_launcher import ssh

        address, host_key = get_head_login(self._access, cluster)
        identity = ssh.find_identity(
            explicit=identity_file or self._identity_file,
            directory=cluster.directory,
            ssh_key_name=self._ssh_key_name,
        )
        user = cluster.ssh_user or DEFAULT_SSH_USER
        return SshLogin(
            address=address,
            port=self._reach.ssh_port,
            user=user,
            host_key=host_key,
            identity_file=identity,
        )

    def read_bootstrap_log(self, cluster: Cluster, *, identity_file: Path | None = None) -> str:
        """Return the end of the head's bootstrap log, read over SSH."""
        login = self.get_login(cluster, identity_file=identity_file)
        with self._explaining_silence(cluster):
            return self._read(login, BOOTSTRAP_LOG_PATH)

    def _read(self, login: SshLogin, path: str) -> str:
        from daft_launcher import ssh

        data = ssh.read_file(**ssh_arguments(login, self._reach.ssh_timeout), path=path)
        return data.decode("utf-8", "replace")

    def _explaining_silence(self, cluster: Cluster) -> AbstractContextManager[None]:
        return explaining_silence(cluster.directory, ssh_allowed_cidrs=self._ssh_allowed_cidrs)

    def find_rate(self, offer: Offer, *, cluster: str) -> Rate:
        """Return what AWS asks for an offer; the price of spot is that of the cluster's zone, where it has one."""
        from daft_launcher.providers.aws_prices import find_rate

        zone = None
        if offer.kind == "spot":
            with suppress(AWSError):
                zone = next((node.zone for node in self.list_instances(cluster) if node.zone), None)
        return find_rate(self._access, offer, zone=zone)

    def _operator_cidrs(self) -> list[str]:
        if self._ssh_allowed_cidrs:
            return []
        from daft_launcher.public_address import find_public_address

        return [f"{find_public_address()}/32"]

    def _public_key(self, directory: Path, *, shared: bool) -> str | None:
        if self._ssh_key_name:
            return None
        from daft_launcher import ssh

        if self._identity_file:
            return ssh.public_key_of(self._identity_file)
        # What an apply was made with here is the cluster's key, but no other.
        made_here = (directory / ssh.GENERATED_KEY).exists() and was_applied(directory)
        stored = read_reference(directory) if shared and not made_here else None
        if stored:
            self.account()  # What is wrong with the credentials is said of all that is asked.
        registered = self._registered_key(stored["name"]) if stored else None
        return registered or ssh.make_key_pair(directory / ssh.GENERATED_KEY)

    def _registered_key(self, cluster: str) -> str | None:
        """Return the public half of the key that a living head was made with; None where there is none."""
        nodes = self.list_instances(cluster)
        if not any(node.role == "head" and node.state in _LIVING for node in nodes):
            return None
        with self._access.asking("ec2", self._region, "read the cluster's public key") as ec2:
            answer = ec2.describe_key_pairs(Filters=cluster_filters(cluster), IncludePublicKey=True)
        lines = [key.get("PublicKey", "") for key in answer["KeyPairs"]]
        # EC2 adds a comment, which would be another key to Terraform.
        return next((" ".join(line.split()[:2]) for line in lines if line), None)


def list_instances_in(
    regions: Sequence[str] | None,
    *,
    profile: str | None,
    cluster: str | None,
    all_regions: bool,
    page_size: int = PAGE_SIZE,
) -> RegionListing:
    """Return the nodes of one cluster, or of all, in the regions named; in the user's own when none is.

    A region that fails stands in `failures`. Raises AWSError when it cannot be known which to ask, and
    MissingCredentialsError when nobody may ask.
    """
    access = AWSAccess(profile=profile)
    asked = (
        _enabled_regions(access) if all_regions else list(dict.fromkeys(regions or [access.default_region()]))
    )
    found: dict[str, list[Instance]] = {}
    failures: dict[str, AWSError] = {}

    def ask(region: str) -> None:
        try:
            found[region] = _list_region(access, region, cluster, page_size)
        except MissingCredentialsError:
            raise
        except AWSError as error:
            failures[region] = error

    _in_parallel(ask, asked)
    return RegionListing(
        instances=tuple(sort_instances(instance for region in asked for instance in found.get(region, ()))),
        failures={region: failures[region] for region in asked if region in failures},
    )


def _list_region(access: AWSAccess, region: str, cluster: str | None, page_size: int) -> list[Instance]:
    with access.asking("ec2", region, "list the instances") as ec2:
        described = describe_instances(ec2, cluster_filters(cluster), page_size=page_size)
    return read_instances(described, region)


def _enabled_regions(access: AWSAccess) -> list[str]:
    """Without a filter, EC2 answers with the regions that the account has enabled."""
    with access.asking("ec2", access.default_region(), "list the regions") as ec2:
        return sorted(region["RegionName"] for region in ec2.describe_regions()["Regions"])


def _in_parallel(ask: Callable[[str], None], regions: Sequence[str]) -> None:
    if len(regions) == 1:
        return ask(regions[0])
    fatal: list[Exception] = []

    def run(region: str) -> None:
        try:
            ask(region)
        except Exception as error:
            fatal.append(error)

    # Daemons, so that Ctrl-C does not wait for a region that hangs.
    threads = [threading.Thread(target=run, args=(region,), daemon=True) for region in regions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if fatal:
        raise fatal[0]
    return None
