"""AWS on this machine: what Terraform makes of instances boots, runs its user data and answers over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moto.ec2.models.instances import Instance

from tests.lab import index, network
from tests.lab.cloud import LabCloud
from tests.lab.enter import VARIABLE
from tests.lab.machine import Facts, Machine, wait_for
from tests.lab.metadata import MetadataServer
from tests.moto.server import DEFAULT_IMAGE

_PAUSE = 0.2
_OFF = {"shutting-down", "terminated", "stopping", "stopped"}


class Lab:
    """The lab for the length of a `with` block; `folder` keeps the machines' logs.

    `pending` and `shutting_down` are the seconds that EC2 takes, `boot` those until a machine's init starts.
    """

    def __init__(
        self, folder: Path, *, pending: float = 4, shutting_down: float = 8, boot: float = 12
    ) -> None:
        self.folder = folder
        self.cloud = LabCloud(pending=pending, shutting_down=shutting_down)
        self.machines: dict[str, Machine] = {}
        self.troubles: list[BaseException] = []
        self._boot = boot
        self._firewalls: list[network.Firewall] = []
        self._done = threading.Event()
        self._close = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        assert VARIABLE in os.environ, "not inside: python -m tests.lab.enter COMMAND"
        self.folder.mkdir(exist_ok=True)
        network.open_router()
        with contextlib.ExitStack() as close:
            close.enter_context(self.cloud)
            self.packages = close.enter_context(
                index.PackageIndex(Path(os.environ[VARIABLE]), network.OPERATOR)
            )
            close.enter_context(MetadataServer(network.METADATA, self._look))
            close.callback(self._switch_all_off)
            reconciler = threading.Thread(target=self._reconcile, name="lab", daemon=True)
            reconciler.start()
            close.callback(reconciler.join, 30)
            close.callback(self._done.set)
            self._close = close.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a user's program."""
        return {**self.cloud.environment(base), "DAFT_CHECKIP_URL": self.packages.checkip_url}

    def machine(self, instance: Instance) -> Machine:
        """Return the machine of an instance, once it is there."""
        wait_for(lambda: instance.id in self.machines, f"machine {instance.id}")
        return self.machines[instance.id]

    def launch(self, group: str) -> Machine:
        """Start an instance of somebody else's, in a security group of its own that lets nothing in."""
        ec2 = self.cloud.client("ec2")
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        group_id = ec2.create_security_group(GroupName=group, Description=group)["GroupId"]
        started = ec2.run_instances(
            ImageId=DEFAULT_IMAGE,
            InstanceType="m7g.medium",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            SecurityGroupIds=[group_id],
        )
        return self.machine(self.cloud.backend().get_instance(started["Instances"][0]["InstanceId"]))

    def stop(self, instance: Instance) -> None:
        """Stop an instance: its machine is off, its disk stays."""
        self.cloud.client("ec2").stop_instances(InstanceIds=[instance.id])
        wait_for(lambda: not self.machine(instance).on, "machine that is off")

    def start(self, instance: Instance) -> None:
        """Start a stopped instance, which has another public address from then on."""
        self.cloud.client("ec2").start_instances(InstanceIds=[instance.id])
        wait_for(lambda: self.machine(instance).on, "machine that is on")

    def terminate(self, instance: Instance) -> None:
        """End an instance as somebody in AWS's console does, or as a Spot Instance is."""
        ec2 = self.cloud.client("ec2")
        ec2.terminate_instances(InstanceIds=[instance.id])

    def logs(self) -> str:
        """Return what all machines have logged while they booted."""
        return "\n".join(f"{m.name}:\n{m.console()}{m.log()}" for m in list(self.machines.values()))

    def _look(self, address: str) -> Mapping[str, str] | None:
        for machine in list(self.machines.values()):
            if machine.on and machine.facts.private == address:
                return self.cloud.metadata(self.cloud.backend().get_instance(machine.facts.instance_id))
        return None

    def _reconcile(self) -> None:
        while not self._done.wait(_PAUSE):
            try:
                instances = self.cloud.snapshot()
                for instance in instances:
                    self._switch(instance)
                self._guard([i for i in instances if i.id in self.machines and i.state not in _OFF])
            except Exception as error:  # the lab goes on; its user asserts that there was none
                self.troubles.append(error)
                time.sleep(1)

    def _switch(self, instance: Instance) -> None:
        machine = self.machines.get(instance.id)
        if machine is None:
            if instance.state == "running":
                # Known before it is built, or one that fails would be built again and again.
                new = Machine(self._facts(instance), self.folder / instance.id)
                self.machines[instance.id] = new
                new.start()
        elif instance.state == "terminated":
            machine.throw_away()
        elif instance.state in _OFF:
            machine.kill()
        elif machine.end() == "halt":
            self._obey(instance)
        elif machine.end() == "crash":
            self.cloud.unreachable.add(instance.id)
        elif machine.end() == "reboot" or (instance.state == "running" and not machine.on):
            machine.kill()
            machine.start(self._facts(instance))

    def _obey(self, instance: Instance) -> None:
        """What EC2 does when a machine switches itself off."""
        ec2 = self.cloud.client("ec2")
        if instance.instance_initiated_shutdown_behavior == "terminate":
            ec2.terminate_instances(InstanceIds=[instance.id])
        else:
            ec2.stop_instances(InstanceIds=[instance.id])

    def _facts(self, instance: Instance) -> Facts:
        return Facts(
            instance_id=instance.id,
            private=str(instance.private_ip),
            public=instance.public_ip,
            user="ec2-user",
            public_key=self.cloud.public_key(instance),
            user_data=self.cloud.user_data(instance),
            endpoint=self.cloud.url,
            delay=self._boot,
            init=self.cloud.init_of(instance),
        )

    def _guard(self, instances: list[Instance]) -> None:
        firewalls = [self.cloud.firewall(instance) for instance in instances]
        if firewalls != self._firewalls:
            network.close_all_but(firewalls)
            self._firewalls = firewalls

    def _switch_all_off(self) -> None:
        for machine in self.machines.values():
            machine.throw_away()


