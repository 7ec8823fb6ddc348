"""A Terraform that runs, followed through the log that it writes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from daft_launcher.errors import TerraformError
from daft_launcher.interrupts import count_interrupts
from daft_launcher.models import TerraformEvent
from daft_launcher.orphans import end_orphans
from daft_launcher.terraform_events import CHECK_FAILED, describe_diagnostic, parse_event
from daft_launcher.terraform_lock import find_lock_error

OnEvent = Callable[[TerraformEvent], None]

_POLL_SECONDS = 0.05
_NO_ROOM = 256 * 1024
# What `init` says of a provider that comes from the user's own folder, as the user asked for; of `-state`, which
# alone lets a plan read a copy of the state and be one for the state's own place; of plans for what was lost alone; and
# of checks, which whoever applies is told of.
_EXPECTED_WARNINGS = (
    "Incomplete lock file information for providers",
    "Deprecated flag: -state",
    "Resource targeting is in effect",
    "Applied changes may be incomplete",
    CHECK_FAILED,
)


def is_full(path: Path) -> bool:
    """Return whether the disk on which a path lies has next to no room left, or takes no other file.

    What has failed for want of room has given back a little by its end, as the file of its lock.
    """
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_blocks > 0 and (
        disk.f_bavail * disk.f_frsize < _NO_ROOM or (disk.f_files > 0 and disk.f_favail == 0)
    )


class RunningTerraform:
    """A Terraform that runs, followed through its log."""

    def __init__(
        self,
        what: str,
        process: subprocess.Popen[bytes],
        log: Path,
        on_event: OnEvent,
        *,
        is_full: Callable[[Path], bool] = is_full,
    ) -> None:
        """`is_full` tells whether the disk on which a path lies has no room left."""
        self.log = log
        self._is_full = is_full
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
        with count_interrupts() as interrupts:
            passed_on = False
            while self.running:
                if interrupts.count and not passed_on:
                    passed_on = True
                    self.interrupt()
                    self._on_event(
                        TerraformEvent(kind="interrupted", message="Waiting for Terraform to stop in order")
                    )
                if interrupts.count > 1:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_POLL_SECONDS)
            if interrupts.count:
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
        end_orphans(self._process.pid)
        diagnostics = [event.diagnostic for event in self._events if event.diagnostic]
        errors = [describe_diagnostic(found) for found in diagnostics if found.severity == "error"]
        words = errors or [word for word in self._words if word.strip()]
        if status < 0 or not words:
            words.append(_describe_end(status))
        if self._is_full(self.log.parent):
            # Then the log lacks what Terraform said last, and mostly just this.
            words.insert(0, f"no space left on device: {self.log.parent.parent}")
        text = "\n  ".join(words)
        if known := find_lock_error("\n".join(words)):
            raise known
        raise TerraformError(f"Terraform could not {self._what}:\n  {text}", hint=find_hint(text))


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
    (
        # What S3 answers to a HEAD, which has no words.
        re.compile(r"api error (Forbidden|BadRequest)"),
        "ask for the permission that the message names, or log in again if your credentials have expired",
    ),
    (
        re.compile(r"AlreadyExists|\.Duplicate\b"),
        "run it again, which takes in what has this cluster's tags; for what has only its name, choose another",
    ),
    (
        re.compile(r"SignatureDoesNotMatch|InvalidSignatureException|RequestTimeTooSkewed"),
        "check this machine's clock and the secret access key, and run the command again",
    ),
    (
        re.compile(r"Throttling|RequestLimitExceeded|SlowDown|TooManyRequests"),
        "AWS asks for fewer calls: wait a minute and run the command again",
    ),
    (
        re.compile(r"StatusCode: 5\d\d"),
        "AWS failed: run the command again, and if it fails still, see https://health.aws.amazon.com",
    ),
    (
        re.compile(r"connection (reset|refused)|\bEOF\b|i/o timeout|no such host|Client\.Timeout"),
        "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL, and run the command again",
    ),
    (
        re.compile(
            r"did not respond|it was killed by|it ended with status|Plugin error|interrupt|cancel|halted",
            re.IGNORECASE,
        ),
        "run the command again",
    ),
)


def _describe_end(status: int) -> str:
    return (
        f"it ended with status {status}" if status > 0 else f"it was killed by {signal.Signals(-status).name}"
    )


def find_hint(words: str) -> str | None:
    """Return what to do about a failure of Terraform's that it has described; None where nobody knows."""
    return next((hint for pattern, hint in _HINTS if pattern.search(words)), None)


def _plain(line: str) -> str:
    """Return what a line that is no event says; of one in JSON its message, and of Terraform's state dumps nothing.

    An event that breaks off, as where Terraform was killed or had no room to write it, says nothing either.
    """
    try:
        document = json.loads(line)
    except ValueError:
        return "" if line.startswith('{"@') else line.rstrip()
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
