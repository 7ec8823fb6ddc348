"""How clusters on this machine begin badly and end well: failures, Ctrl-C, two side by side, `daft down`."""

from __future__ import annotations

import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from localkit import NEXT, Project, Seen, Traces, failed, wait_until

from daft_launcher.assets import find_asset
from daft_launcher.terraform_binary import TerraformBinary

pytestmark = pytest.mark.real

CREATE = "  create 3 terraform_data\n  created terraform_data.run (N s)\n"
BUILD = "  creating: a virtual environment with uv\n  installing: ray[default]>=2.54, daft[ray]>=0.7{0}\n"
BUILT = "  created terraform_data.environment (N s)\n"
STOPPING = "  Waiting for Terraform to stop in order\n"
WAYS = "go on with `daft up`, remove it with `daft down`"
WAYS_ON = "go on with `daft up`, or remove what exists with `daft down`"


def installer_place() -> str:
    """Where in a rendered root the provisioner stands that installs; the rendered module has a line of notice more."""
    text = (find_asset("terraform/local") / "main.tf").read_text()
    before, _, rest = text.partition('resource "terraform_data" "environment"')
    line = (before + rest.partition("provisioner")[0]).count("\n") + 1
    return f"modules/local/main.tf:{line + 1}"


def started(name: str = "own") -> str:
    return (
        f"  started: {name}-head in N s\n"
        "  created terraform_data.head (N s)\n"
        f"  the head is ready (N s)\n{NEXT}"
    )


def here(name: str = "own") -> str:
    return f"{name}: head {name}-head at 127.0.0.1, 0 workers asked for\n"


def gone(name: str = "own") -> str:
    return (
        "  stopped: head\n"
        "  removed terraform_data.head (N s)\n"
        "  removed terraform_data.environment (N s)\n"
        "  removed terraform_data.run (N s)\n"
        f"{name} is gone\n"
    )


def start_sleeper(project: Project) -> None:
    """Leave a job running."""
    job = project.start("submit", "-w", "job", "--job-id", "sleeper", "--", "python", "slow.py")
    job.await_words("line 1")
    job.interrupt()
    assert project.jobs() == [("sleeper", "RUNNING")]


# beginnings


def test_ctrl_c_while_it_installs(own: Project):
    own.write(run={"setup_commands": ["echo $$ > pids; sleep 600 & echo $! >> pids; wait"]})
    up = own.start("up")
    up.await_words("setup command 1 of 1")
    pids = own.terraform_root() / "run/pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    processes = [Path("/proc", pid) for pid in pids.read_text().split()]
    assert all(process.exists() for process in processes)
    traces = Traces(own)
    seen = up.interrupt()
    assert seen == failed(
        "interrupted; no instance of `own` exists; other resources of it may",
        WAYS,
        status=130,
        before=f"{CREATE}{BUILD.format('')}"
        "  setup command 1 of 1: echo $$ > pids; sleep 600 & echo $! >> pids; wait\n"
        f"{STOPPING}  terraform_data.environment failed after N s\n",
    )
    # Not only the command itself: what it has started too, and that without a `daft down`.
    wait_until(lambda: not any(process.exists() for process in processes), timeout=10)
    assert own.daft("down") == Seen(
        0, "", "  removed terraform_data.environment (N s)\n  removed terraform_data.run (N s)\nown is gone\n"
    )
    assert traces.left() == []
    assert own.daft("down") == Seen(0, "", "there is no cluster own\n")


