"""EC2 for the lab: the moto server, at an address that machines can reach and with addresses that they can have."""

from __future__ import annotations

import base64
import contextlib
import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import elastic_network_interfaces
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import random_ami_id
from moto.iam.models import iam_backends
from moto.server import ThreadedMotoServer

from tests.lab import network
from tests.leaks import SEARCH
from tests.moto.corrections import patched
from tests.moto.server import ACCOUNT, DEFAULT_IMAGE, MotoServer

REGION = "us-west-2"
_ENDED = {"shutting-down", "terminated"}
#: What starts on a machine, by the name of its image; every other image has systemd.
_INITS = {"without systemd": "plain", "that never boots": "broken"}


class LabCloud(MotoServer):
    """A MotoServer for machines: it listens at the router, and says what EC2 knows of an instance."""

    def __init__(self, *, pending: float, shutting_down: float) -> None:
        super().__init__(pending=pending, shutting_down=shutting_down)
        self._server = ThreadedMotoServer(ip_address=network.ROUTER, port=0, verbose=False)
        self._patches = contextlib.ExitStack()
        #: The ids of instances whose machine has crashed.
        self.unreachable: set[str] = set()

    def __enter__(self) -> LabCloud:
        with contextlib.ExitStack() as undo:
            undo.enter_context(_addresses_of_the_lab())
            undo.enter_context(patched(Instance, "instance_status", property(self._instance_status)))
            undo.enter_context(
                patched(InstanceResponse, "run_instances", _as_many_as_can_be(InstanceResponse.run_instances))
            )
            super().__enter__()
            self._patches = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._patches:
            super().__exit__(kind, error, trace)

    def snapshot(self) -> list[Instance]:
        """Return all instances, also while others come and go in the server's threads."""
        found: list[Instance] = _patiently(lambda: self.instances(REGION))
        return found

    def find(self, cluster: str, role: str) -> list[Instance]:
        """Return the instances of a cluster that have not been told to end."""
        wanted = {"daft:cluster": cluster, "daft:role": role}
        return [i for i in self.snapshot() if i.state not in _ENDED and wanted.items() <= tags_of(i).items()]

    def add_image(self, name: str) -> str:
        """Return the id of a new image: "without systemd", or "that never boots"."""
        images = self.backend(REGION).amis
        image = copy.copy(images[DEFAULT_IMAGE])
        image.id, image.name = random_ami_id(), name
        images[image.id] = image
        return image.id

    def init_of(self, instance: Instance) -> str:
        """Return what the image of an instance starts: "systemd", "plain" or "broken"."""
        image = self.backend(REGION).amis.get(instance.image_id)
        return _INITS.get(image.name if image else "", "systemd")

    def _instance_status(self, instance: Instance) -> dict[str, Any]:
        if instance.state != "running":
            return {"Status": "not-applicable"}
        ill = instance.id in self.unreachable
        details = [{"Name": "reachability", "Status": "failed" if ill else "passed"}]
        return {"Status": "impaired" if ill else "ok", "Details": details}

    def user_data(self, instance: Instance) -> bytes:
        return base64.b64decode(str(instance.user_data or ""))

    def public_key(self, instance: Instance) -> str:
        pair = self.backend(REGION).key_pairs.get(str(instance.key_name))
        return pair.public_key.strip() if pair else ""

    def metadata(self, instance: Instance) -> Mapping[str, str]:
        """Return what the metadata service says, by path below /latest/."""
        found = {
            "ami-id": instance.image_id,
            "instance-id": instance.id,
            "instance-type": instance.instance_type,
            "local-hostname": instance.private_dns_name,
            "local-ipv4": instance.private_ip,
            "placement/availability-zone": instance.placement.zone,
            "placement/region": REGION,
            "public-ipv4": instance.public_ip,
            "public-keys/0/openssh-key": self.public_key(instance),
        }
        if role := self._role(instance):
            keys = {
                "AccessKeyId": f"ASIA{instance.id[-16:].upper()}",
                "SecretAccessKey": f"secret-{instance.id}",
                "Token": f"token-{instance.id}",
                "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 21600)),
            }
            SEARCH.learn("an instance's secret key", keys["SecretAccessKey"])
            SEARCH.learn("an instance's session token", keys["Token"])
            found[f"iam/security-credentials/{role}"] = json.dumps({"Code": "Success", **keys})
        return {f"meta-data/{path}": value for path, value in found.items() if value}

    def firewall(self, instance: Instance) -> network.Firewall:
        """Return what an instance's security groups let in."""
        addresses = [address for address in (instance.private_ip, instance.public_ip) if address]
        rules = [rule for group in _groups(instance) for rule in self._rules(group)]
        return network.Firewall(instance.id[:15], tuple(addresses), tuple(rules))

    def _rules(self, group: SecurityGroup) -> Iterator[network.Rule]:
        for rule in group.ingress_rules:
            sources = tuple(self._sources(rule))
            ports = None if rule.from_port is None else (int(rule.from_port), int(rule.to_port or 0))
            if sources:
                yield network.Rule(rule.ip_protocol or "-1", ports, sources)

    def _sources(self, rule: SecurityGroupRule) -> Iterator[str]:
        if cidr := rule.ip_range.get("CidrIp"):
            yield cidr
        if wanted := rule.source_group.get("GroupId"):
            for instance in self.snapshot():
                if instance.state not in _ENDED and wanted in {group.id for group in _groups(instance)}:
                    yield str(instance.private_ip)

    def _role(self, instance: Instance) -> str | None:
        """Return the name of the role of an instance's profile, which moto forgets when a template names it."""
        name = getattr(instance, "iam_instance_profile", None)
        template = tags_of(instance).get("aws:ec2launchtemplate:id")
        if template:
            version = self.backend(REGION).get_launch_template(template).latest_version()
            name = version.data.get("IamInstanceProfile", {}).get("Name")
        profiles = iam_backends[ACCOUNT]["aws"].instance_profiles.values()
        named = [profile for profile in profiles if name in (profile.name, profile.arn)]
        associated = self.backend(REGION).iam_instance_profile_associations.get(instance.id)
        if not named and associated:
            named = [associated.iam_instance_profile]
        return named[0].roles[0].name if named and named[0].roles else None


