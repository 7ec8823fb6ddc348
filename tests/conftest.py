"""What holds for every test: a HOME of the session's own, and nothing of the user's environment.

What the tests were started with stays reachable as `outside_environ`, for installers that need a network.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daft_launcher.terraform_binary import TerraformBinary, find_terraform
from tests.leaks import SEARCH
from tests.provider_mirror import QUICK_START, find_mirror, link_mirror

_OUTSIDE = dict(os.environ)
_SCRUBBED = ("AWS_", "TF_", "DAFT_", "RAY_", "BOTO_", "XDG_")
_SCRUBBED_NAMES = {"NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "SSH_AUTH_SOCK", "SSH_AGENT_PID"}
_SEARCHED = pytest.StashKey[tuple[int, ...]]()
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker also where a test is run with a configuration of its own."""
    config.addinivalue_line("markers", "real: runs Terraform, Ray, sshd or a moto server for real")
    # What a script starts in its background ignores Ctrl-C, and so would every program that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def hermetic_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A HOME without anybody's settings, and an environment that says nothing to AWS, Terraform or us."""
    home = tmp_path_factory.mktemp("home")
    cli_config = home / "tests.tfrc"
    cli_config.write_text("")
    outside_home = Path(_OUTSIDE.get("HOME", str(home)))
    _link_installer_settings(outside_home, home)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if _says_something(name):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("UV_CACHE_DIR", _OUTSIDE.get("UV_CACHE_DIR", str(_outside_cache() / "uv")))
        patch.setenv("PIP_CACHE_DIR", _OUTSIDE.get("PIP_CACHE_DIR", str(_outside_cache() / "pip")))
        patch.setenv("CHECKPOINT_DISABLE", "1")
        patch.setenv("TF_CLI_CONFIG_FILE", str(cli_config))
        # Without it boto3 asks an instance-metadata service that is not there, and waits.
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in QUICK_START.items():
            patch.setenv(name, value)
        yield home


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_left_behind(
    hermetic_home: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[None]:
    """When the tests are done: nothing that they wrote and sent holds a secret, but its own place."""
    yield
    found = SEARCH.in_files(tmp_path_factory.getbasetemp()) + SEARCH.in_requests()
    output = getattr(request.config, "workeroutput", None)
    request.config.stash[_SEARCHED] = searched = (SEARCH.files, SEARCH.requests, SEARCH.bytes)
    if output is not None:
        output["searched"] = searched
    assert found == []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a process of pytest-xdist has searched."""
    before = node.config.stash.get(_SEARCHED, (0, 0, 0))
    more = getattr(node, "workeroutput", {}).get("searched", (0, 0, 0))
    node.config.stash[_SEARCHED] = tuple(map(sum, zip(before, more, strict=True)))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how much was searched for secrets."""
    files, requests, size = config.stash.get(_SEARCHED, (0, 0, 0))
    if files or requests:
        terminalreporter.write_line(
            f"searched {files} files and {requests} requests to AWS, {size / 1e6:.1f} MB, for secrets"
        )


@pytest.fixture(scope="session")
def outside_environ() -> Mapping[str, str]:
    """The environment that the tests were started with."""
    return _OUTSIDE


@pytest.fixture(scope="session")
def plugin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A mirror of Terraform's providers on this machine; None where Terraform has to ask its registry."""
    mirror = find_mirror(_OUTSIDE)
    return link_mirror(mirror, tmp_path_factory.mktemp("mirror")) if mirror else None


@pytest.fixture(scope="session")
def real_terraform() -> TerraformBinary:
    """The Terraform of this machine, as the program finds it; fetched into the user's cache if there is none."""
    return find_terraform(progress=print, environ=_OUTSIDE, cache=_outside_cache() / "daft-launcher")


def _says_something(name: str) -> bool:
    if name.startswith("DAFT_TEST_"):
        return False
    return name.startswith(_SCRUBBED) or name in _SCRUBBED_NAMES or name.lower() in _PROXIES


def _outside_cache() -> Path:
    return Path(_OUTSIDE.get("XDG_CACHE_HOME") or Path(_OUTSIDE.get("HOME", "/nonexistent"), ".cache"))


def _link_installer_settings(outside_home: Path, home: Path) -> None:
    """Let pip and uv know the same indexes as outside."""
    (home / ".config").mkdir()
    for name in (".config/pip", ".config/uv", ".pip"):
        if (outside_home / name).is_dir():
            (home / name).symlink_to(outside_home / name)
