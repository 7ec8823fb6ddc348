"""What tests of several doors share: the real Ray, and a service that tells one's address."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkip_service import CheckipService

RAY_PACKAGES = ["daft[ray]>=0.7", "ray[default]>=2.54"]


@pytest.fixture(scope="session")
def ray_executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `ray` that DAFT_TEST_RAY names, else one installed for this session; fails when there is none."""
    named = os.environ.get("DAFT_TEST_RAY")
    if named:
        ray = Path(named)
        if not (ray.is_file() and os.access(ray, os.X_OK)):
            pytest.fail(f"DAFT_TEST_RAY names `{ray}`, which is no executable")
        return ray
    venv = tmp_path_factory.mktemp("ray") / "venv"
    for command in _install_commands(venv):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            pytest.fail(
                f"Ray cannot be installed for the tests (DAFT_TEST_RAY=/path/to/ray names one that is there): "
                f"`{' '.join(command)}` ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
    return venv / "bin/ray"


def _install_commands(venv: Path) -> list[list[str]]:
    uv = shutil.which("uv")
    python = str(venv / "bin/python")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
            [uv, "pip", "install", "--quiet", "--python", python, *RAY_PACKAGES],
        ]
    return [
        [sys.executable, "-m", "venv", str(venv)],
        [python, "-m", "pip", "install", "--quiet", *RAY_PACKAGES],
    ]


@pytest.fixture
def checkip(monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckipService]:
    """What tells the program its public address."""
    with CheckipService() as service:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("DAFT_CHECKIP_URL", f"http://127.0.0.1:{service.server_port}/")
        yield service
