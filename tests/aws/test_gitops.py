"""The guide and the example pipelines of docs/, as their readers run them: every command, with plain Terraform."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from awskit import Project, Seen

pytestmark = pytest.mark.real

DOCS = Path(__file__).parents[2] / "docs"
WORKFLOW: dict[str, Any] = yaml.safe_load((DOCS / "examples" / "github-actions.yml").read_text())
ATLANTIS: dict[str, Any] = yaml.safe_load((DOCS / "examples" / "atlantis.yaml").read_text())
#: The steps that only GitHub can run, and the one that a package index has to answer.
NOT_HERE = {"Check out", "Set up Terraform", "Take the role", "Install daft-launcher"}
#: What Atlantis runs for the steps that it knows by name (runatlantis.io/docs/custom-workflows.html#reference).
BUILT_IN = {
    "init": "terraform init -input=false",
    "plan": "terraform plan -input=false -refresh -out $PLANFILE",
    "apply": "terraform apply -input=false $PLANFILE",
}
NOTHING = "No changes. Your infrastructure matches the configuration.\n"


@dataclass(frozen=True)
class Repository:
    """A user's repository, on the machines that run its pipeline."""

    project: Project
    environ: Mapping[str, str]

    @property
    def summary(self) -> Path:
        return self.project.root.parent / "summary.md"

    def shell(self, script: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
        # How GitHub runs a step whose shell is bash
        # (docs.github.com/actions/reference/workflows-and-actions/workflow-syntax, "shell").
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.project.root / folder,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
        )

    def job(self, name: str) -> tuple[int, str]:
        """Run a job of the workflow; return its status and what its last step printed."""
        assert WORKFLOW["defaults"] == {"run": {"shell": "bash"}}
        self.summary.unlink(missing_ok=True)
        for step in WORKFLOW["jobs"][name]["steps"]:
            assert ("uses" in step) <= (step["name"] in NOT_HERE), step
            if step["name"] in NOT_HERE:
                continue
            done = self.shell(step["run"], step.get("working-directory", "."))
            if done.returncode:
                break
        return done.returncode, done.stdout + done.stderr

    def atlantis(self, stage: str) -> tuple[int, str]:
        """Run a stage of Atlantis; return its status and what its last step printed."""
        (project,) = ATLANTIS["projects"]
        for step in ATLANTIS["workflows"][project["workflow"]][stage]["steps"]:
            script = step["run"] if isinstance(step, dict) else BUILT_IN[step]
            done = self.shell(script, project["dir"])
            if done.returncode:
                break
        return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def repository(new_project: Callable[..., Project], plugin_dir: Path | None) -> Repository:
    """A repository whose pipeline has planned and applied its cluster once. Its state stays in the folder."""
    access = {"ssh_allowed_cidrs": ["203.0.113.0/24"], "ssh_key_name": "data-team"}
    project = new_project("demo", region="eu-north-1", setup={"instance_type": "m7g.medium"}, access=access)
    project.aws.client("ec2", project.region).create_key_pair(KeyName="data-team")
    environ = {
        **project.environ,
        **WORKFLOW["env"],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{project.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(project.root.parent / "summary.md"),
        "PLANFILE": str(project.root.parent / "demo.tfplan"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    if plugin_dir:
        environ["TF_CLI_ARGS_init"] = f"-plugin-dir={plugin_dir}"
    repository = Repository(project, environ)
    done = repository.shell(f"git init --quiet\n{block('sh', 0)}")
    assert (done.returncode, done.stdout) == (0, ""), done
    status, _ = repository.job("plan")
    assert status == 0
    assert "Plan: 19 to add, 0 to change, 0 to destroy." in repository.summary.read_text()
    status, said = repository.job("apply")
    assert (status, "Apply complete! Resources: 19 added" in said) == (0, True), said
    project.say(project.head(), "ready")
    return repository


def test_the_guide_shows_the_configuration_that_a_pipeline_needs(repository: Repository) -> None:
    shown = block("toml", 0)
    assert [
        key for key in repository.project.access if not re.search(rf"^{key} = ", shown, re.MULTILINE)
    ] == []


def test_git_has_the_root_and_no_state(repository: Repository) -> None:
    done = repository.shell("git status --porcelain --untracked-files=all")
    kept = [line[3:] for line in done.stdout.splitlines()]
    assert {".daft.toml", ".daft/demo/main.tf", ".daft/demo/modules/aws/head.tf"} <= set(kept)
    left_out = re.compile(r"tfstate|tfplan|\.terraform/|tfvars|daft\.lock|plan\.txt")
    assert [name for name in kept if left_out.search(name)] == []


def test_a_cluster_that_a_pipeline_made_is_one_like_any_other(repository: Repository) -> None:
    project = repository.project
    head, first, second = project.head(), *project.nodes("worker")
    assert project.daft("list", "demo", "--region", project.region) == Seen(
        0,
        "Running:\n  - demo, head, i-1, 1.2.3.4\n  - demo, worker, i-1, 1.2.3.4\n  - demo, worker, i-1, 1.2.3.4\n",
    )
    assert project.daft("up") == Seen(
        0,
        "demo: head i-1 at 1.2.3.4, 2 workers asked for\n",
        "  the head is ready (N s)\ndemo is as the configuration says\n",
    )
    assert [project.head(), *project.nodes("worker")] == [head, first, second]


def test_a_configuration_that_was_not_rendered_does_not_pass(repository: Repository) -> None:
    repository.project.write(number_of_workers=3)
    status, said = repository.job("plan")
    assert (status, repository.summary.exists()) == (1, False)
    assert "-  number_of_workers = 2\n+  number_of_workers = 3\n" in said
    assert repository.atlantis("plan") == (1, said.replace("--- .daft/", "--- ../../.daft/"))
    repository.project.write(number_of_workers=2)


def test_the_workflow_plans_and_applies_a_change(repository: Repository) -> None:
    project = repository.project
    project.write(number_of_workers=3)
    assert project.daft("render").status == 0
    assert repository.job("plan")[0] == 0
    assert "~ desired_capacity                 = 2 -> 3" in repository.summary.read_text()
    assert repository.job("apply")[0] == 0
    assert len(project.nodes("worker")) == 3


def test_atlantis_plans_and_applies_a_change(repository: Repository) -> None:
    project, head = repository.project, repository.project.head()
    project.write(number_of_workers=1)
    assert project.daft("render").status == 0
    status, said = repository.atlantis("plan")
    assert (status, "Plan: 0 to add, 1 to change, 0 to destroy." in said) == (0, True), said
    status, said = repository.atlantis("apply")
    assert (status, "0 added, 1 changed, 0 destroyed" in said) == (0, True), said
    assert (project.head(), len(project.nodes("worker"))) == (head, 1)


def test_atlantis_plans_when_the_root_or_its_configuration_changes() -> None:
    (project,) = ATLANTIS["projects"]
    assert project["autoplan"]["when_modified"] == ["*.tf", "modules/**", "../../.daft.toml"]
    assert project["dir"] == ".daft/demo"


def test_the_nightly_job_finds_what_was_changed_by_hand(repository: Repository) -> None:
    assert block("sh", -1).strip() == WORKFLOW["jobs"]["drift"]["steps"][-1]["run"]
    project = repository.project
    workers = json.dumps(project.setup["number_of_workers"])
    status, said = repository.job("drift")
    assert (status, said.startswith(NOTHING)) == (0, True), said
    autoscaling = project.aws.client("autoscaling", project.region)
    autoscaling.update_auto_scaling_group(
        AutoScalingGroupName="daft-demo-workers", MaxSize=4, DesiredCapacity=4
    )
    status, said = repository.job("drift")
    assert (status, f"desired_capacity                 = 4 -> {workers}" in said) == (2, True), said
    autoscaling.update_auto_scaling_group(
        AutoScalingGroupName="daft-demo-workers", MaxSize=int(workers), DesiredCapacity=int(workers)
    )
    assert repository.job("drift")[0] == 0


def block(language: str, number: int) -> str:
    """Return a code block of the guide."""
    guide = (DOCS / "gitops.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)[number]
