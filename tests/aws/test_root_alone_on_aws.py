"""The generated root without this program: Terraform makes, changes and removes the cluster, and `daft` finds it."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from awskit import OPERATOR, Project, Seen, no_changes

from tests.moto.server import MotoServer

pytestmark = pytest.mark.real

REGION = "ap-northeast-1"
TEAM = {"ssh_allowed_cidrs": [f"{OPERATOR}/32"], "ssh_key_name": "team"}
LISTED = (
    "Running:\n  - {0}, head, i-1, 1.2.3.4\n  - {0}, worker, i-1, 1.2.3.4\n  - {0}, worker, i-1, 1.2.3.4\n"
)
USELESS = "so that `daft submit` and `daft dashboard` cannot reach the cluster."
NETWORKS = f"No network may reach the nodes' SSH port, {USELESS}"
KEY = f"No SSH key opens the nodes, {USELESS}"


@dataclass(frozen=True)
class Pipeline:
    """A place where plain Terraform runs in a root that was rendered, with what it says of the cluster."""

    root: Path
    environ: dict[str, str]

    def terraform(self, *words: str) -> str:
        """Run Terraform to its end, and return all that it said on one line."""
        command = ["terraform", *words, "-no-color"]
        if words[0] == "init" and "DAFT_TERRAFORM_PLUGIN_DIR" in self.environ:
            command.append(f"-plugin-dir={self.environ['DAFT_TERRAFORM_PLUGIN_DIR']}")
        done = subprocess.run(
            command, cwd=self.root, env=self.environ, capture_output=True, text=True, check=False
        )
        text = " ".join(f"{done.stdout}{done.stderr}".replace("│", " ").split())
        assert done.returncode in ((0, 2) if "-detailed-exitcode" in words else (0,)), text
        return text


def render(project: Project, root: Path, **environ: str) -> Pipeline:
    """Write the root as a pipeline commits it, for an environment of the pipeline's own."""
    seen = project.daft("render", "--out", str(root))
    assert (seen.status, seen.out) == (0, "")
    names = {name: value for name, value in project.environ.items() if not name.startswith("XDG_")}
    return Pipeline(root, {**names, "TF_IN_AUTOMATION": "1", **environ})


@pytest.fixture(scope="module")
def team(new_project: Callable[..., Project], aws: MotoServer) -> Project:
    """A folder with nothing but `.daft.toml`, which names who gets in."""
    aws.client("ec2", REGION).create_key_pair(KeyName="team")
    return new_project("alone", region=REGION, access=TEAM)


@pytest.fixture(scope="module")
def applied(team: Project, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Its cluster, made by Terraform alone in a root elsewhere."""
    pipeline = render(team, tmp_path_factory.mktemp("pipeline") / "root")
    pipeline.terraform("init", "-input=false")
    pipeline.terraform("plan", "-input=false", "-out=plan.tfplan")
    assert "Apply complete! Resources: 19 added, 0 changed, 0 destroyed." in pipeline.terraform(
        "apply", "-input=false", "plan.tfplan"
    )
    return pipeline


def test_terraform_alone_makes_a_cluster_without_a_warning(applied: Pipeline, team: Project) -> None:
    text = applied.terraform("plan", "-input=false", "-detailed-exitcode")
    assert "No changes. Your infrastructure matches the configuration." in text
    assert "Warning" not in text
    assert json.loads(applied.terraform("output", "-json"))["cluster"]["value"]["head_id"] == team.head().id


def test_the_cluster_is_listed_and_reached_where_nobody_has_its_root(
    applied: Pipeline, team: Project
) -> None:
    assert not (team.root / ".daft").exists()
    assert team.daft("list", "--region", REGION) == Seen(0, LISTED.format("alone"))
    (team.root / "job").mkdir()
    (team.root / "job" / "main.py").touch()
    silent = Seen(
        1,
        "",
        "error: the head node of `alone` (i-1) has not said its SSH host key yet\n"
        "hint: wait until `daft up` says that it is ready\n",
    )
    commands = (["submit", "-w", "job", "--", "true"], ["dashboard", "--no-open"], ["jobs"], ["ssh"])
    assert [team.daft(*words) for words in commands] == [silent] * 4
    assert not (team.root / ".daft").exists()


def test_up_where_the_pipelines_root_and_state_lie_plans_no_change(applied: Pipeline, team: Project) -> None:
    before = {path.name: path.read_bytes() for path in applied.root.iterdir() if path.is_file()}
    place = applied.root.parent / "alone"
    applied.root.rename(place)
    try:
        where = ("--state-dir", str(place.parent))
        assert team.daft("up", "--plan", *where) == Seen(0, no_changes(REGION))
        team.say(team.head(), "ready")
        assert team.daft("up", *where) == Seen(
            0,
            "alone: head i-1 at 1.2.3.4, 2 workers asked for\n",
            "  the head is ready (N s)\nalone is as the configuration says\n",
        )
    finally:
        place.rename(applied.root)
    after = {path.name: path.read_bytes() for path in applied.root.iterdir() if path.is_file()}
    ours = {"daft.lock", "operator.auto.tfvars.json"}
    assert {name: text for name, text in after.items() if name not in ours} == before
    # And neither is there anything for the pipeline to change then.
    assert "No changes." in applied.terraform("plan", "-input=false", "-detailed-exitcode")


def test_a_pipeline_changes_and_removes_the_cluster(applied: Pipeline, team: Project) -> None:
    head = team.head().id
    team.write(number_of_workers=1)
    render(team, applied.root)
    assert "0 added, 1 changed, 0 destroyed" in applied.terraform("apply", "-input=false", "-auto-approve")
    assert (team.head().id, len(team.nodes("worker"))) == (head, 1)
    text = applied.terraform("destroy", "-input=false", "-auto-approve")
    assert ("Destroy complete! Resources: 19 destroyed." in text, "Warning" in text) == (True, False)
    assert team.tagged() == []


def test_a_root_from_which_nobody_is_let_in_says_so(
    new_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = new_project("closed", region="ap-northeast-2", access={})
    pipeline = render(project, tmp_path / "root")
    pipeline.terraform("init", "-input=false")
    text = pipeline.terraform("plan", "-input=false")
    assert (text.count("Warning: "), NETWORKS in text, KEY in text) == (2, True, True)


def test_who_is_let_in_by_the_environment_is_let_in_by_up_too(
    new_project: Callable[..., Project], tmp_path: Path
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@laptop", "-f", tmp_path / "key"],
        check=True,
    )
    given = {
        "TF_VAR_operator_cidrs": json.dumps([f"{OPERATOR}/32"]),
        "TF_VAR_ssh_public_key": (tmp_path / "key.pub").read_text().strip(),
    }
    project = new_project("given", region="ap-northeast-3", access={})
    pipeline = render(project, project.terraform_root, **given)
    pipeline.terraform("init", "-input=false")
    text = pipeline.terraform("apply", "-input=false", "-auto-approve")
    assert ("20 added" in text, "Warning" in text) == (True, False)
    inside = copy.copy(project)
    inside.environ = {**project.environ, **given}
    assert inside.daft("up", "--plan") == Seen(0, no_changes("ap-northeast-3"))
    # From a machine of that address and with that key, of which only the comment is missing.
    assert project.daft("up", "--plan", "-i", str(tmp_path / "key")) == Seen(0, no_changes("ap-northeast-3"))
    assert "20 destroyed" in pipeline.terraform("destroy", "-input=false", "-auto-approve")
