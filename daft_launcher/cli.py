"""The command line: each command parses, makes one call into a use case, and one into the console."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from daft_launcher import cli_backend, cli_jobs
from daft_launcher.cli_common import (
    DEFAULT_CONFIG,
    Boundary,
    ConfigOption,
    IdentityOption,
    ListFormat,
    LockTimeoutOption,
    NoWaitLockOption,
    ProviderChoice,
    ProviderOption,
    StateDirOption,
    YesOption,
    console_of,
    load_cluster,
    open_workshop,
)
from daft_launcher.errors import UsageError
from daft_launcher.interrupts import ignore_interrupts

app = typer.Typer(
    cls=Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Put Ray + Daft clusters on AWS with Terraform, and try them on your own machine first.",
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"daft-launcher {version('daft-launcher')}")
        raise typer.Exit


@app.callback()
def _global_options(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Show no colour.")] = False,
) -> None:
    if sys.argv[0].endswith("daft-launcher") and _is_shadowed():
        console_of(ctx).warn(
            "in this environment the command `daft` belongs to the package daft: type `daft-launcher`, or install "
            "this program as a tool of its own with `uv tool install daft-launcher`"
        )


def _is_shadowed() -> bool:
    """Whether PyPI's `daft` lies in the same environment; it brings a script of that name, and one of the two wins."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("daft")
    except PackageNotFoundError:
        return False
    return True


@app.command("init-config")
def init_config(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_CONFIG,
    *,
    provider: Annotated[
        ProviderChoice, typer.Option(help="Where the cluster is to run.")
    ] = ProviderChoice.aws,
    name: Annotated[str | None, typer.Option(help="What the cluster is to be called.")] = None,
) -> None:
    """Write a commented starter file.

    An existing file is never overwritten.
    """
    from daft_launcher.starter import write_starter_config

    write_starter_config(file, provider=provider.value, name=name)
    todo = "" if name else "; give the cluster a name in it"
    option = "" if file == DEFAULT_CONFIG else f" -c {shlex.quote(str(file))}"
    console_of(ctx).note(f"wrote {file}{todo}. Next: `daft up{option} --plan`, then `daft up{option}`")


@app.command("config-schema")
def config_schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of the file."""
    from daft_launcher.starter import schema_text

    console_of(ctx).data(schema_text())


@app.command("plan-schema")
def plan_schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of what `daft up --plan --json` prints."""
    from daft_launcher.assets import plan_schema_text

    console_of(ctx).data(plan_schema_text())


@app.command()
def up(
    ctx: typer.Context,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would change; touch nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --plan: save the plan there, for --from-plan.")
    ] = None,
    from_plan: Annotated[
        Path | None, typer.Option("--from-plan", help="Apply a saved plan exactly, or refuse it as stale.")
    ] = None,
    yes: YesOption = False,
    identity_file: IdentityOption = None,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
    json: Annotated[bool, typer.Option("--json", help="With --plan: print one JSON document.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --plan: 0 no changes, 1 error, 2 changes.")
    ] = False,
    step_timeout: Annotated[
        int, typer.Option(min=1, help="How many seconds the head may stay in one step of its bootstrap.")
    ] = 1200,
    no_wait_lock: NoWaitLockOption = False,
    lock_timeout: LockTimeoutOption = 1800,
) -> None:
    """Create the cluster, or converge it.

    Makes the cluster what the configuration says, and returns when the head takes jobs; workers join by themselves.
    """
    if not plan and (json or detailed_exitcode):
        raise UsageError("`--json` and `--detailed-exitcode` go with `daft up --plan`")
    if out and not plan:
        raise UsageError("`--out` goes with `daft up --plan`")
    if from_plan and plan:
        raise UsageError("`--from-plan` applies a plan and `--plan` makes one: leave one of the two out")
    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    tools = workshop.tools_for(loaded, identity_file=identity_file)
    from daft_launcher import launcher, review
    from daft_launcher.git_tree import is_exposed
    from daft_launcher.saved_plan import read_saved_plan

    if plan:
        report = review.plan(loaded, tools, out=out)
        console_of(ctx).plan(report, as_json=json)
        if out:
            console_of(ctx).saved_plan(out, exposed=is_exposed(out))
        raise typer.Exit(2 if detailed_exitcode and not report.plan.empty else 0)
    result = launcher.up(
        loaded,
        tools,
        yes=yes,
        step_timeout=step_timeout,
        lock_timeout=0 if no_wait_lock else lock_timeout,
        saved=read_saved_plan(from_plan) if from_plan else None,
        settled=ignore_interrupts,
    )
    console_of(ctx).up(result)


