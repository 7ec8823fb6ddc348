"""What all commands of the command line share: options, the console, and the boundary at which failures end."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from daft_launcher.errors import DaftLauncherError, Interrupted

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig
    from daft_launcher.console import Console
    from daft_launcher.wiring import Workshop


class ProviderChoice(str, Enum):
    """The providers."""

    aws = "aws"
    local = "local"


class ListFormat(str, Enum):
    """The forms of `daft list`."""

    text = "text"
    table = "table"
    json = "json"


ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The configuration file.")]
IdentityOption = Annotated[
    Path | None,
    typer.Option("-i", "--identity-file", help="The private SSH key. Default: the one that `up` made."),
]
ProviderOption = Annotated[
    ProviderChoice | None, typer.Option("--provider", help="Run there, whatever the file's provider is.")
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="DAFT_STATE_DIR",
        help="Where the Terraform roots lie. Default: .daft beside the configuration file.",
    ),
]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="Agree beforehand.")]
NoWaitLockOption = Annotated[
    bool, typer.Option("--no-wait-lock", help="Fail at once when somebody else works on the cluster.")
]
LockTimeoutOption = Annotated[
    int,
    typer.Option(
        min=0, metavar="SECONDS", help="How many seconds to wait for somebody else who works on the cluster."
    ),
]
DEFAULT_CONFIG = Path(".daft.toml")
_CONSOLE = "daft_launcher.console"


class Boundary(TyperGroup):
    """Where every failure becomes a message and an exit status."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        """Read the command line up to the command's name."""
        try:
            return super().make_context(*args, **kwargs)
        except _usage_errors() as error:
            raise _readable(error) from None

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - where Context lies differs between versions of Typer
        """Run the command; a failure ends the program with a message, and with a traceback under `--debug`."""
        try:
            return super().invoke(ctx)
        except DaftLauncherError as error:
            _end(ctx, error)
        except KeyboardInterrupt:
            _end(ctx, Interrupted("interrupted"))
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except _usage_errors() as error:
            raise _readable(error) from None
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            what = " ".join(str(error).split())
            _end(
                ctx,
                DaftLauncherError(
                    f"daft-launcher has a fault: {type(error).__name__}: {what}",
                    hint="run the command again with `daft --debug …` and report what it prints",
                ),
            )


def _usage_errors() -> tuple[type[Exception], ...]:
    """Typer's own errors, which it shows itself; where their base class lies differs between versions of Typer."""
    return tuple(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _readable(error: Exception) -> Exception:
    """Return a usage error, which Typer prints itself, with nothing in it that a terminal obeys."""
    from daft_launcher.console_words import clean

    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, clean(value))
    return error


def _end(ctx: typer.Context, error: DaftLauncherError) -> None:
    if ctx.params.get("debug"):
        raise error
    console_of(ctx).error(error)
    raise typer.Exit(error.exit_code) from None


def load_cluster(
    ctx: typer.Context, path: Path, provider: ProviderChoice | None, state_dir: Path | None
) -> tuple[Workshop, ClusterConfig]:
    """Return the workshop and the configuration, moved to `provider` where that is given."""
    from daft_launcher.config import load_config

    loaded = load_config(path)
    moved = loaded.on(provider.value if provider else None)
    if dropped := len(loaded.run.setup_commands) - len(moved.run.setup_commands):
        console_of(ctx).note(
            f"left out on this machine: {dropped} setup command(s) written for {loaded.setup.provider}"
        )
    if moved.setup.provider == "local":
        _tell_endless(ctx, loaded)
    return open_workshop(ctx, path, state_dir), moved


def _tell_endless(ctx: typer.Context, config: ClusterConfig) -> None:
    named = [key for key in ("max_lifetime", "idle_timeout") if getattr(config.setup, key)]
    if named:
        console_of(ctx).note(f"left out on this machine, where nothing bills: {', '.join(named)}")


def open_workshop(ctx: typer.Context, config: Path, state_dir: Path | None) -> Workshop:
    """Return what all commands share, with the state directory that belongs to a configuration file."""
    from daft_launcher.reach import USUAL_REACH
    from daft_launcher.state_dir import StateDir
    from daft_launcher.wiring import Workshop

    place = StateDir(state_dir or config.parent / ".daft")
    reach = ctx.find_root().obj or USUAL_REACH
    return Workshop(reporter=console_of(ctx), environ=os.environ, state_dir=place, reach=reach)


def console_of(ctx: typer.Context) -> Console:
    """Return the one console of this run."""
    root = ctx.find_root()
    if _CONSOLE not in root.meta:
        from daft_launcher.console import Console

        root.meta[_CONSOLE] = Console(color=False if root.params.get("no_color") else None)
    console: Console = root.meta[_CONSOLE]
    return console
