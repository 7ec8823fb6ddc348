"""The commands that need a running cluster: jobs and the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daft_launcher.cli_common import (
    DEFAULT_CONFIG,
    ConfigOption,
    IdentityOption,
    ProviderOption,
    StateDirOption,
    console_of,
    load_cluster,
)
from daft_launcher.errors import UsageError


def submit(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, after `--`. Default: [run] command, else main.py."),
    ] = None,
    *,
    working_dir: Annotated[Path, typer.Option("-w", "--working-dir", help="The folder to send.")],
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K=V", help="Set this in the job's environment; repeatable."),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the submission id and end.")] = False,
    job_id: Annotated[str | None, typer.Option("--job-id", help="A submission id of your own.")] = None,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Run a command of a folder on the cluster.

    Sends the folder, follows the job, and ends with its exit code; Ctrl-C leaves the job running.
    """
    from daft_launcher import jobs

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    submission = jobs.Submission(
        folder=working_dir, words=command or (), env=jobs.parse_environment(env or ()), job_id=job_id
    )
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    write = console_of(ctx).data
    status = jobs.submit(
        loaded, submission, tools, identity_file=identity_file, write=write, wait=not no_wait
    )
    raise typer.Exit(status)


def dashboard(
    ctx: typer.Context,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The local port. Default: the first free from 8265 on."),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Open Ray's dashboard, until Ctrl-C.

    Forwards it to a port of this machine and prints the address and the token that Ray asks for.
    """
    from daft_launcher import jobs

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    with jobs.open_dashboard(loaded, tools, identity_file=identity_file, port=port) as api:
        console_of(ctx).dashboard(api, open_browser=not no_open)


def logs(
    ctx: typer.Context,
    submission_id: Annotated[str | None, typer.Argument(help="The job.")] = None,
    *,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="The log of how the head was set up.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Follow a job's log.

    Starts at its beginning, and ends with the job's exit code.
    """
    from daft_launcher import head_shell, jobs

    if bootstrap == (submission_id is not None):
        raise UsageError(
            "`daft logs` takes the id of a job, or `--bootstrap`", hint="`daft jobs` lists the ids"
        )
    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    write = console_of(ctx).data
    if submission_id is None:
        write(head_shell.read_bootstrap_log(loaded, tools, identity_file=identity_file))
        return
    raise typer.Exit(jobs.follow(loaded, submission_id, tools, identity_file=identity_file, write=write))


def ssh(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run, after `--`. Default: a shell.")
    ] = None,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Open a shell on the head.

    Trusts the host key that the head has said is its own, and no other; ends with the exit status of ssh.
    """
    from daft_launcher import head_shell

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    raise typer.Exit(head_shell.open_shell(loaded, command or (), tools, identity_file=identity_file))


def list_jobs(
    ctx: typer.Context,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """List the jobs, the newest first."""
    from daft_launcher import jobs

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    console_of(ctx).jobs(jobs.list_jobs(loaded, tools, identity_file=identity_file), as_json=json)


def stop_job(
    ctx: typer.Context,
    submission_id: Annotated[str, typer.Argument(help="The job.")],
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    identity_file: IdentityOption = None,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Stop a job."""
    from daft_launcher import jobs

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    jobs.stop(loaded, submission_id, tools, identity_file=identity_file)
    console_of(ctx).note(f"asked {submission_id} to stop")
