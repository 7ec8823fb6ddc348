"""A machine for the tests that look for a Terraform, and a release for it to fetch."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daft_launcher.errors import DaftLauncherError, TerraformError
from daft_launcher.terraform_binary import (
    Release,
    TerraformBinary,
    find_terraform,
)

PLATFORM = "linux_amd64"
ZIP_PATH = "/terraform/1.11.4/terraform_1.11.4_linux_amd64.zip"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, content)
    return buffer.getvalue()


BINARY = b"#!/bin/sh\n# the fetched one\n" + b"#" * 1_000_000
ZIP = zip_of("terraform", BINARY)


def release_of(body: bytes, *, read_timeout: float = 10, deadline: float = 20) -> Release:
    pinned = {PLATFORM: hashlib.sha256(body).hexdigest()}
    return Release(version="1.11.4", sha256=pinned, read_timeout=read_timeout, deadline=deadline)


@dataclass
class Machine:
    """A machine with nothing on its PATH but what the test puts there, and a cache of its own."""

    root: Path
    lines: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    release: Release = field(default_factory=lambda: release_of(ZIP))
    platform: str = PLATFORM
    patience: float = 10

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def fetched(self) -> Path:
        return self.cache / "terraform" / "1.11.4" / PLATFORM / "terraform"

    def program(self, name: str, script: str, *, mode: int = 0o755) -> Path:
        path = self.root / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return path

    def find(self) -> TerraformBinary:
        return find_terraform(
            progress=self.lines.append,
            environ={"PATH": str(self.root / "bin")} | self.environ,
            cache=self.cache,
            release=self.release,
            platform=self.platform,
            probe_timeout=self.patience,
        )

    def failure(self) -> tuple[str, str | None]:
        with pytest.raises(DaftLauncherError) as caught:
            self.find()
        assert type(caught.value) is TerraformError
        return caught.value.message, caught.value.hint

    def kept(self) -> list[Path]:
        return sorted(path for path in self.cache.rglob("*") if not path.is_dir())


def says(version: str) -> str:
    return f"""echo '{{ "terraform_version": "{version}", "platform": "linux_amd64" }}'"""


def new_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Machine(root=root, environ={"DAFT_TERRAFORM_RELEASES_URL": "http://127.0.0.1:9"})
