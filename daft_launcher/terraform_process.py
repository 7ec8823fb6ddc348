"""A Terraform that runs, followed through the log that it writes."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from daft_launcher.errors import TerraformError
from daft_launcher.models import TerraformEvent
from daft_launcher.terraform_events import describe_diagnostic, parse_event
from daft_launcher.terraform_lock import find_lock_error

OnEvent = Callable[[TerraformEvent], None]

_POLL_SECONDS = 0.05
# What `init` says of a provider that comes from the user's own folder, as the user asked for; and of `-state`, which
# alone lets a plan read a copy of the state and be one for the state's own place.
_EXPECTED_WARNINGS = ("Incomplete lock file information for providers", "Deprecated flag: -state")


class RunningTerraform:
    """A Terraform that runs, followed through its log."""

    def __init__(self, what: str, process: subprocess.Popen[bytes], log: Path, on_event: OnEvent) -> None:
        self.log = log
        self._what = what
        self._process = process
        self._on_event = on_event
        self._events: list[TerraformEvent] = []
        self._words: list[str] = []
        self._lines = _GrowingLog(log)

    @property
    def running(self) -> bool:
        """Whether Terraform still runs; passes on the events that came since the last look."""
        running = self._process.poll() is None
        for line in self._lines.new(unfinished=not running):
            self._take(line)
        return running

    def interrupt(self) -> None:
        """Ask Terraform to stop in order; nothing happens when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> list[TerraformEvent]:
        """Follow Terraform to its end and return its events. Raises TerraformError when it failed.

        The first Ctrl-C is passed on, so that Terraform stops in order and saves its state, and raised again
        when it has; the second leaves Terraform to itself.
        """
        interrupted = False
        while True:
            try:
                if not self.running:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_POLL_SECONDS)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self.interrupt()
                self._on_event(
                    TerraformEvent(kind="interrupted", message="Waiting for Terraform to stop in order")
                )
        if interrupted:
            raise KeyboardInterrupt
        self._raise_for_status()
        return self._events

    def _take(self, line: str) -> None:
        event = parse_event(line)
        if event is None:
            self._words.append(_plain(line))
            return
        self._events.append(event)
        if not (event.diagnostic and event.diagnostic.summary in _EXPECTED_WARNINGS):
            self._on_event(event)

    def _raise_for_status(self) -> None:
        status = self._process.returncode
        if status == 0:
            return
        diagnostics = [event.diagnostic for event in self._events if event.diagnostic]
        errors = [describe_diagnostic(found) for found in diagnostics if found.severity == "error"]
        words = errors or [word for word in self._words if word.strip()] or [f"it ended with status {status}"]
        if known := find_lock_error("\n".join(words)):
            raise known
        raise TerraformError(f"Terraform could not {self._what}:\n  " + "\n  ".join(words), hint=_hint(words))


_HINTS = (
    (
        re.compile(r"no space left on device", re.IGNORECASE),
        "make room on the disk and run the command again",
    ),
    (
        re.compile(r"data\.aws_ami\.found"),
        "there is no such image in this region: choose another `image_id`, or leave it out",
    ),
    (
        re.compile(r"data\.aws_subnet\.given"),
        "there is no such subnet in this region: choose another `subnet_id`",
    ),
    (
        re.compile(r"Failed to (query available provider packages|install provider)", re.IGNORECASE),
        "let DAFT_TERRAFORM_PLUGIN_DIR name a folder that holds the provider, set HTTPS_PROXY, or try again",
    ),
    (
        re.compile(r"ExpiredToken|RequestExpired|No valid credential sources|InvalidClientTokenId"),
        "log in again, for example with `aws sso login`, and run the command again",
    ),
    (
        re.compile(r"InsufficientInstanceCapacity|VcpuLimitExceeded"),
        "choose another `instance_type` or `region`, or ask AWS for a higher quota",
    ),
    (re.compile(r"UnauthorizedOperation|AccessDenied"), "ask for the permission that the message names"),
)


def _hint(words: Sequence[str]) -> str | None:
    text = "\n".join(words)
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), None)


def _plain(line: str) -> str:
    """Return what a line that is no event says; of one in JSON its message, and of Terraform's state dumps nothing."""
    try:
        document = json.loads(line)
    except ValueError:
        return line.rstrip()
    return str(document.get("@message", "")) if isinstance(document, dict) else ""


class _GrowingLog:
    """The lines of a file that somebody writes, as they come."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._position = 0
        self._rest = b""

    def new(self, *, unfinished: bool) -> list[str]:
        """Return the lines that came since the last time, with `unfinished` a last one without its end too."""
        with self._log.open("rb") as file:
            file.seek(self._position)
            *lines, rest = (self._rest + file.read()).split(b"\n")
            self._position, self._rest = file.tell(), rest
        if rest and unfinished:
            lines.append(rest)
            self._rest = b""
        return [line.decode("utf-8", errors="replace") for line in lines]
