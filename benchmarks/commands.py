"""Time the commands beside their yardsticks, in turn and on the same machine, and print the ratios.

AWS is moto on this machine. `--ray RAY` names a `ray` executable, to compare `daft --help` with `ray --help` too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import provider_mirror
from tests.moto.server import MotoServer
from tests.provider_mirror import find_mirror

DAFT = str(Path(sys.executable).with_name("daft"))
CONFIG = """
[setup]
name = "bench"
provider = "aws"
[aws]
ssh_allowed_cidrs = ["203.0.113.7/32"]
"""
BARE_LIST = """
import boto3
ec2 = boto3.client("ec2", region_name="us-west-2")
pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "tag-key", "Values": ["daft:cluster"]}])
for page in pages:
    for reservation in page["Reservations"]:
        for instance in reservation["Instances"]:
            print(instance["InstanceId"], instance["State"]["Name"], instance.get("PublicIpAddress"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="runs of each command")
    parser.add_argument("--ray", help="a `ray` executable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, MotoServer() as moto:
        project = Path(folder)
        (project / ".daft.toml").write_text(CONFIG)
        environ = {**moto.environment(), "AWS_REGION": "us-west-2", "XDG_CACHE_HOME": str(project / "cache")}
        if mirror := find_mirror(os.environ):
            environ[provider_mirror.VARIABLE] = str(mirror)
        bench = Bench(project, environ, options.runs)
        bench.pair(
            "daft --help", [DAFT, "--help"], "import typer", [sys.executable, "-c", "import typer"], 2.5
        )
        bench.pair(
            "daft init-config",
            [sys.executable, "-c", INIT_CONFIG],
            "import typer",
            [sys.executable, "-c", "import typer"],
            2.5,
        )
        if options.ray:
            bench.pair("daft --help", [DAFT, "--help"], "ray --help", [options.ray, "--help"], 0.25)
        plan = subprocess.run(
            [DAFT, "up", "--plan"], cwd=project, env=environ, capture_output=True, text=True
        )
        print(
            f"daft up --plan of a new cluster of two workers: {len(plan.stdout)} characters, comments hold 65000"
        )
        make_cluster(project, environ, moto)
        bench.pair("daft list", [DAFT, "list"], "bare boto3", [sys.executable, "-c", BARE_LIST], 1.25)
        root = project / ".daft" / "bench"
        bare = ["terraform", f"-chdir={root}", "plan", "-input=false", "-no-color"]
        bench.pair("daft up --plan (warm)", [DAFT, "up", "--plan"], "terraform plan", bare, 1.15)
        run([DAFT, "down", "--wait"], project, environ)


# The file must not be there, and a run makes it.
INIT_CONFIG = f"""
import os, sys
os.path.exists("x.toml") and os.unlink("x.toml")
os.execv({DAFT!r}, ["daft", "init-config", "x.toml"])
"""


def make_cluster(project: Path, environ: Mapping[str, str], moto: MotoServer) -> None:
    """Make a cluster whose head says that it is ready as soon as it is there."""
    process = subprocess.Popen([DAFT, "up"], cwd=project, env=environ, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for head in moto.instances(role="head", state="running"):
            moto.set_tags(head, {"daft:status": "ready"})
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"daft up ended with {process.returncode}")


class Bench:
    """Commands in one folder and environment, each run as often as the other."""

    def __init__(self, folder: Path, environ: Mapping[str, str], runs: int) -> None:
        self._folder = folder
        self._environ = environ
        self._runs = runs

    def pair(
        self, name: str, command: Sequence[str], against: str, yardstick: Sequence[str], bound: float
    ) -> None:
        """Run two commands in turn, and print their medians and the median of their ratios beside its bound."""
        run(command, self._folder, self._environ)
        run(yardstick, self._folder, self._environ)
        pairs = [
            (run(command, self._folder, self._environ), run(yardstick, self._folder, self._environ))
            for _ in range(self._runs)
        ]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(mine / yours for mine, yours in pairs)
        verdict = "within" if ratio <= bound else "OVER"
        print(
            f"{name:24} {ours:6.2f} s  {against:14} {theirs:6.2f} s  ratio {ratio:.2f}  {verdict} {bound}",
            flush=True,
        )


def run(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> float:
    """Return the seconds that a command took. Ends the program when it failed."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


if __name__ == "__main__":
    os.environ["CHECKPOINT_DISABLE"] = "1"
    main()
