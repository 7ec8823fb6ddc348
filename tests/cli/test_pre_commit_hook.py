"""The hook for users' repositories, as pre-commit runs it, in the tests' own environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clikit import LOCAL

pytestmark = pytest.mark.real

(HOOK,) = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text())
HEADING = "daft render --check"


@dataclass(frozen=True)
class Repository:
    """A user's git repository with a rendered cluster in its index."""

    folder: Path
    environ: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=dict(self.environ), capture_output=True, text=True, check=False
        )

    def stage(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        assert self.run("git", "add", name).returncode == 0

    def commit(self) -> tuple[int, str]:
        """Commit, which runs the hook; return the status and what was said."""
        done = self.run("git", "commit", "--quiet", "--message", "x")
        return done.returncode, re.sub(r"\.{3,}", "...", done.stderr)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """The hook is installed, and the first commit has passed it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    environ = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "ann",
        "GIT_CONFIG_KEY_1": "user.email",
        "GIT_CONFIG_VALUE_1": "ann@example.com",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
    }
    made = Repository(folder, environ)
    config = {"repos": [{"repo": "local", "hooks": [{**HOOK, "language": "system"}]}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".daft.toml").write_text(LOCAL)
    for command in (
        "git init --quiet",
        "pre-commit install",
        "daft render",
        "git add .daft.toml .daft .pre-commit-config.yaml",
    ):
        done = made.run(*command.split())
        assert done.returncode == 0, done
    status, said = made.commit()
    assert (status, said.splitlines()[0]) == (0, f"{HEADING}...Passed"), said
    return made


def test_a_change_with_its_root_passes(repository: Repository) -> None:
    repository.stage(".daft.toml", LOCAL + "number_of_workers = 5\n")
    assert repository.run("daft", "render").returncode == 0
    assert repository.run("git", "add", ".daft").returncode == 0
    status, said = repository.commit()
    assert (status, said.splitlines()[0]) == (0, f"{HEADING}...Passed")


def test_a_configuration_without_its_root_is_stopped_with_the_difference(repository: Repository) -> None:
    repository.stage(".daft.toml", LOCAL + "number_of_workers = 5\n")
    status, said = repository.commit()
    first, *rest = said.splitlines()
    assert (status, first) == (1, f"{HEADING}...Failed")
    assert rest[:2] == [f"- hook id: {HOOK['id']}", "- exit code: 1"]
    assert [line for line in rest[3:] if re.match(r"[-+] ", line)] == [
        "-  number_of_workers = 2",
        "+  number_of_workers = 5",
    ]


def test_a_root_that_was_edited_by_hand_is_stopped(repository: Repository) -> None:
    main = ".daft/demo.local/main.tf"
    repository.stage(main, (repository.folder / main).read_text() + "# by hand\n")
    status, said = repository.commit()
    assert (status, said.splitlines()[0]) == (1, f"{HEADING}...Failed")
    assert "-# by hand" in said.splitlines()


def test_other_files_do_not_run_it(repository: Repository) -> None:
    repository.stage("daft.toml", "not a configuration")
    status, said = repository.commit()
    assert (status, said.splitlines()[0]) == (0, f"{HEADING}...(no files to check)Skipped")
