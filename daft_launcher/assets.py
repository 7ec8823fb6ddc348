"""Where the files lie that ship with the program, in an installed wheel and in a checkout alike."""

from __future__ import annotations

from pathlib import Path

from daft_launcher.errors import DaftLauncherError


def find_asset(name: str) -> Path:
    """Return the folder `templates` or `terraform/<provider>`.

    Raises DaftLauncherError when the installation is broken.
    """
    package = Path(__file__).parent
    for parent in (package, package.parent):
        if (parent / name).is_dir():
            return parent / name
    raise DaftLauncherError(
        f"this installation of daft-launcher is broken: `{name}` is missing beside {package}",
        hint="reinstall it, for example with `uv tool install --reinstall daft-launcher`",
    )


def plan_schema_text() -> str:
    """Return the JSON Schema of `daft up --plan --json` as it ships."""
    return (find_asset("templates") / "plan-schema.json").read_text(encoding="utf-8")
