"""The head that tests of a hostile network share: one sshd for each file of tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daft_launcher.models import RayApi
from daft_launcher.ssh import make_key_pair
from tests.adapters import ray_api_server
from tests.adapters.ray_api_server import TOKEN, Answer, Raw, RayApiServer, Stream, job_answer
from tests.adapters.sshd import Sshd, running_sshd
from tests.cli import fake_aws
from tests.cli.clikit import LOCAL, Desk
from tests.network.head import PACKAGE, PATIENT, Head


class AnyPackage(RayApiServer):
    """Knows a package by what is common to all names of packages."""

    def next_answer(self, request: str) -> Answer | Stream | Raw:
        return super().next_answer(re.sub(r"_ray_pkg_[0-9a-f]{16}\.zip", "_ray_pkg_", request))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def key(sshd: Sshd) -> Path:
    path = sshd.folder / "id_ed25519"
    sshd.authorize(make_key_pair(path))
    return path


@pytest.fixture(scope="module")
def token_path(sshd: Sshd) -> Path:
    path = sshd.folder / "ray-token"
    path.write_text(TOKEN)
    return path


@pytest.fixture
def served() -> Iterator[tuple[RayApiServer, RayApi]]:
    with ray_api_server.serve(AnyPackage()) as server:
        yield server


@pytest.fixture
def ray(served: tuple[RayApiServer, RayApi]) -> RayApiServer:
    """A Ray at which all goes well; its job fails with 7 after it has written `one`."""
    ray = served[0]
    ray.prepare(f"GET {PACKAGE}", Answer(status=404))
    ray.prepare(f"PUT {PACKAGE}", Answer())
    ray.prepare("POST /api/jobs/", Answer(body={"submission_id": "job-1"}))
    ray.prepare_job("job-1", "RUNNING", "FAILED", driver_exit_code=7)
    ray.prepare("GET /api/jobs/job-1/logs/tail", Stream(pieces=("one\n",)))
    ray.prepare("GET /api/jobs/job-1/logs", Answer(body={"logs": "one\n"}))
    ray.prepare("GET /api/v0/logs/file", Answer(body=b"one\n"))
    ray.prepare("GET /api/jobs/", Answer(body=[job_answer("job-1", "RUNNING")]))
    ray.prepare("POST /api/jobs/job-1/stop", Answer(body={"stopped": True}))
    return ray


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with a local cluster in its configuration, and a folder to send."""
    desk = Desk(tmp_path, monkeypatch)
    desk.write(".daft.toml", LOCAL)
    desk.write("job/main.py", "print(1)\n")
    return desk


@pytest.fixture
def local_ray(project: Desk, ray: RayApiServer, served: tuple[RayApiServer, RayApi]) -> RayApiServer:
    """The same Ray as the head of the local cluster, with no tunnel before it."""
    project.local_node("head", ports={"dashboard": int(served[1].url.rpartition(":")[2])})
    return ray


@pytest.fixture(scope="module")
def aws() -> Iterator[fake_aws.FakeAws]:
    with fake_aws.serving() as server:
        yield server


@pytest.fixture
def head(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    aws: fake_aws.FakeAws,
    sshd: Sshd,
    key: Path,
    token_path: Path,
    served: tuple[RayApiServer, RayApi],
) -> Head:
    reach = replace(
        PATIENT,
        ssh_port=sshd.port,
        ray_port=int(served[1].url.rpartition(":")[2]),
        token_path=str(token_path),
    )
    desk = Desk(tmp_path, monkeypatch)
    return Head(desk, aws, reach, sshd.host_key, key)
