"""The desk at which the tests of the command line sit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clikit import Desk

from daft_launcher.terraform_binary import TerraformBinary


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # What runs in this process may turn Ctrl-C off for its rest.
    on_interrupt = signal.getsignal(signal.SIGINT)
    yield Desk(tmp_path, monkeypatch)
    signal.signal(signal.SIGINT, on_interrupt)


@pytest.fixture
def terraform_desk(desk: Desk, real_terraform: TerraformBinary) -> Desk:
    """A desk with the real Terraform on PATH."""
    (desk.bin / "terraform").symlink_to(real_terraform.path)
    return desk
