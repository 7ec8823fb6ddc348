"""Where the lives are lived: one AWS for all of them, heads that are ready as soon as they run, and folders."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.aws.awskit import Project, tags_of
from tests.moto.server import MotoServer
from tests.provider_mirror import QUICK_START
from tests.torture.proxy import FaultProxy

REGION = "us-west-2"
_LOOK_SECONDS = 0.2


class World:
    """One AWS in which all clusters live, and the folder in which each has its own, for a `with` block."""

    def __init__(self, aws: MotoServer, folder: Path, *, plugin_dir: Path | None) -> None:
        self.aws = aws
        self.folder = folder
        self.turns = threading.Lock()
        self._names: set[str] = set()
        self._environ = {
            "COLUMNS": "100",
            "DAFT_TERRAFORM_DOWNLOAD": "never",
            "NO_PROXY": "*",
            "USER": "ann",
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "PATH": os.environ["PATH"],
            **QUICK_START,
        }
        if plugin_dir:
            self._environ["DAFT_TERRAFORM_PLUGIN_DIR"] = str(plugin_dir)
        self._ended = threading.Event()
        self._heads = threading.Thread(target=self._play_heads, name="heads")

    def __enter__(self) -> World:
        self._heads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._heads.join()

    @contextlib.contextmanager
    def project(self, name: str) -> Iterator[tuple[Project, FaultProxy]]:
        """Give a user's folder for a cluster, and the proxy through which all of its program goes to AWS."""
        with FaultProxy(self.aws.url, turns=self.turns) as proxy:
            environ = self.aws.environment(self._environ) | {"AWS_ENDPOINT_URL": proxy.url}
            (self.folder / name).mkdir()
            self._names.add(name)
            project = Project(self.folder / name / "project", self.aws, environ, name=name, region=REGION)
            yield project, proxy
        with self.turns:
            self._forget(name)

    def tagged(self, name: str) -> list[str]:
        """Return what carries a cluster's tag."""
        with self.turns:
            return self.aws.tagged(name, REGION)

    def count(self, name: str) -> dict[str, int]:
        """Return how many of each kind of thing carry a cluster's tag."""
        return dict(Counter(_kind_of(thing) for thing in self.tagged(name)))

    def nodes(self, project: Project) -> dict[str, int]:
        """Return how many nodes run, by their role."""
        with self.turns:
            return {role: len(project.nodes(role)) for role in ("head", "worker")}

    def make_foreign(self, name: str) -> None:
        """Make somebody else's things, which carry a cluster's names but not its tags."""
        with self.turns:
            ec2, iam = self.aws.client("ec2", REGION), self.aws.client("iam", REGION)
            vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
            ec2.create_security_group(GroupName=f"daft-{name}", Description="not ours", VpcId=vpc)
            iam.create_role(RoleName=_foreign_role(name), Path="/daft/", AssumeRolePolicyDocument="{}")

    def remove_foreign(self, name: str) -> bool:
        """Remove these, and return whether all were there still."""
        with self.turns:
            ec2, iam = self.aws.client("ec2", REGION), self.aws.client("iam", REGION)
            by_name = [{"Name": "group-name", "Values": [f"daft-{name}"]}]
            groups = ec2.describe_security_groups(Filters=by_name)["SecurityGroups"]
            foreign = [group for group in groups if group["Description"] == "not ours"]
            for group in foreign:
                ec2.delete_security_group(GroupId=group["GroupId"])
                ec2.delete_vpc(VpcId=group["VpcId"])
            roles = [role["RoleName"] for role in iam.list_roles(PathPrefix="/daft/")["Roles"]]
            if _foreign_role(name) in roles:
                iam.delete_role(RoleName=_foreign_role(name))
        return len(foreign) == 1 and _foreign_role(name) in roles

    def _play_heads(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with self.turns:
                for head in self.aws.instances(REGION, role="head", state="running"):
                    tags = tags_of(head)
                    if tags["daft:cluster"] in self._names and "daft:status" not in tags:
                        self.aws.set_tags(head, {"daft:status": "ready", "daft:detail": ""})

    def _forget(self, name: str) -> None:
        """Drop a cluster's terminated instances, which EC2 forgets within the hour and moto never."""
        reservations = self.aws.backend(REGION).reservations
        for key, reservation in list(reservations.items()):
            ended = all(node.state == "terminated" for node in reservation.instances)
            if ended and all(tags_of(node).get("daft:cluster") == name for node in reservation.instances):
                del reservations[key]


def _kind_of(thing: str) -> str:
    """Return the kind of what an id, an ARN or a path names."""
    if thing.startswith("arn:"):
        parts = thing.split(":")
        return f"{parts[2]} {parts[5].partition('/')[0]}"
    return "parameter" if thing.startswith("/") else thing.partition("-")[0]


def _foreign_role(name: str) -> str:
    return f"{name}-{REGION}-headless"