def tags_of(instance: Instance) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in _patiently(lambda: list(instance.get_tags()))}


def _groups(instance: Instance) -> list[SecurityGroup]:
    return [group for nic in list(instance.nics.values()) for group in nic.group_set]


def _patiently(look: Callable[[], Any]) -> Any:
    # moto's threads add and remove meanwhile, and a dictionary that changes its size cannot be read.
    for _ in range(50):
        with contextlib.suppress(RuntimeError):
            return look()
    raise AssertionError("moto's state does not stop changing")


def _as_many_as_can_be(
    run_instances: Callable[[InstanceResponse], ActionResult],
) -> Callable[[InstanceResponse], ActionResult]:
    # EC2 starts up to MaxCount; moto MinCount, which Ray's autoscaler sets to one.
    def run(response: Any) -> ActionResult:
        ask = response._get_param
        response._get_param = lambda name, *more, **options: ask(
            "MaxCount" if name == "MinCount" else name, *more, **options
        )
        return run_instances(response)

    return run


@contextlib.contextmanager
def _addresses_of_the_lab() -> Iterator[None]:
    nics: Any = elastic_network_interfaces
    create_vpc, random_public_ip = VPCBackend.create_vpc, nics.random_public_ip
    hosts = itertools.cycle(range(10, 250))

    def create(backend: VPCBackend, cidr_block: str, *args: Any, **options: Any) -> Any:
        inside = network.VPC if options.get("is_default") else cidr_block
        return create_vpc(backend, inside, *args, **options)

    VPCBackend.create_vpc = create  # type: ignore[method-assign, assignment]
    nics.random_public_ip = lambda: f"198.51.100.{next(hosts)}"
    try:
        yield
    finally:
        VPCBackend.create_vpc = create_vpc  # type: ignore[method-assign]
        nics.random_public_ip = random_public_ip
