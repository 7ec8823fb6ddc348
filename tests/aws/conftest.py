"""AWS for the tests of the aws path, and the users' folders in which they type."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awskit import OPERATOR, NewCluster, Project, wait_until

from tests.moto.server import MotoServer


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    """An AWS for the tests of one file, which no other file has left anything in."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def new_project(
    aws: MotoServer, plugin_dir: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Project]]:
    """A function that makes a user's folder: `new_project("demo", region=…, setup={…})`."""
    assert shutil.which("terraform"), "these tests need Terraform 1.11 or newer on PATH"
    environ = {"COLUMNS": "100", "DAFT_TERRAFORM_DOWNLOAD": "never", "NO_PROXY": "*", "USER": "ann"}
    environ |= {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CACHE_HOME")}
    if plugin_dir:
        environ["DAFT_TERRAFORM_PLUGIN_DIR"] = str(plugin_dir)

    def new(name: str, **options: Any) -> Project:
        folder = tmp_path_factory.mktemp(name) / "project"
        return Project(
            folder, aws, aws.environment({**environ, "DAFT_CHECKIP_URL": address}), name=name, **options
        )

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TellsAddress) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield new
        server.shutdown()
        thread.join()


class _TellsAddress(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(OPERATOR.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(scope="module")
def new_demo(new_project: Callable[..., Project]) -> NewCluster:
    """The first `daft up` of a user: a cluster of two workers, whose head goes through all its steps."""
    project = new_project("demo", access={})
    up = project.start("up")
    wait_until(lambda: project.find_head() is not None or up.process.poll() is not None)
    for status, detail, words in (
        ("booting", "", "the head is booting"),
        ("installing", "ray 2.60.0", "the head is installing: ray 2.60.0"),
        ("setup", "pip list", "the head runs the setup commands: pip list"),
    ):
        project.say(project.head(), status, detail)
        up.await_words(words)
    project.say(project.head(), "ready")
    return NewCluster(project=project, seen=up.end(), words=up.words(), asked=project.changes_asked())


@pytest.fixture
def demo(new_demo: NewCluster) -> Iterator[Project]:
    """That cluster, as it was at first and with no call on record: two workers, and a head that is ready."""
    project = new_demo.project
    project.aws.requests.clear()
    yield project
    project.write(number_of_workers=2, instance_type="m7g.medium")
    head = project.find_head()
    if head is None or len(project.nodes("worker")) != 2 or head.instance_type != "m7g.medium":
        assert project.up("--yes").status == 0
    project.say(project.head(), "ready")
