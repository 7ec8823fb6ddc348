"""The use cases of a cluster that is up: submit, follow, list and stop jobs, and open the dashboard."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import Interrupted, JobError, ProviderError, TunnelError, UsageError
from daft_launcher.instances import Instance, InstanceState
from daft_launcher.job import ContactLostError, ways_to
from daft_launcher.job_package import (
    Skipped,
    build_package,
    check_folder,
    check_text,
    choose_entrypoint,
)
from daft_launcher.lifetimes import warn_of_end
from daft_launcher.models import MAX_ARGUMENT_BYTES, Cluster, RayApi
from daft_launcher.ray_jobs import Job, JobStatus, LogIncompleteError, RayJobs, exit_status
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig, ClusterReference, Setup

DASHBOARD_PORT = 8265
_PORTS_TRIED = 100
# What `os.path.expandvars` takes for a variable: Ray puts each value through it on every node.
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to send: a folder, the words of a command, and what its environment adds."""

    folder: Path
    words: Sequence[str] = ()
    env: Mapping[str, str]
    job_id: str | None = None


def parse_environment(words: Sequence[str]) -> dict[str, str]:
    """Return the variables of `--env K=V` words. Raises UsageError for one that is none, or would arrive changed."""
    variables = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"`--env {word}` is not of the form NAME=VALUE")
        check_text(f"the value of `--env {name}`", value)
        if _VARIABLE.search(value):
            raise UsageError(
                f"the value of `--env {name}` holds a `$` with a name behind it, in whose place Ray puts a variable "
                "of the node",
                hint=f"set it in the command, where a shell does as you write: -- sh -c 'export {name}=…; exec …'",
            )
        variables[name] = value
    # So it goes from process to process, as one argument; where that is too long, the job would never start.
    if (size := len(json.dumps(variables))) > MAX_ARGUMENT_BYTES:
        raise UsageError(
            f"the job's environment has {size:,} bytes as Ray writes it, and no node takes more than "
            f"{MAX_ARGUMENT_BYTES:,}",
            hint="put what is long into a file of the folder that is sent",
        )
    return variables


def get_cluster(setup: Setup | ClusterReference, tools: Tools) -> Cluster:
    """Return a cluster with its running head. Raises ProviderError when no head runs."""
    nodes = tools.provider.list_instances(setup.name)
    heads = [node for node in nodes if node.role == "head"]
    running = [node for node in heads if node.state is InstanceState.RUNNING]
    place = "on this machine" if setup.provider == "local" else f"in {setup.region}"
    if not running:
        raise ProviderError(
            f"no head of cluster `{setup.name}` is running {place}{_other_states(heads)}",
            hint=_way_to_a_head(heads),
        )
    if len(running) > 1:
        names = ", ".join(node.instance_id for node in running)
        raise ProviderError(
            f"cluster `{setup.name}` has several heads {place}: {names}", hint="remove it with `daft down`"
        )
    return _to_cluster(running[0], nodes, setup, tools)


def submit(
    config: ClusterConfig,
    submission: Submission,
    tools: Tools,
    *,
    identity_file: Path | None,
    write: Callable[[str], None],
    wait: bool,
) -> int:
    """Send a job and return its exit code; with `wait` off, return 0 once Ray has it.

    `write` gets the submission id and then the job's own output. Ctrl-C leaves the job running.
    """
    check_folder(submission.folder)
    entrypoint = choose_entrypoint(submission.words, config.run.command, submission.folder)
    cluster = get_cluster(config.setup, tools)
    warn_of_end(cluster, tools)
    with build_package(submission.folder) as package:
        for skipped in package.skipped:
            tools.reporter.warn(_left_out(skipped))
        with open_jobs(cluster, tools, identity_file=identity_file) as jobs:
            submission_id = jobs.submit(
                entrypoint=entrypoint, package=package, env=submission.env, job_id=submission.job_id
            )
            write(f"{submission_id}\n")
            if not wait:
                return 0
            with _naming(submission_id):
                return _follow(jobs, submission_id, tools, write)


def follow(
    config: ClusterConfig,
    submission_id: str,
    tools: Tools,
    *,
    identity_file: Path | None,
    write: Callable[[str], None],
) -> int:
    """Write the whole log of a job, follow it to its end and return the job's exit code."""
    with open_jobs(get_cluster(config.setup, tools), tools, identity_file=identity_file) as jobs:
        return _follow(jobs, submission_id, tools, write)


