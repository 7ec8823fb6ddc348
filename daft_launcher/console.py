"""The only printer: data to stdout, all else to stderr; colour and progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from daft_launcher.console_words import (
    clean,
    describe_step,
    event_line,
    first_line,
    one_line,
    table_cells,
    to_document,
    to_json,
)
from daft_launcher.errors import DaftLauncherError
from daft_launcher.instances import Instance
from daft_launcher.inventory import Listing, describe_instances
from daft_launcher.models import HeadStatus, Plan, RayApi, TerraformEvent
from daft_launcher.plan_words import plan_text

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.status import Status

    from daft_launcher.launcher import UpResult
    from daft_launcher.ray_jobs import Job
    from daft_launcher.review import PlanReport
    from daft_launcher.teardown import DownResult

_WIDE = 250
_VERBS = {"create": "create", "update": "change", "replace": "replace", "delete": "remove"}


class Console:
    """Stdout for data and stderr for people; implements the reporter that the use cases speak through."""

    def __init__(self, *, color: bool | None = None) -> None:
        self._color = color
        self._err: RichConsole | None = None
        self._status: Status | None = None

    @property
    def interactive(self) -> bool:
        """Whether somebody can answer a question."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def live(self) -> bool:
        """Whether a person watches."""
        return sys.stderr.isatty()

    def data(self, text: str) -> None:
        """Write data to stdout as it is, at once. Raises DaftLauncherError when the disk behind it is full."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _discard_stdout()
            raise DaftLauncherError(
                f"the output cannot be written: {error.strerror}", hint="send it somewhere else"
            ) from None

    def document(self, value: object) -> None:
        """Write one JSON document to stdout."""
        self.data(f"{to_json(value)}\n")

    def text(self, text: str) -> None:
        """Write words to stdout, and nothing in them that commands the terminal."""
        self.data(clean(text))

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._line(text)

    def warn(self, text: str) -> None:
        """Say something that may need the user."""
        self._line(f"warning: {text}", style="yellow")

    def error(self, error: DaftLauncherError) -> None:
        """Say why the command ends, and what to do next."""
        self.settle()
        self._line(f"error: {error.message}", style="bold red")
        if error.hint:
            self._line(f"hint: {error.hint}")

    def event(self, event: TerraformEvent) -> None:
        """Show one of Terraform's events: a line for what was done, the live line for what goes on."""
        if event.diagnostic and event.diagnostic.severity == "warning":
            self.warn(f"Terraform: {event.diagnostic.summary}")
        elif line := event_line(event):
            self._line(f"  {line}")
        self._live_line(event.message)

    def planned(self, plan: Plan) -> None:
        """Show what an apply is about to do, one line a kind of resource."""
        counts = Counter((change.action, change.resource_type) for change in plan.changes)
        for (action, resource_type), count in sorted(counts.items()):
            self._line(f"{_VERBS.get(action, action):>8} {count} {resource_type}")

    def head_status(self, status: HeadStatus, *, seconds: float) -> None:
        """Show the step that the head is in; `seconds` is how long the one before took."""
        self._line(f"  {describe_step(status)} ({seconds:.0f} s)")
        self._live_line(describe_step(status))

    def confirm(self, question: str) -> bool:
        """Ask on a terminal; False where nobody can answer."""
        self.settle()
        if not self.interactive:
            return False
        self._rich().print(f"{clean(question)} [y/N] ", end="", markup=False)
        answer = ""
        try:
            answer = sys.stdin.readline()
        finally:
            if not answer.endswith("\n"):  # Ctrl-D and Ctrl-C leave the cursor behind the question
                self._rich().print()
        return answer.strip().lower() in ("y", "yes")

    def settle(self) -> None:
        """End the live line."""
        if self._status:
            self._status.stop()
            self._status = None

    def plan(self, report: PlanReport, *, as_json: bool) -> None:
        """Write what `up` would do: for people, or as one document."""
        self.settle()
        if as_json:
            from daft_launcher.plan_document import to_document

            self.document(to_document(report))
        else:
            self.text(plan_text(report))

    def saved_plan(self, path: Path, *, exposed: bool) -> None:
        """Say where a plan was saved, how it is applied, and when git would take it in."""
        self.note(f"saved {path}; apply it with `daft up --from-plan {shlex.quote(str(path))}`")
        if exposed:
            self.warn(
                f"{path} holds sensitive values in clear, and git does not ignore it: add it to .gitignore"
            )

    def up(self, result: UpResult) -> None:
        """Say where the cluster is and what to type next."""
        self.settle()
        cluster = result.cluster
        if not result.changed:
            self.note(f"{cluster.name} is as the configuration says")
        head = f"head {cluster.head_id} at {cluster.head_address}"
        self.text(f"{cluster.name}: {head}, {cluster.number_of_workers} workers asked for\n")
        if result.changed:
            self.note("next: daft list | daft submit -w FOLDER -- python job.py | daft down")

    def down(self, name: str, result: DownResult) -> None:
        """Say what is left of the cluster."""
        self.settle()
        if not result.existed:
            self.note(f"there is no cluster {name}")
        elif result.gone:
            self.note(f"{name} is gone")
        else:
            self.note(
                f"every instance of {name} is shutting down; Terraform removes the rest and writes {result.log}"
            )

    def listing(self, listing: Listing, *, form: str | None) -> None:
        """Write the nodes of all clusters to stdout; a table on a terminal and text elsewhere unless told."""
        form = form or ("table" if sys.stdout.isatty() else "text")
        if form == "json":
            self.document([to_document(node) for node in listing.instances])
        elif form == "text":
            self.data(describe_instances(listing.instances, datetime.now(timezone.utc)))
        elif listing.instances:
            self._table(listing.instances)
        if listing.unasked:
            self.note(f"AWS was not asked: {listing.unasked}")
        for region, error in listing.failures.items():
            self.warn(error.message if region in error.message else f"{region}: {error.message}")
            if error.hint:
                self.note(f"hint: {error.hint}")
        if not listing.instances and not listing.failures:
            self.note(
                f"there is no cluster {listing.cluster}" if listing.cluster else "no cluster is running"
            )

    def jobs(self, jobs: Sequence[Job], *, as_json: bool) -> None:
        """Write the jobs of a cluster to stdout, one a line."""
        if as_json:
            self.document([{**asdict(job), "status": job.status.value} for job in jobs])
            return
        for job in jobs:
            started = job.started_at.strftime("%Y-%m-%d %H:%M:%S") if job.started_at else "-"
            words = first_line(job.entrypoint)
            line = f"{job.submission_id}  {job.status.value:<9}  {started}  {words}"
            self.data(f"{one_line(line)}\n")
        if not jobs:
            self.note("no job was submitted yet")

    def dashboard(self, api: RayApi, *, open_browser: bool) -> None:
        """Say where the dashboard is, open it where a person watches, and stay until Ctrl-C."""
        self.data(f"{api.url}\n")
        if api.token:
            self.note(
                f"when the page asks for an authentication token, paste this one and press Submit: {api.token}"
            )
        with contextlib.suppress(KeyboardInterrupt):
            self.note("Ctrl-C ends it")
            if open_browser and self.live:
                import webbrowser

                webbrowser.open(api.url)
            threading.Event().wait()

    def _table(self, instances: Sequence[Instance]) -> None:
        from rich.table import Table

        now = datetime.now(timezone.utc)
        table = Table(box=None, pad_edge=False, header_style="bold")
        with_ends = any(node.ends_at for node in instances)
        columns = ("CLUSTER", "ROLE", "STATE", "STATUS", "INSTANCE", "ADDRESS", "TYPE", "ZONE", "AGE")
        for column in (*columns, *(["ENDS"] if with_ends else [])):
            table.add_column(column, overflow="fold")
        for node in instances:
            table.add_row(*map(one_line, table_cells(node, now, with_ends=with_ends)))
        console = self._new_console(sys.stdout)
        if not console.is_terminal:
            console.width = _WIDE
        with console.capture() as captured:
            console.print(table)
        self.data(captured.get())

    def _line(self, text: str, *, style: str = "") -> None:
        if self.live:
            self._rich().print(clean(text), style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            # What rich would print here, without the time that it takes to import.
            sys.stderr.write(f"{clean(text)}\n")
            sys.stderr.flush()

    def _live_line(self, text: str) -> None:
        if not self.live:
            return
        words = one_line(first_line(text.strip()))
        if self._status is None:
            from rich.status import Status

            self._status = Status("", console=self._rich())
            self._status.start()
        from rich.text import Text

        self._status.update(Text(words, overflow="ellipsis", no_wrap=True))

    def _rich(self) -> RichConsole:
        if self._err is None:
            self._err = self._new_console(sys.stderr)
        return self._err

    def _new_console(self, file: TextIO) -> RichConsole:
        from rich.console import Console as RichConsole

        no_color = True if self._color is False else None
        return RichConsole(file=file, no_color=no_color, highlight=False, emoji=False, markup=False)


def _discard_stdout() -> None:
    # What could not be written stays in the buffer, and Python would try it again, and complain, at its end.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
