"""The hook in the environment that pre-commit makes for it: from a git repository of ours, with what PyPI has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("daft_launcher", "templates", "terraform")
FILES = (".pre-commit-hooks.yaml", "LICENSE", "README.md", "pyproject.toml")


def test_pre_commit_installs_and_runs_it(tmp_path: Path, outside_environ: Mapping[str, str]) -> None:
    environ = {
        **outside_environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "ann",
        "GIT_CONFIG_KEY_1": "user.email",
        "GIT_CONFIG_VALUE_1": "ann@example.com",
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
    }

    def run(folder: Path, *command: str | Path, status: int = 0) -> str:
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    for name in FOLDERS:
        litter = shutil.ignore_patterns("__pycache__", ".terraform*", "*.tfstate*")
        shutil.copytree(CHECKOUT / name, ours / name, ignore=litter)
    for name in FILES:
        shutil.copy(CHECKOUT / name, ours / name)
    for folder in (ours, theirs):
        run(folder, "git", "init", "--quiet")
    run(ours, "git", "add", ".")
    run(ours, "git", "commit", "--quiet", "--message", "x")
    revision = run(ours, "git", "rev-parse", "HEAD")
    hooks = [{"id": "daft-render-check"}]
    config = {"repos": [{"repo": str(ours), "rev": revision, "hooks": hooks}]}
    (theirs / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (theirs / ".daft.toml").write_text('[setup]\nname = "demo"\nprovider = "aws"\n')
    run(theirs, "git", "add", ".")
    pre_commit = Path(sys.executable).with_name("pre-commit")
    said = run(theirs, pre_commit, "run", status=1)
    assert "+++ main.tf (would be written)" in said
    (daft,) = (tmp_path / "pre-commit").glob("repo*/py_env-*/bin/daft")
    run(theirs, daft, "render")
    run(theirs, "git", "add", ".")
    assert run(theirs, pre_commit, "run").endswith("Passed")
