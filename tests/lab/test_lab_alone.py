"""A cluster that Terraform alone has made from a rendered root: `daft` finds it by its tags, and it takes jobs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab import network
from tests.lab.lab import Lab, Project
from tests.lab.machine import wait_for


def test_terraform_makes_it_and_daft_works_with_it_where_nobody_has_its_root(
    lab: Lab, new_project: Callable[..., Project], tmp_path: Path
) -> None:
    key, root, job = tmp_path / "key", tmp_path / "root", tmp_path / "job"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    project = new_project("alone", setup={"number_of_workers": 0})
    assert project.daft("render", "--out", str(root)).status == 0
    environ = {
        **project.environ,
        "TF_VAR_operator_cidrs": json.dumps([f"{network.OPERATOR}/32"]),
        "TF_VAR_ssh_public_key": key.with_suffix(".pub").read_text().strip(),
    }

    def terraform(*words: str) -> None:
        done = subprocess.run(
            ["terraform", *words], cwd=root, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    mirror = environ.get("DAFT_TERRAFORM_PLUGIN_DIR")
    terraform("init", "-input=false", *([f"-plugin-dir={mirror}"] if mirror else []))
    terraform("apply", "-input=false", "-auto-approve")
    wait_for(lambda: _statuses(project) == ["ready"], "a head that is ready", timeout=300, pause=2)

    job.mkdir()
    (job / "data.txt").touch()
    words = ("sh", "-c", "echo found by its tags; exit 3")
    seen = project.daft("submit", "-i", str(key), "-w", str(job), "--job-id", "one", "--", *words)
    assert (seen.status, seen.out, seen.err) == (3, "one\nfound by its tags\n", "")
    dashboard = project.start("dashboard", "-i", str(key), "--no-open")
    dashboard.says("Ctrl-C ends it\n")
    dashboard.interrupt()
    assert dashboard.end().status == 0
    assert not (project.root / ".daft").exists()

    terraform("destroy", "-input=false", "-auto-approve")
    assert lab.cloud.tagged("alone") == []


def _statuses(project: Project) -> list[str]:
    return [node["status"] for node in json.loads(project.daft("list", "alone", "--json").out)]
