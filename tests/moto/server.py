"""AWS on 127.0.0.1: moto's server in this process, put right where AWS behaves otherwise.

In this process, so that a test can look at and change what moto holds. moto keeps its state in module globals: one
MotoServer at a time in a process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import boto3
from moto.ec2.models import EC2Backend, ec2_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from tests.leaks import SEARCH
from tests.moto.corrections import DEFAULT_IMAGE, Failure, Request, corrected
from tests.provider_mirror import QUICK_START

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from moto.ec2.models.instances import Instance

__all__ = ["DEFAULT_IMAGE", "Failure", "MotoServer", "Request"]

ACCOUNT = "123456789012"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "moto/wants/none/and/gets/this/0",
}
SEARCH.learn("an AWS secret key", _CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_EC2_KINDS = (  # the call that lists a kind, the key of its list, the key of an id
    ("describe_key_pairs", "KeyPairs", "KeyPairId"),
    ("describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
    ("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("describe_security_groups", "SecurityGroups", "GroupId"),
    ("describe_security_group_rules", "SecurityGroupRules", "SecurityGroupRuleId"),
    ("describe_volumes", "Volumes", "VolumeId"),
)


class MotoServer:
    """A moto server for the length of a `with` block.

    `pending` and `shutting_down` are the seconds that an instance stays in these states, which moto itself skips.
    They may be changed at any time.
    """

    def __init__(self, *, pending: float = 0, shutting_down: float = 0) -> None:
        self.pending = pending
        self.shutting_down = shutting_down
        #: Every call since the start or the last reset, in order.
        self.requests: list[Request] = []
        #: Held by whoever reads or changes what moto holds, in a call.
        self.turn = threading.RLock()
        self._failures: dict[tuple[str | None, str], Failure] = {}
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> MotoServer:
        with contextlib.ExitStack() as undo:
            undo.enter_context(
                _environment(MOTO_IAM_LOAD_MANAGED_POLICIES="true", MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS="false")
            )
            undo.enter_context(_quiet("werkzeug"))
            undo.enter_context(corrected(self))
            self.reset()
            self._server.start()
            undo.callback(self._server.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def url(self) -> str:
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment for a subprocess that is to find this server and no other AWS."""
        env = {
            key: value
            for key, value in (os.environ if base is None else base).items()
            if not key.startswith("AWS_") and key.upper() not in _PROXIES
        }
        env |= _CREDENTIALS
        env |= {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            **QUICK_START,
        }
        return env

    def client(self, service: str, region: str = "us-west-2") -> Any:
        """Return a boto3 client of this server."""
        session: Any = boto3.Session(
            aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
        )
        return session.client(service, endpoint_url=self.url)

    def client_of(self, role: str, service: str, region: str = "us-west-2") -> Any:
        """Return a client that acts in a role, as of another account."""
        granted = self.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        session: Any = boto3.Session(
            aws_access_key_id=granted["AccessKeyId"],
            aws_secret_access_key=granted["SecretAccessKey"],
            aws_session_token=granted["SessionToken"],
            region_name=region,
        )
        return session.client(service, endpoint_url=self.url)

    def backend(self, region: str = "us-west-2") -> EC2Backend:
        """Return moto's own EC2 state of a region, to look at or to change under the program's feet."""
        return ec2_backends[ACCOUNT][region]

    def instances(
        self, region: str = "us-west-2", *, role: str | None = None, state: str | None = None
    ) -> list[Instance]:
        """Return the instances of a region, of one `daft:role` or in one state if asked."""
        return [
            instance
            for instance in self.backend(region).all_instances()
            if role is None or _role_of(instance) == role
            if state is None or instance.state == state
        ]

    @contextlib.contextmanager
    def failing(self, action: str, failure: Failure, *, region: str | None = None) -> Iterator[None]:
        """Let each call of an action of EC2 or the price list fail, everywhere or in one region, for a `with` block."""
        self._failures[region, action] = failure
        try:
            yield
        finally:
            del self._failures[region, action]

    def failure_of(self, action: str, region: str) -> Failure | None:
        """Return what a call fails with now; None if it does not."""
        return self._failures.get((region, action)) or self._failures.get((None, action))

    def set_tags(self, instance: Instance, tags: Mapping[str, str]) -> None:
        """Play the node: `set_tags(head, {"daft:status": "ready"})`."""
        instance.add_tags(dict(tags))

    def tagged(self, cluster: str, region: str = "us-west-2") -> list[str]:
        """Return the ids of what carries a cluster's tag; terminated instances do not count."""
        by_tag = [{"Name": "tag:daft:cluster", "Values": [cluster]}]
        tag = {"Key": "daft:cluster", "Value": cluster}
        ec2, iam = self.client("ec2", region), self.client("iam", region)
        ids = [
            thing[id_key]
            for call, key, id_key in _EC2_KINDS
            for thing in getattr(ec2, call)(Filters=by_tag)[key]
        ]
        for reservation in ec2.describe_instances(Filters=by_tag)["Reservations"]:
            ids += [i["InstanceId"] for i in reservation["Instances"] if i["State"]["Name"] != "terminated"]
        for group in self.client("autoscaling", region).describe_auto_scaling_groups()["AutoScalingGroups"]:
            ids += [group["AutoScalingGroupARN"] for t in group["Tags"] if tag.items() <= t.items()]
        parameters = self.client("ssm", region).describe_parameters(
            ParameterFilters=[{"Key": "tag:daft:cluster", "Values": [cluster]}]
        )
        ids += [parameter["Name"] for parameter in parameters["Parameters"]]
        # IAM knows no regions: a cluster of the same name elsewhere has its region in the name.
        for role in iam.list_roles(PathPrefix="/daft/")["Roles"]:
            tags = iam.list_role_tags(RoleName=role["RoleName"])["Tags"]
            ids += [role["Arn"]] if tag in tags and f"-{region}-" in role["RoleName"] else []
        for profile in iam.list_instance_profiles(PathPrefix="/daft/")["InstanceProfiles"]:
            tags = profile.get("Tags", [])
            ids += [profile["Arn"]] if tag in tags and f"-{region}-" in profile["InstanceProfileName"] else []
        return sorted(ids)

    def reset(self) -> None:
        """Forget every resource and request."""
        moto_api_backend.reset()
        self.requests.clear()


def _role_of(instance: Instance) -> str | None:
    return next((tag["value"] for tag in instance.get_tags() if tag["key"] == "daft:role"), None)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