def test_ctrl_c_while_the_head_starts_then_up_and_down(own: Project):
    up = own.start("up")
    wait_until(lambda: up.process.poll() is not None or bool(own.nodes().get("head", {}).get("pid")))
    traces = Traces(own)
    seen = up.interrupt()
    # The head is ended while it is being listed.
    states = ("these exist: head own-head", "no instance of `own` exists; other resources of it may")
    before = f"{CREATE}{BUILD.format('')}{BUILT}{STOPPING}  terraform_data.head failed after N s\n"
    assert seen in [failed(f"interrupted; {state}", WAYS, status=130, before=before) for state in states]
    again = " replace 1 terraform_data\n  removed terraform_data.head (N s)\n"
    wait_until(lambda: traces.processes() == [], timeout=10)
    up = own.start("up")
    up.await_words("the head is ready")
    seen = up.interrupt()
    # It was about to end, and either does or says what exists.
    ready = again + started()
    late = failed(
        "interrupted; these exist: head own-head", WAYS, status=130, before=ready.removesuffix(NEXT)
    )
    assert seen in [Seen(0, here(), ready), late]
    assert own.nodes()["head"]["state"] == "ready"

    # Its end, while a job runs and nobody can be asked.
    start_sleeper(own)
    traces = Traces(own)
    assert len(traces.left()) > 10
    assert own.daft("down") == Seen(0, "", gone())
    assert traces.left() == []
    assert own.daft("down") == Seen(0, "", "there is no cluster own\n")
    assert own.daft("list", "--provider", "local") == Seen(0, "", "no cluster is running\n")
    assert own.daft("submit", "-w", "job", "--", "true") == failed(
        "no head of cluster `own` is running on this machine",
        "make it with `daft up`; `daft list` shows what there is",
    )


def test_what_cannot_be_installed_is_named_and_a_better_file_converges(own: Project):
    own.write(dependencies=["no-such-package-of-ours>=99"])
    first = own.daft("up")
    assert (first.status, first.out) == (1, "")
    assert first.err.startswith(
        f"{CREATE}{BUILD.format(', no-such-package-of-ours>=99')}"
        "  installing the dependencies failed with exit code 1:\n"
    )
    assert "Because no-such-package-of-ours was not found in the package registry" in first.err
    assert "Check `dependencies`, and that the package index is reachable." in first.err
    assert first.err.endswith(f"no instance of `own` exists; other resources of it may\nhint: {WAYS_ON}\n")

    own.write(dependencies=None, run={"setup_commands": ["echo well", "echo words; echo more >&2; exit 3"]})
    steps = "  setup command 1 of 2: echo well\n  setup command 2 of 2: echo words; echo more >&2; exit 3\n"
    cause = "  setup command 2 (echo words; echo more >&2; exit 3) failed with exit code 3:\n"
    built = BUILD.format("")
    assert own.daft("up") == failed(
        "Terraform could not apply the plan:\n"
        f"  local-exec provisioner error (module.cluster.terraform_data.environment, {installer_place()})\n"
        f"  Error running command 'environment': exit status 1. Output: {built.strip()}\n"
        f"{steps}{cause}    words\n    more\n"
        "no instance of `own` exists; other resources of it may",
        WAYS_ON,
        before="  create 1 terraform_data\n replace 1 terraform_data\n"
        f"  removed terraform_data.environment (N s)\n{built}{steps}{cause}  words\n  more\n"
        "  terraform_data.environment failed after N s\n",
    )

    own.write(run={"setup_commands": ["echo well > proof"]})
    # What was installed stays; only the commands run again.
    assert own.daft("up") == Seen(
        0,
        here(),
        "  create 1 terraform_data\n replace 1 terraform_data\n"
        "  removed terraform_data.environment (N s)\n"
        "  setup command 1 of 1: echo well > proof\n"
        f"{BUILT}{started()}",
    )
    assert (own.terraform_root() / "run/proof").read_text() == "well\n"
    assert own.is_up()


# two at once, and their ends


