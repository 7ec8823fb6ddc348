"""Bring the same cluster up with `daft` and with `ray up`, in turn, on the lab's machines, and print the table.

Runs inside the lab: `make bench-up`. Both install the same packages from the same index with the same uv, on images
that hold neither. The clock starts with the command. The head is ready when its Ray answers a question about jobs; a
node has joined when Ray's own list says that it is alive. The account has seen `ray up` before, so that its role is
there; with --new-account Ray makes that role too, once, and waits half a minute for it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.lab import index
from tests.lab.cloud import REGION, tags_of
from tests.lab.lab import Lab
from tests.lab.machine import Machine, wait_for
from tests.moto.server import DEFAULT_IMAGE

DAFT = str(Path(sys.executable).with_name("daft"))
PATIENCE = 420
PACKAGES = ("daft[ray]>=0.7", "ray[default]>=2.54")
COLUMNS = (
    *("init", "plan", "apply", "head ready", "all joined", "command returns", "submit to first line", "down"),
    *("AWS calls of up", "AWS calls of down"),
)
PROBE = """\
import json, pathlib, sys, time
from urllib import request
wanted, told = int(sys.argv[1]), False
while True:
    try:
        token = pathlib.Path("/etc/daft/ray-token")
        headers = {"Authorization": "Bearer " + token.read_text()} if token.exists() else {}
        ask = lambda path: request.urlopen(request.Request("http://127.0.0.1:8265/" + path, headers=headers), timeout=5)
        ask("api/jobs/").close()
        nodes = json.load(ask("nodes?view=summary"))["data"]["summary"]
    except Exception:
        time.sleep(0.2)
        continue
    if not told:
        print(time.time(), flush=True)
        told = True
    if sum(node["raylet"].get("state") == "ALIVE" for node in nodes) >= wanted:
        print(time.time(), flush=True)
        break
    time.sleep(0.5)
