"""Terraform on one root: init, plan, apply, destroy and outputs, driven through python-terraform."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from python_terraform import IsFlagged, IsNotFlagged, Terraform

from daft_launcher import terraform_init
from daft_launcher.errors import TerraformError
from daft_launcher.interrupts import count_interrupts
from daft_launcher.lock import note_terraform
from daft_launcher.lock_trail import LockTrail
from daft_launcher.models import Plan, TerraformEvent
from daft_launcher.terraform_binary import TerraformBinary
from daft_launcher.terraform_events import failed_checks, to_plan
from daft_launcher.terraform_lock import StateLock, find_lock_error
from daft_launcher.terraform_process import OnEvent, RunningTerraform, find_hint


class TerraformRoot:
    """One Terraform root and the binary that runs in it.

    Every command writes its events to `logs/` in the root, and is followed from there: Terraform must live on
    and save its state when this program is killed, which it would not with a pipe that nobody reads.
    `lock` is the descriptor of the cluster's lock, which Terraform keeps open, and so the lock as long as it runs.
    """

    def __init__(
        self,
        directory: Path,
        binary: TerraformBinary,
        *,
        environ: Mapping[str, str],
        on_event: OnEvent,
        lock: int | None = None,
    ) -> None:
        self.directory = directory
        self._binary = binary
        self._environ = terraform_init.terraform_environment(environ)
        self._on_event = on_event
        self._inherited = () if lock is None else (lock,)
        self._trail = LockTrail(directory)
        self._driver = _Driver(self._start, directory, binary)
        self._running: RunningTerraform | None = None
        self._stopped = False

    @property
    def version(self) -> str:
        """Product and version, such as `Terraform 1.11.4`."""
        title = {"terraform": "Terraform", "tofu": "OpenTofu"}[self._binary.product]
        return f"{title} {self._binary.version}"

    def init(self, *, reconfigure: bool = False) -> None:
        """Install what the root needs, unless nothing that matters for it has changed since the last time.

        Raises TerraformError with Terraform's own words when a provider or the backend cannot be reached.
        """
        wanted = terraform_init.InitStamp(self.directory, self._binary, self._environ)
        if wanted.is_current():
            return
        options: dict[str, Any] = {"json": IsFlagged, "lock_timeout": "60s"}
        options["reconfigure"] = IsFlagged if reconfigure else IsNotFlagged
        if plugin_dir := self._environ.get(terraform_init.PLUGIN_DIR):
            options["plugin_dir"] = plugin_dir
        with terraform_init.shared_plugin_cache(self.directory, self._environ):
            self._run("initialise", "init", lambda: self._driver.init(**options))
        wanted.write()

    def plan(
        self,
        out: Path,
        *,
        replace: Sequence[str] = (),
        targets: Sequence[str] = (),
        lock: bool = True,
        state: Path | None = None,
    ) -> Plan:
        """Return what an apply would change and save it in `out`, readable by the user alone.

        `replace` are the addresses to make anew though their configuration is unchanged, `targets` those to which the
        plan is restricted. `state` is read in place of the one that the local backend names; the plan is one for that
        backend all the same.
        """
        options: dict[str, Any] = {"json": IsFlagged, "out": str(out), "replace": list(replace), "lock": lock}
        options["target"] = list(targets)
        options["detailed_exitcode"] = IsNotFlagged
        if state:
            options["state"] = str(state)
        with _private_files():
            return to_plan(self._run("plan", "plan", lambda: self._driver.plan(**options)))

    def show(self, plan_file: Path) -> str:
        """Return a saved plan as Terraform's own text."""
        return self._capture("show the plan", "show", str(plan_file), no_color=IsFlagged)

    def show_json(self, plan_file: Path) -> Mapping[str, Any]:
        """Return a saved plan in Terraform's JSON form: developer.hashicorp.com/terraform/internals/json-format."""
        text = self._capture("show the plan", "show", str(plan_file), json=IsFlagged)
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TerraformError(
                f"Terraform's plan in {self.directory} cannot be read", hint="run the command again"
            )
        return document

    def apply(self, plan_file: Path) -> Sequence[str]:
        """Make exactly what the saved plan says, and return what the root's checks find wrong with what came of it.

        Raises TerraformError when it fails part of the way.
        """
        self._close_directory()
        with _private_files():
            events = self._run(
                "apply the plan",
                "apply",
                lambda: self._driver.apply(str(plan_file), skip_plan=True, json=IsFlagged),
            )
        return failed_checks(events)

    def start_destroy(self) -> RunningTerraform:
        """Start removing everything in the state; it goes on by itself if this program ends."""
        with _private_files():
            process = self._driver.destroy(
                json=IsFlagged,
                force=IsNotFlagged,
                auto_approve=True,
                # Without a refresh nothing is looked up: an image that is no more must not keep a cluster alive.
                refresh=False,
            )[0]
        return RunningTerraform("destroy", process, self._log("destroy"), self._on_event)

    def output(self) -> Mapping[str, object]:
        """Return the root's outputs by name; empty when nothing was applied."""
        text = self._capture("read the outputs", "output", json=IsFlagged)
        try:
            return {name: output["value"] for name, output in json.loads(text).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TerraformError(
                f"Terraform's outputs in {self.directory} cannot be read", hint="run `daft up` again"
            ) from None

    def pull_state(self) -> Mapping[str, object]:
        """Return the state as Terraform keeps it; empty when nothing was applied."""
        text = self._capture("read the state", "state pull", no_color=IsFlagged)
        try:
            state: Mapping[str, object] = json.loads(text or "{}")
        except ValueError:
            raise TerraformError(f"Terraform's state in {self.directory} cannot be read") from None
        return state

    def forget(self, addresses: Sequence[str], *, state: Path | None = None) -> None:
        """Take resources out of the state and leave them as they are; `state` is a copy to do so in."""
        options: dict[str, Any] = {"state": str(state)} if state else {}
        with _private_files():
            self._capture("forget what is gone", "state rm", *addresses, no_color=IsFlagged, **options)

    def try_lock(self) -> None:
        """Take the state's lock and give it back. Raises StateLockedError when somebody has it."""
        # It marks nothing where there is no such resource, but it locks first, and needs no provider.
        options: dict[str, Any] = {"allow_missing": IsFlagged, "no_color": IsFlagged}
        with _private_files():
            self._capture("lock the state", "taint", "terraform_data.none", **options)

    def break_own_lock(self, lock: StateLock) -> bool:
        """Break a state's lock, if it was this root's Terraform that took it, and return whether it was.

        Nothing may run in the root. Raises TerraformError when the lock does not break.
        """
        if not self._trail.includes(lock.lock_id):
            return False
        self._capture("break its own lock", "force-unlock", lock.lock_id, force=IsFlagged, no_color=IsFlagged)
        return True

    def push_state(self, file: Path, *, force: bool = False) -> None:
        """Write a state. Raises TerraformError over a newer one, or one of another line, unless `force` is on."""
        self._close_directory()
        options: dict[str, Any] = {"force": IsFlagged if force else IsNotFlagged, "no_color": IsFlagged}
        with _private_files():
            self._capture("write the state", "state push", str(file.resolve()), **options)

    def _close_directory(self) -> None:
        # Now it comes to hold a state; one that git has checked out is as open as the umask let it.
        with contextlib.suppress(OSError):  # somebody else's, who decides
            self.directory.chmod(0o700)

    def _run(self, what: str, verb: str, start: Callable[[], tuple[Any, Any, Any]]) -> list[TerraformEvent]:
        if self._stopped:
            raise TerraformError(f"Terraform was stopped before it could {what}")
        # From before it starts: one that comes in between reaches it too.
        with count_interrupts():
            process = start()[0]
            self._running = RunningTerraform(what, process, self._log(verb), self._on_event)
            if self._stopped:
                self._running.interrupt()
            return self._running.wait()

    def stop(self) -> None:
        """End in order whatever runs in the root, from another thread, and let nothing more start."""
        self._stopped = True
        if self._running:
            self._running.interrupt()

    def _capture(self, what: str, verb: str, *arguments: str, **options: Any) -> str:  # noqa: ANN401 - its flags
        command = self._driver.generate_cmd_string(verb, *arguments, **options)
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=self._trail.environment(self._environ),
                capture_output=True,
                text=True,
                check=False,
                pass_fds=self._inherited,
            )
        except OSError as error:
            raise TerraformError(f"{command[0]} cannot be run: {error.strerror}") from None
        if done.returncode:
            words = (done.stderr or done.stdout).strip()
            if known := find_lock_error(words):
                raise known
            raise TerraformError(
                f"Terraform could not {what} in {self.directory}:\n  {words}", hint=find_hint(words)
            )
        return done.stdout

    def _log(self, verb: str) -> Path:
        return self.directory / "logs" / f"{verb}.jsonl"

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        verb = command[1]
        log = self._log(verb)
        try:
            log.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise TerraformError(f"{log} cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            return self._spawn(command, file)

    def _spawn(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._trail.environment(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach Terraform once, through us, and not again from the terminal.
                start_new_session=True,
                pass_fds=self._inherited,
            )
        except OSError as error:
            raise TerraformError(f"{command[0]} cannot be run: {error.strerror}") from None
        for lock in self._inherited:
            note_terraform(lock, process.pid)
        return process


class _Driver(Terraform):
    """python-terraform's commands, started our way and with the state file left unread."""

    def __init__(
        self,
        start: Callable[[Sequence[str]], subprocess.Popen[bytes]],
        directory: Path,
        binary: TerraformBinary,
    ) -> None:
        super().__init__(working_dir=str(directory), terraform_bin_path=str(binary.path))
        self._start_command = start

    def cmd(self, cmd: str, *args: str, **kwargs: Any) -> tuple[subprocess.Popen[bytes], None, None]:  # noqa: ANN401
        # An empty set of variables would become an empty file in the temporary folder, one for every command.
        kwargs.pop("var", None)
        return self._start_command(self.generate_cmd_string(cmd, *args, **kwargs)), None, None

    def read_state_file(self, file_path: str | None = None) -> None:
        """Leave the state file unread: a damaged one would end the constructor, and nothing here needs it."""


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Let what Terraform creates, state and plans, be readable by the user alone: both may hold secrets."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
