"""The clusters of these tests: one of two workers that most of them share, and small ones beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from localkit import Project, Seen

from daft_launcher.terraform_binary import TerraformBinary
from tests.leaks import SEARCH


@pytest.fixture(scope="session")
def local_environ(hermetic_home: Path, real_terraform: TerraformBinary) -> Mapping[str, str]:
    """The environment of a user who has Terraform, and on whom no terminal's size and colours rub off."""
    return {**os.environ, "DAFT_TERRAFORM": str(real_terraform.path), "NO_PROXY": "*"}


@pytest.fixture(scope="session")
def first_up(
    tmp_path_factory: pytest.TempPathFactory, local_environ: Mapping[str, str]
) -> Iterator[tuple[Project, Seen]]:
    """The shared cluster, in a folder with a name that needs quoting, and what its first `daft up` showed."""
    project = Project(
        tmp_path_factory.mktemp("shared") / "ann's project",
        local_environ,
        setup={"number_of_workers": 2},
        run={"command": "python main.py 'from the file'"},
    )
    seen = project.daft("up")
    if seen.status == 0:
        SEARCH.learn("Ray's token", project.token)
    yield project, seen
    project.daft("down")


@pytest.fixture
def demo(first_up: tuple[Project, Seen]) -> Project:
    """The shared cluster with its two workers, whatever the test before has made of it."""
    project, _ = first_up
    project.write(number_of_workers=2, dependencies=None)
    if not project.is_up():
        seen = project.daft("up", "--yes")
        assert seen.status == 0, seen.err
    return project


@pytest.fixture
def own(tmp_path: Path, local_environ: Mapping[str, str]) -> Iterator[Project]:
    """A folder of the test's own, for one node."""
    project = Project(tmp_path / "project", local_environ, name="own", setup={"number_of_workers": 0})
    yield project
    project.daft("down", "--yes")