def list_jobs(config: ClusterConfig, tools: Tools, *, identity_file: Path | None) -> list[Job]:
    """Return the cluster's jobs, the newest first."""
    with open_jobs(get_cluster(config.setup, tools), tools, identity_file=identity_file) as jobs:
        return jobs.list_jobs()[::-1]


def stop(config: ClusterConfig, submission_id: str, tools: Tools, *, identity_file: Path | None) -> None:
    """Ask Ray to stop a job. Raises JobError when there is none, or it has ended."""
    with open_jobs(get_cluster(config.setup, tools), tools, identity_file=identity_file) as jobs:
        if not jobs.stop(submission_id):
            raise JobError(f"job `{submission_id}` has ended already", hint="`daft jobs` shows how")


@contextlib.contextmanager
def open_jobs(cluster: Cluster, tools: Tools, *, identity_file: Path | None) -> Iterator[RayJobs]:
    """Keep the cluster's job API reachable while the context is open."""
    with (
        tools.provider.open_ray_api(cluster, identity_file=identity_file) as api,
        RayJobs(api, tools.reach) as jobs,
    ):
        yield jobs


@contextlib.contextmanager
def open_dashboard(
    config: ClusterConfig, tools: Tools, *, identity_file: Path | None, port: int | None
) -> Iterator[RayApi]:
    """Keep Ray's dashboard at a port of this machine while the context is open.

    That is `port`, or the first free one from 8265 on. Raises TunnelError when `port` is busy.
    """
    cluster = get_cluster(config.setup, tools)
    local_port = port if port is not None else _free_port(DASHBOARD_PORT)
    with tools.provider.open_ray_api(cluster, identity_file=identity_file, local_port=local_port) as api:
        yield api


@contextlib.contextmanager
def _naming(submission_id: str) -> Iterator[None]:
    """Add to a failure that the job, which has been sent, may be running."""
    try:
        yield
    except ContactLostError:
        raise
    except JobError as error:
        error.hint = f"{error.hint}. The job may go on: {ways_to(submission_id)}"
        raise


def _follow(jobs: RayJobs, submission_id: str, tools: Tools, write: Callable[[str], None]) -> int:
    try:
        job = _write_log(jobs.follow(submission_id), write)
    except LogIncompleteError as error:
        job = error.job
        tools.reporter.warn(error.message)
        tools.reporter.note(f"hint: {error.hint}")
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer following `{submission_id}`; the job goes on",
            hint=ways_to(submission_id),
        ) from None
    if job.status is JobStatus.FAILED and job.driver_exit_code is None:
        # It never started, so its log is empty and only Ray knows why.
        tools.reporter.warn(f"the job failed before it started: {job.message or 'Ray does not say why'}")
    return exit_status(job)


def _write_log(log: Generator[str, None, Job], write: Callable[[str], None]) -> Job:
    while True:
        try:
            write(next(log))
        except StopIteration as end:
            job: Job = end.value
            return job


def _left_out(skipped: Skipped) -> str:
    return f"{skipped.path} is not sent: {skipped.reason}"


def _way_to_a_head(heads: Sequence[Instance]) -> str:
    states = {head.state for head in heads}
    if states & {InstanceState.STOPPING, InstanceState.STOPPED}:
        return "`daft up` names the command that starts it"
    if InstanceState.PENDING in states:
        return "wait until `daft up` says that it is ready"
    return "make it with `daft up`; `daft list` shows what there is"


def _other_states(heads: Sequence[Instance]) -> str:
    states = sorted({node.state.value.lower() for node in heads})
    return f" (one is {', '.join(states)})" if states else ""


def _to_cluster(
    head: Instance, nodes: Sequence[Instance], setup: Setup | ClusterReference, tools: Tools
) -> Cluster:
    workers = [node for node in nodes if node.role == "worker" and node.state is InstanceState.RUNNING]
    return Cluster(
        name=setup.name,
        provider=setup.provider,
        region=head.region,
        directory=tools.state_dir.root_of(setup.name, setup.provider),
        head_id=head.instance_id,
        head_address=head.address or head.private_address,
        number_of_workers=len(workers),
        ssh_user=setup.ssh_user,
        ends=head.ends or (),
    )


def _free_port(first: int) -> int:
    for port in range(first, first + _PORTS_TRIED):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise TunnelError(
        f"the ports {first} to {first + _PORTS_TRIED - 1} of this machine are all busy",
        hint="name a free one with `--port`",
    )