@app.command()
def down(
    ctx: typer.Context,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until nothing is left.")] = False,
    yes: YesOption = False,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
    timeout: Annotated[int, typer.Option(min=1, help="How many seconds it may take.")] = 1800,
    no_wait_lock: NoWaitLockOption = False,
    lock_timeout: LockTimeoutOption = 1800,
) -> None:
    """Destroy the cluster.

    Returns when every instance has been asked to shut down; Terraform removes the rest by itself.
    """
    from daft_launcher import teardown
    from daft_launcher.config import load_reference
    from daft_launcher.restore import restore_root

    reference = load_reference(config).on(provider.value if provider else None)
    workshop = open_workshop(ctx, config, state_dir)
    tools = workshop.tools_for_removal(reference)
    if restore_root(reference, tools):
        tools = workshop.tools_for_removal(reference)
    teardown.agree_to_end_jobs(reference, tools, yes=yes)
    patience = 0 if no_wait_lock else lock_timeout
    result = teardown.down(reference, tools, wait=wait, deadline=timeout, lock_timeout=patience)
    console_of(ctx).down(reference.name, result)


@app.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this cluster.")] = None,
    *,
    region: Annotated[list[str] | None, typer.Option("--region", help="A region to ask; repeatable.")] = None,
    all_regions: Annotated[bool, typer.Option("--all-regions", help="Ask all regions at once.")] = False,
    profile: Annotated[str | None, typer.Option(help="The profile of the AWS configuration.")] = None,
    format_: Annotated[
        ListFormat | None, typer.Option("--format", help="Default: table on a terminal, text elsewhere.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """List all clusters, by state."""
    from daft_launcher.inventory import list_clusters

    listing = list_clusters(
        open_workshop(ctx, DEFAULT_CONFIG, state_dir).state_dir,
        cluster=name,
        regions=region or [],
        all_regions=all_regions,
        profile=profile,
        provider=provider.value if provider else None,
    )
    chosen = "json" if json else format_.value if format_ else None
    console_of(ctx).listing(listing, form=chosen)
    raise typer.Exit(1 if listing.failures else 0)


@app.command()
def render(
    ctx: typer.Context,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="Where to. Default: the state directory.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; 1 and a diff if something would.")
    ] = False,
    provider: ProviderOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Write the Terraform root, and no more."""
    from daft_launcher.render import render_cluster
    from daft_launcher.state_dir import diff_rendered, refuse_foreign, write_rendered

    workshop, loaded = load_cluster(ctx, config, provider, state_dir)
    directory = out or workshop.state_dir.root_of(loaded.setup.name, loaded.setup.provider)
    rendered = render_cluster(loaded)
    refuse_foreign(directory, rendered.files)
    if check:
        diff = diff_rendered(rendered, directory)
        console_of(ctx).text(diff)
        raise typer.Exit(1 if diff else 0)
    instead = "`--out`" if out else "`--state-dir` or DAFT_STATE_DIR"
    changed = write_rendered(rendered, directory, instead=instead).changed
    console_of(ctx).note(f"{directory}: {len(changed)} of {len(rendered.files)} files written")


app.add_typer(cli_backend.app, name="backend")
app.command()(cli_jobs.submit)
app.command()(cli_jobs.dashboard)
app.command("jobs")(cli_jobs.list_jobs)
app.command()(cli_jobs.logs)
app.command()(cli_jobs.ssh)
app.command("stop-job")(cli_jobs.stop_job)


def _open_closed_streams() -> None:
    """Make up for a stream that the program was started without (`daft list >&-`): a file would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - lives as long as we


def _lose_no_output() -> None:
    """Write what the locale has no character for as an escape, as Python does on stderr, instead of failing over it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the program."""
    _open_closed_streams()
    _lose_no_output()
    try:
        app(prog_name=Path(sys.argv[0]).name if sys.argv[0].endswith("daft-launcher") else "daft")
    finally:
        # The command has ended, and said how: a Ctrl-C while Python tidies up changes nothing of that.
        ignore_interrupts()
