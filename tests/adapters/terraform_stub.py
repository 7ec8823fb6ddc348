"""A `terraform` that notes down how it was called, and does what the test has told it to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daft_launcher.terraform_binary import TerraformBinary

_SCRIPT = """#!/bin/sh
note={folder}/calls/$(ls {folder}/calls | wc -l | tr -d ' ')
mkdir "$note"
for word in "$@"; do printf '%s\\0' "$word"; done > "$note/argv"
env -0 > "$note/env"
pwd > "$note/cwd"
umask > "$note/umask"
if [ -e {folder}/verbs/"$1" ]; then . {folder}/verbs/"$1"; fi
"""


@dataclass(frozen=True)
class Call:
    """One run of the stub."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: str
    umask: str


@dataclass
class TerraformStub:
    """The stub and its notes, in a folder of their own."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "calls").mkdir(parents=True)
        (self.folder / "verbs").mkdir()
        self.path.write_text(_SCRIPT.format(folder=f"'{self.folder}'"))
        self.path.chmod(0o755)

    @property
    def path(self) -> Path:
        return self.folder / "terraform"

    def binary(self, *, version: str = "1.11.4") -> TerraformBinary:
        return TerraformBinary(path=self.path, product="terraform", version=version)

    def does(self, verb: str, script: str) -> None:
        """Let a command do this from now on; its words are `$@`."""
        (self.folder / "verbs" / verb).write_text(script + "\n")

    def says(self, verb: str, *lines: str, status: int = 0) -> None:
        """Let a command print these lines and end."""
        text = "".join(f"{line}\n" for line in lines)
        (self.folder / f"{verb}.txt").write_text(text)
        self.does(verb, f"cat '{self.folder}/{verb}.txt'; exit {status}")

    @property
    def calls(self) -> list[Call]:
        notes = sorted((self.folder / "calls").iterdir(), key=lambda path: int(path.name))
        return [
            Call(
                argv=(note / "argv").read_text().split("\0")[:-1],
                env=dict(entry.split("=", 1) for entry in (note / "env").read_text().split("\0")[:-1]),
                cwd=(note / "cwd").read_text().strip(),
                umask=(note / "umask").read_text().strip(),
            )
            for note in notes
        ]

    @property
    def argvs(self) -> list[list[str]]:
        return [call.argv for call in self.calls]