def test_two_side_by_side_of_one_name_and_a_terminal_that_asks(
    demo: Project, tmp_path: Path, local_environ: Mapping[str, str]
):
    """One was written for AWS, and is tried at home first."""
    twin = Project(
        tmp_path / "twin",
        local_environ,
        setup={"provider": "aws", "number_of_workers": 0},
        run={"setup_commands": ["sudo yum install -y something", "sudo reboot"]},
    )
    left_out = "left out on this machine: 2 setup command(s) written for aws\n"
    try:
        seen = twin.daft("up", "--provider", "local")
        assert seen == Seen(0, here("demo"), f"{left_out}{CREATE}{BUILD.format('')}{BUILT}{started('demo')}")
        assert demo.is_up()
        twin.write(provider="local")
        nodes = [*demo.nodes().values(), *twin.nodes().values()]
        ports = [port for node in nodes for port in node["ports"].values()]
        assert (len(ports), len({node["temp_dir"] for node in nodes})) == (len(set(ports)), len(nodes))
        assert demo.token != twin.token

        start_sleeper(twin)
        assert "sleeper" not in [job for job, _ in demo.jobs()]
        assert demo.submit("python", "main.py").status == 0
        assert twin.jobs() == [("sleeper", "RUNNING")]

        question = "These jobs run on `demo`: sleeper. End them? [y/N] "
        before = twin.nodes()
        assert twin.terminal("down", question=question, reply="n") == Seen(
            1,
            f"{question}n\nerror: nothing was removed\nhint: agree beforehand with `daft down --yes`\n",
        )
        assert (twin.nodes(), twin.jobs()) == (before, [("sleeper", "RUNNING")])
        traces = Traces(twin)
        removed = twin.terminal("down", question=question, reply="y")
        assert (removed.status, removed.out.splitlines()[-1]) == (0, "demo is gone")
        assert removed.out.startswith(f"{question}y\n")
        assert traces.left() == []
        assert demo.is_up()
    finally:
        twin.daft("down", "--provider", "local", "--yes")


def test_two_side_by_side_in_one_folder_and_a_state_that_is_lost(demo: Project):
    second = replace(demo, name="second", setup={}, run={})
    (demo.root / "second.toml").write_text(
        '[setup]\nname = "second"\nprovider = "local"\nnumber_of_workers = 0\n'
    )
    demo.write()
    file = ("-c", "second.toml")
    try:
        assert second.daft("up", *file) == Seen(
            0, here("second"), f"{CREATE}{BUILD.format('')}{BUILT}{started('second')}"
        )
        assert demo.listed() == [
            "Running:",
            "  - demo, head, demo-head, 127.0.0.1",
            "  - demo, worker, demo-worker-0, 127.0.0.1",
            "  - demo, worker, demo-worker-1, 127.0.0.1",
            "  - second, head, second-head, 127.0.0.1",
        ]
        assert demo.daft("list", "second", "--provider", "local") == Seen(
            0, "Running:\n  - second, head, second-head, 127.0.0.1\n"
        )
        assert second.submit("python", "main.py", options=(*file, "--job-id", "theirs")).status == 0
        assert "theirs" not in [job for job, _ in demo.jobs()]

        for state in second.terraform_root().glob("terraform.tfstate*"):
            state.unlink()
        traces = Traces(second)
        assert len(traces.left()) > 10
        assert second.daft("down", *file) == Seen(0, "", "second is gone\n")
        assert traces.left() == []
        assert demo.is_up()
    finally:
        second.daft("down", *file)


# a machine that lacks something


@pytest.fixture
def without_uv(tmp_path: Path, own: Project, real_terraform: TerraformBinary) -> Project:
    """The program in an environment that has no uv, on a machine that has none either."""
    environment = tmp_path / "plain"
    venv.create(environment)
    packages = sysconfig.get_path("purelib")
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "ours.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    (tmp_path / "bin").mkdir()
    own.environ = {**own.environ, "PATH": str(tmp_path / "bin")}
    own.program = (str(environment / "bin/python"), "-c", "from daft_launcher.cli import main; main()")
    return own


def test_another_python_needs_uv(without_uv: Project):
    ours, other = ".".join(map(str, sys.version_info[:3])), f"3.{sys.version_info.minor + 1}"
    without_uv.write(python_version=other)
    cause = (
        f'python_version = "{other}" needs uv, because this machine\'s interpreter is {ours}.\n',
        "Install uv (https://docs.astral.sh/uv/), or remove python_version from the configuration.\n",
    )
    assert without_uv.daft("up") == failed(
        "Terraform could not apply the plan:\n"
        f"  local-exec provisioner error (module.cluster.terraform_data.environment, {installer_place()})\n"
        f"  Error running command 'environment': exit status 1. Output: {cause[0]}  {cause[1]}"
        "no instance of `own` exists; other resources of it may",
        WAYS_ON,
        before=f"{CREATE}  {cause[0]}  {cause[1]}  terraform_data.environment failed after N s\n",
    )