"""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to bring a cluster up, in a user's folder of its own; a command is its words."""

    name: str
    folder: Path
    environ: Mapping[str, str]
    head_tag: tuple[str, str]
    up: tuple[str, ...]
    submit: tuple[str, ...]
    down: tuple[str, ...]

    def run(self, command: tuple[str, ...]) -> None:
        """Run it to its end."""
        with (self.folder / "output").open("a") as output:
            subprocess.run(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=True,
            )

    def time_first_line(self) -> float:
        """Return the seconds from the command that submits to the job's first line here."""
        began, seen = time.monotonic(), None
        with subprocess.Popen(
            self.submit,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                if "first line" in line and seen is None:
                    seen = time.monotonic()
        if seen is None or process.returncode:
            sys.exit(f"{self.name}: the job did not run")
        return seen - began


def by_daft(lab: Lab, folder: Path, environ: Mapping[str, str], workers: int) -> Contender:
    (folder / ".daft.toml").write_text(
        f'[setup]\nname = "bench"\nprovider = "aws"\nnumber_of_workers = {workers}\n'
        f'python_version = "{index.python_version()}"\npackage_index = "{lab.packages.url}"\n'
    )
    return Contender(
        name="daft",
        folder=folder,
        environ=environ,
        head_tag=("daft:role", "head"),
        up=(DAFT, "up"),
        submit=(DAFT, "submit", "-w", "job", "--", "python", "job.py"),
        down=(DAFT, "down", "--wait"),
    )


def by_ray(lab: Lab, folder: Path, environ: Mapping[str, str], workers: int, *, ray: str) -> Contender:
    # JSON is YAML.
    (folder / "cluster.yaml").write_text(json.dumps(ray_config(lab, workers)))
    return Contender(
        name="ray up",
        folder=folder,
        environ={**environ, "RAY_USAGE_STATS_ENABLED": "0"},
        head_tag=("ray-node-type", "head"),
        up=(ray, "up", "--yes", "--no-config-cache", "cluster.yaml"),
        submit=(ray, "submit", "cluster.yaml", "job/job.py"),
        down=(ray, "down", "--yes", "cluster.yaml"),
    )


def ray_config(lab: Lab, workers: int) -> dict[str, object]:
    wheel = next(name for name in lab.packages.wheels["uv"] if index.uv_version() in name)
    uv = f"~/uv/uv-{index.uv_version()}.data/scripts/uv"
    packages = " ".join(f"'{package}'" for package in (*PACKAGES, "boto3"))
    # boto3 on the head would otherwise ask the true AWS.
    start = f"AWS_ENDPOINT_URL={lab.cloud.url} PATH=~/venv/bin:$PATH ray start --disable-usage-stats"
    install = [
        f"curl --silent --fail --output uv.whl {lab.packages.origin}/{wheel}",
        f"python3 -m zipfile -e uv.whl ~/uv && chmod +x {uv}",
        f"{uv} venv --quiet --python {index.python_version()} ~/venv",
        f"VIRTUAL_ENV=~/venv {uv} pip install --quiet --default-index {lab.packages.url} {packages}",
        "echo 'export PATH=~/venv/bin:$PATH' >>~/.bashrc",
    ]
    node = {"node_config": {"ImageId": DEFAULT_IMAGE, "InstanceType": "m7g.medium"}, "resources": {}}
    return {
        "cluster_name": "bench",
        "max_workers": workers,
        "upscaling_speed": workers,
        "provider": {"type": "aws", "region": REGION, "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ec2-user"},
        "available_node_types": {
            "head": node,
            "worker": {**node, "min_workers": workers, "max_workers": workers},
        },
        "head_node_type": "head",
        # Not as common setup_commands, which workers of 2.59 run twice. Empty ones would mean the default: Ray's newest
        # build, by a pip that the image does not let write.
        "setup_commands": ["true"],
        "head_setup_commands": install,
        "worker_setup_commands": install,
        "head_start_ray_commands": [
            f"{start} --head --port=6379 --autoscaling-config=~/ray_bootstrap_config.yaml"
        ],
        "worker_start_ray_commands": [f"{start} --address=$RAY_HEAD_IP:6379"],
    }


def terraform_phases(logs: Path) -> dict[str, float]:
    """Return the seconds of Terraform's phases, from the times of their first and last events."""
    found = {}
    for phase in ("init", "plan", "apply"):
        path = logs / f"{phase}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        times = [json.loads(line)["@timestamp"] for line in lines if line.startswith("{")]
        times = [at for at in times if "." in at]  # `init` tells some to the second only
        if times:
            first, last = (datetime.fromisoformat(times[at].replace("Z", "+00:00")) for at in (0, -1))
            found[phase] = (last - first).total_seconds()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--new-account", action="store_true", help="nobody has run `ray up` in the account")
    parser.add_argument("--ray", required=True, help="a `ray` executable with boto3 beside it")
    options = parser.parse_args()
    contenders = {"daft": by_daft, "ray up": functools.partial(by_ray, ray=options.ray)}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    left: dict[str, list[str]] = {}
    for number in range(options.runs):
        for name, contender in contenders.items():
            with tempfile.TemporaryDirectory(prefix="bench-up-") as folder:
                seen, left[name] = measure(contender, Path(folder), options)
            measured[name].append(seen)
            words = ", ".join(f"{column} {value:.1f}" for column, value in seen.items())
            print(f"run {number + 1}, {name}: {words}", file=sys.stderr, flush=True)
    print_table(measured, left, workers=options.workers)


def measure(
    make: Callable[..., Contender], folder: Path, options: argparse.Namespace
) -> tuple[dict[str, float], list[str]]:
    """Return the seconds and the calls of one cluster's life, and what is left after it."""
    home = folder / "home"
    (home / "job").mkdir(parents=True)
    (home / "job" / "job.py").write_text("print('first line', flush=True)\n")
    keep = ("PATH", "DAFT_TERRAFORM_PLUGIN_DIR", "TF_CLI_CONFIG_FILE")
    environ = {name: os.environ[name] for name in keep if name in os.environ}
    with Lab(folder / "machines") as lab:
        environ = {
            **lab.environment(environ),
            "NO_PROXY": "*",
            "USER": "ann",
            "TERM": "dumb",
            "HOME": str(home),
        }
        contender = make(lab, home, environ, options.workers)
        if not options.new_account:
            make_role_of_ray(lab)
        before = set(inventory(lab))
        probe = Probe(lab, contender, nodes=1 + options.workers)
        began = time.time()
        try:
            contender.run(contender.up)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error}\n{(home / 'output').read_text()}\n{lab.logs()[-5000:]}")
        returned = time.time()
        head_ready, all_joined = probe.wait()
        seen = terraform_phases(home / ".daft" / "bench" / "logs") | {
            "head ready": head_ready - began,
            "all joined": all_joined - began,
            "command returns": returned - began,
            "submit to first line": contender.time_first_line(),
            "AWS calls of up": len(lab.cloud.requests),
        }
        lab.cloud.requests.clear()
        began = time.time()
        contender.run(contender.down)
        seen |= {"down": time.time() - began, "AWS calls of down": len(lab.cloud.requests)}
        wait_for(lambda: not any(m.on for m in lab.machines.values()), "machines that are off", timeout=60)
        wait_for(lambda: not ending(lab), "instances that have ended", timeout=60)
        return seen, sorted(set(inventory(lab)) - before)


def make_role_of_ray(lab: Lab) -> None:
    iam, name = lab.cloud.client("iam"), "ray-autoscaler-v1"
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    for policy in ("AmazonEC2FullAccess", "AmazonS3FullAccess"):
        iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


class Probe:
    """Asks the head's Ray, from inside and from before it is there, and keeps when it first answered."""

    def __init__(self, lab: Lab, contender: Contender, *, nodes: int) -> None:
        self._lab, self._contender, self._nodes = lab, contender, nodes
        self._times: list[float] = []
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def wait(self) -> tuple[float, float]:
        """Return when the head was ready and when all nodes had joined, in seconds of the epoch."""
        self._thread.join(PATIENCE)
        if len(self._times) != 2:
            sys.exit(f"{self._contender.name}: not all nodes joined\n{self._lab.logs()[-5000:]}")
        return self._times[0], self._times[1]

    def _ask(self) -> None:
        head = wait_for(self._head, "head", timeout=PATIENCE)
        wait_for(lambda: head.log("sshd.log"), "SSH server", timeout=PATIENCE)
        done = head.run("/usr/bin/python3", "-c", PROBE, str(self._nodes), timeout=PATIENCE)
        self._times = [float(line) for line in done.stdout.split()]

    def _head(self) -> Machine | None:
        name, value = self._contender.head_tag
        for instance in self._lab.cloud.snapshot():
            if tags_of(instance).get(name) == value and instance.id in self._lab.machines:
                return self._lab.machines[instance.id]
        return None


def ending(lab: Lab) -> bool:
    return any(instance.state == "shutting-down" for instance in lab.cloud.snapshot())


def inventory(lab: Lab) -> list[str]:
    """Return what the account holds and somebody could forget."""
    ec2, iam = lab.cloud.client("ec2"), lab.cloud.client("iam")
    looks: Mapping[str, Callable[[], list[str]]] = {
        "instance": lambda: [i.id for i in lab.cloud.snapshot() if i.state != "terminated"],
        "security group": lambda: [g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"]],
        "key pair": lambda: [k["KeyName"] for k in ec2.describe_key_pairs()["KeyPairs"]],
        "launch template": lambda: [
            t["LaunchTemplateName"] for t in ec2.describe_launch_templates()["LaunchTemplates"]
        ],
        "volume": lambda: [v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]],
        "role": lambda: [r["RoleName"] for r in iam.list_roles()["Roles"]],
        "instance profile": lambda: [
            p["InstanceProfileName"] for p in iam.list_instance_profiles()["InstanceProfiles"]
        ],
    }
    return [f"{kind} {name}" for kind, look in looks.items() for name in look()]


def print_table(
    measured: Mapping[str, list[dict[str, float]]], left: Mapping[str, list[str]], *, workers: int
) -> None:
    print(f"1 head, {workers} workers; median of the runs (least to most)\n")
    print(f"| | {' | '.join(measured)} |\n|---|{'---|' * len(measured)}")
    for column in COLUMNS:
        cells = []
        for runs in measured.values():
            values = [run[column] for run in runs if column in run]
            unit = "" if "calls" in column else " s"
            form = ".0f" if "calls" in column else ".1f"
            cells.append(
                f"{statistics.median(values):{form}}{unit} ({min(values):{form}} to {max(values):{form}})"
                if values
                else "-"
            )
        print(f"| {column} | {' | '.join(cells)} |")
    print(f"| left after it | {' | '.join(', '.join(things) or 'nothing' for things in left.values())} |")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