@dataclass
class Project:
    """A user's folder with a `.daft.toml`."""

    root: Path
    lab: Lab
    environ: Mapping[str, str]
    name: str
    setup: Mapping[str, object] = field(default_factory=dict)
    run: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        values = {
            "name": self.name,
            "provider": "aws",
            "python_version": index.python_version(),
            "package_index": self.lab.packages.url,
            **self.setup,
        }
        tables = {"setup": values, "run": self.run}
        # A value of ours is a string, a number or a list of strings: JSON says these as TOML does.
        text = "".join(
            f"[{name}]\n"
            + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if value is not None)
            for name, table in tables.items()
        )
        (self.root / ".daft.toml").write_text(text)

    @property
    def state(self) -> Path:
        return self.root / ".daft" / self.name

    def start(self, *args: str) -> Running:
        """Start the installed `daft` as a user would."""
        return Running(self, args)

    def daft(self, *args: str, timeout: float = 300) -> Seen:
        """Run `daft` to its end."""
        return self.start(*args).end(timeout)

    @contextlib.contextmanager
    def starting(self) -> Iterator[Running]:
        """Start `daft up` for the length of a block, then remove what it made, and see that nothing is left."""
        up = self.start("up")
        try:
            yield up
        finally:
            up.kill()
            seen = self.daft("down", "--wait")
        assert seen.status == 0, seen
        assert self.lab.cloud.tagged(self.name) == []

    @contextlib.contextmanager
    def brought_up(self) -> Iterator[Project]:
        """Be a cluster that is up, workers included, for the length of a block."""
        with self.starting() as up:
            seen = up.end(600)
            assert seen.status == 0, f"{seen.out}{seen.err}\n{self.lab.logs()}"
            self.wait_ready()
            yield self

    def statuses(self) -> list[str]:
        """Return what the nodes that run say of themselves, as `daft list` shows it."""
        nodes = [node for node in json.loads(self.daft("list", "--json").out) if node["cluster"] == self.name]
        return [node["status"] for node in nodes if node["state"] == "Running"]

    def wait_ready(self, *, timeout: float = 240) -> None:
        """Wait until the head and as many workers as the configuration asks for are ready."""
        asked = ["ready"] * (1 + int(str(self.setup.get("number_of_workers", 2))))
        wait_for(lambda: self.statuses() == asked, "nodes that are ready", timeout=timeout, pause=1)

    def instance(self) -> Instance:
        """Return the head as moto has it."""
        return self.lab.cloud.find(self.name, "head")[0]

    def head(self) -> Machine:
        """Return the machine of the cluster's head."""
        found = wait_for(lambda: self.lab.cloud.find(self.name, "head"), f"head of {self.name}", timeout=60)
        return self.lab.machine(found[0])

    def workers(self) -> list[Machine]:
        """Return the machines of the cluster's workers."""
        return [self.lab.machine(worker) for worker in self.lab.cloud.find(self.name, "worker")]


class Running:
    """The program at work; `out` and `err` are what it has said so far."""

    def __init__(self, project: Project, args: tuple[str, ...]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{args[0]}-", dir=project.root.parent))
        self._began = time.monotonic()
        with (self._folder / "out").open("w") as out, (self._folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "daft", *args],
                cwd=project.root,
                env=dict(project.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return (self._folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self._folder / "err").read_text()

    def says(self, text: str, *, timeout: float = 60) -> None:
        """Wait until the program has said something."""
        wait_for(
            lambda: text in self.out + self.err or self.process.poll() is not None,
            repr(text),
            timeout=timeout,
        )
        assert text in self.out + self.err, f"{self.out}{self.err}"

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 60) -> Seen:
        """Wait for the end."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not end\n{self.out}{self.err}") from None
        return Seen(status, self.out, self.err, time.monotonic() - self._began)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass(frozen=True)
class Seen:
    """What a user sees of a command that has ended, and how many seconds it took."""

    status: int
    out: str
    err: str
    seconds: float
