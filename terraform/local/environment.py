"""The virtual environment of a local cluster. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from processes import STEP_MARK, Failure, Json, guarded, locked, say, stop_node, stop_steps

POISON = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}


def child_environment(run: Path, *, bin_dir: str | None = None, **extra: str) -> dict[str, str]:
    """Return our environment with the cluster's Python first and without what would lead a process elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in POISON and not name.startswith(("RAY_", "DAFT_LOCAL_"))
    }
    path = f"{bin_dir or run / 'venv/bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(run / "venv"), **extra}


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, indented."""
    with contextlib.suppress(OSError):
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines()]
        return "\n".join(f"  {line}" for line in lines[-count:] if line)
    return ""


def run_step(
    run: Path, command: list[str], what: str, hint: str = "", *, sources: dict[str, str] | None = None
) -> None:
    """Run one command of the installation, its output in a log. Raises Failure with the log's last lines."""
    log = run / "logs/environment.log"
    with guarded(lambda: stop_steps(run)), log.open("w") as file:
        done = subprocess.run(
            command,
            cwd=run,
            env=child_environment(run, **{STEP_MARK: str(run)}, **(sources or {})),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            check=False,
        )
    if done.returncode != 0:
        raise Failure(f"{what} failed with exit code {done.returncode}:\n{last_lines(log)}\n{hint}".rstrip())


def install(run: Path, spec: Json) -> None:
    """Build the virtual environment anew, with uv where there is one."""
    requirements, python_version = spec["requirements"], spec["python_version"]
    venv = run / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    ours = ".".join(map(str, sys.version_info[:3]))
    if uv is None and python_version and not f"{ours}.".startswith(f"{python_version}."):
        raise Failure(
            f'python_version = "{python_version}" needs uv, because this machine\'s interpreter is {ours}.\n'
            "Install uv (https://docs.astral.sh/uv/), or remove python_version from the configuration."
        )
    say(f"creating: a virtual environment with {'uv' if uv else 'venv and pip'}")
    if uv:
        make = [uv, "venv", "--seed", "--no-project", "--python", python_version or sys.executable, str(venv)]
        fill = [uv, "pip", "install", "--python", str(venv / "bin/python"), "--", *requirements]
    else:
        make = [sys.executable, "-m", "venv", str(venv)]
        fill = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "--", *requirements]
    run_step(
        run,
        make,
        "creating the virtual environment",
        "" if uv else "Debian and Ubuntu: install python3-venv.",
        sources=spec["sources"],
    )
    say(f"installing: {', '.join(requirements)}")
    run_step(
        run,
        fill,
        "installing the dependencies",
        "Check `dependencies`, and that the package index is reachable.",
        sources=spec["sources"],
    )


def make_environment(run: Path, spec: Json) -> None:
    """Install what is required and run the setup commands.

    When only a setup command has failed, the next attempt starts with the setup commands.
    """
    with locked(run, "environment"):
        for folder in run.glob("*/node.json"):
            stop_node(folder.parent)
        stop_steps(run)
        (run / "logs").mkdir(exist_ok=True)
        installed = run / "venv/.daft-installed"
        wanted = json.dumps([spec["requirements"], spec["python_version"], spec["sources"]])
        if not installed.exists() or installed.read_text() != wanted:
            install(run, spec)
            installed.write_text(wanted)
        commands = spec["setup_commands"]
        for number, command in enumerate(commands, 1):
            say(f"setup command {number} of {len(commands)}: {command.splitlines()[0]}")
            run_step(run, ["/bin/sh", "-c", command], f"setup command {number} ({command})")
        installed.unlink()
