"""One lab for all its tests, and in it one cluster with two workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import network
from tests.lab.enter import VARIABLE
from tests.lab.lab import Lab, Project, Seen
from tests.lab.neighbours import Neighbours, neighbours

_PACKAGES = os.environ.get(VARIABLE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not _PACKAGES:
        reason = "the lab's tests run in namespaces of their own: `make lab`"
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def lab(hermetic_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
    assert lab.troubles == []


@pytest.fixture
def stranger() -> Iterator[None]:
    """A network namespace called `stranger`: a computer on the internet with another address than ours."""
    network.plug_in("stranger", private=None, public=network.STRANGER)
    yield
    network.unplug("stranger")


@pytest.fixture(scope="session")
def new_project(
    lab: Lab, plugin_dir: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Project]:
    """A function that makes a user's folder: `new_project("demo", setup={…}, run={…})`."""
    environ = {"COLUMNS": "100", "DAFT_TERRAFORM_DOWNLOAD": "never", "NO_PROXY": "*", "USER": "ann"}
    environ |= {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CACHE_HOME")}
    if plugin_dir:
        environ["DAFT_TERRAFORM_PLUGIN_DIR"] = str(plugin_dir)

    def new(name: str, **tables: Any) -> Project:
        return Project(
            tmp_path_factory.mktemp(name) / "project", lab, lab.environment(environ), name, **tables
        )

    return new


@pytest.fixture(scope="session")
def demo(new_project: Callable[..., Project]) -> Project:
    """The folder of the cluster that most tests share; `cluster` brings it up."""
    setup = {"number_of_workers": 2, "dependencies": ["humanize"]}
    return new_project("demo", setup=setup, run={"setup_commands": ["echo hello from the head"]})


@pytest.fixture(scope="session")
def came_up(demo: Project) -> Seen:
    """What `daft up` of the shared cluster said."""
    seen = demo.daft("up", timeout=600)
    assert seen.status == 0, f"{seen.out}{seen.err}\n{demo.lab.logs()}"
    return seen


@pytest.fixture(scope="session")
def beside(lab: Lab, new_project: Callable[..., Project]) -> Iterator[Neighbours]:
    """Two more clusters, which reach the network outside in their own ways."""
    with neighbours(lab, Path(str(_PACKAGES)), new_project) as both:
        yield both


@pytest.fixture(scope="session")
def cluster(demo: Project, came_up: Seen) -> Project:
    """The shared cluster, up."""
    return demo
