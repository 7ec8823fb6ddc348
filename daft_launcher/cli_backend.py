"""The commands for where Terraform's state lies."""

from __future__ import annotations

import shlex

import typer

from daft_launcher.cli_common import DEFAULT_CONFIG, ConfigOption, YesOption, console_of
from daft_launcher.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make the bucket in which a team shares Terraform's state.",
)


@app.callback()
def _group() -> None:
    """Keep `create` a command of its own, though it is the only one."""


@app.command()
def create(ctx: typer.Context, *, config: ConfigOption = DEFAULT_CONFIG, yes: YesOption = False) -> None:
    """Make the bucket that [backend] names.

    It keeps older versions, is encrypted, closed to the public and refuses connections without TLS. One of yours that
    exists is brought to that state; it may be run again at any time.
    """
    from daft_launcher.config import load_config
    from daft_launcher.render import backend_of
    from daft_launcher.wiring import open_bucket

    backend = backend_of(load_config(config))
    if not backend.remote:
        raise UsageError(
            f'{config} keeps the state on this machine: it has no [backend] with `type = "s3"`',
            hint='add one: [backend], `type = "s3"`, `bucket = "NAME"`',
        )
    console, bucket = console_of(ctx), open_bucket(backend)
    done = bucket.create(lambda question: yes or console.confirm(question))
    option = "" if config == DEFAULT_CONFIG else f" -c {shlex.quote(str(config))}"
    console.note("; ".join(done) if done else f"the bucket {bucket.name} is as it should be")
    place = backend.describe(config.parent)
    console.note(f"the state will lie at {place}. Next: `daft up{option} --plan`, then `daft up{option}`")
