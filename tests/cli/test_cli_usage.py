"""The command line itself: what it takes, what it says of a wrong one, and streams that are not there."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version

import jsonschema
import pytest
from clikit import COMMANDS, LOCAL, Desk, Seen, failed

CONFIG = ["-c", "--config"]
KEY = ["-i", "--identity-file"]
PLACE = ["--provider", "--state-dir"]
LOCK = ["--no-wait-lock", "--lock-timeout"]
#: The options of each command.
OPTIONS = {
    "init-config": ["--provider", "--name"],
    "config-schema": [],
    "plan-schema": [],
    "up": [
        *CONFIG,
        *KEY,
        *PLACE,
        "--plan",
        "--out",
        "--from-plan",
        "-y",
        "--yes",
        "--json",
        "--detailed-exitcode",
        "--step-timeout",
        *LOCK,
    ],
    "down": [*CONFIG, *PLACE, "--wait", "-y", "--yes", "--timeout", *LOCK],
    "list": [*PLACE, "--region", "--all-regions", "--profile", "--format", "--json"],
    "render": [*CONFIG, *PLACE, "--out", "--check"],
    "submit": [*CONFIG, *KEY, *PLACE, "-w", "--working-dir", "--env", "--no-wait", "--job-id"],
    "dashboard": [*CONFIG, *KEY, *PLACE, "--port", "--no-open"],
    "jobs": [*CONFIG, *KEY, *PLACE, "--json"],
    "logs": [*CONFIG, *KEY, *PLACE, "--bootstrap"],
    "ssh": [*CONFIG, *KEY, *PLACE],
    "stop-job": [*CONFIG, *KEY, *PLACE],
    "backend": [],
    "backend create": ["-c", "--config", "-y", "--yes"],
}
GLOBAL_OPTIONS = ["--version", "--debug", "--no-color", "--install-completion", "--show-completion"]


def _options_in(text: str) -> set[str]:
    lines = text.partition("\nOptions:\n")[2].partition("\n\n")[0].splitlines()
    return {word for line in lines for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line[:28])}


@pytest.mark.parametrize("command", OPTIONS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_a_command(desk: Desk, command: str, option: str):
    seen = desk.daft(*command.split(), option)
    assert (seen.status, seen.err) == (0, "")
    assert seen.out.startswith(f"Usage: daft {command} [OPTIONS]")
    assert _options_in(seen.out) == {"-h", "--help", *OPTIONS[command]}


def test_plan_schema(desk: Desk):
    seen = desk.daft("plan-schema")
    assert (seen.status, seen.err) == (0, "")
    schema = json.loads(seen.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (schema["title"], schema["additionalProperties"]) == ("daft up --plan --json", False)


def test_help(desk: Desk):
    seen = desk.daft("--help")
    assert (seen.status, seen.err) == (0, "")
    assert _options_in(seen.out) == {"-h", "--help", *GLOBAL_OPTIONS}
    commands = seen.out.partition("\nCommands:\n")[2].splitlines()
    assert sorted(line.split()[0] for line in commands if line.startswith("  ")) == sorted(
        {command.split()[0] for command in OPTIONS}
    )


@pytest.mark.parametrize("command", OPTIONS)
def test_each_option_is_explained(desk: Desk, command: str):
    options = desk.daft(*command.split(), "--help").out.partition("\nOptions:\n")[2]
    for line in re.findall(r"^  -.*", options, re.MULTILINE):
        assert re.match(r"  -\S.*?\s{2,}\S+ \S+", line), line


@pytest.mark.parametrize("name", ["daft", "daft-launcher"])
def test_version(desk: Desk, name: str):
    assert desk.program("--version", name=name) == Seen(0, out=f"daft-launcher {version('daft-launcher')}\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nope"], "No such option: --nope"),
        (["launch"], "No such command 'launch'."),
        (["up", "--nope"], "No such option: --nope"),
        (["down", "--plan"], "No such option: --plan"),
        (["--\x1b[31m"], "No such option: --\\x1b[31m"),
        (["up", "--\u202e"], "No such option: --\\u202e"),
        (["submit"], "Missing option '-w' / '--working-dir'."),
        (["stop-job"], "Missing argument 'SUBMISSION_ID'."),
        (
            ["init-config", "--provider", "gcp"],
            "Invalid value for '--provider': 'gcp' is not one of 'aws', 'local'.",
        ),
        (
            ["list", "--format", "xml"],
            "Invalid value for '--format': 'xml' is not one of 'text', 'table', 'json'.",
        ),
    ],
)
def test_a_wrong_command_line(desk: Desk, args: list[str], message: str):
    desk.write(".daft.toml", LOCAL)
    name = [args[0]] if args[0] in OPTIONS else []
    usage = desk.daft(*name, "--help").out.splitlines()[0]
    with desk.unchanged():
        seen = desk.daft(*args)
    expected = f"{usage}\nTry '{' '.join(['daft', *name])} -h' for help.\n\nError: {message}\n"
    assert (seen.status, seen.out) == (2, "")
    # Versions of Typer differ in these two things.
    assert seen.err.replace("Value error, ", "").lower() == expected.lower()


@pytest.mark.parametrize("args", [["logs"], ["logs", "--bootstrap", "some-job"]])
def test_logs_of_a_job_or_of_the_bootstrap(desk: Desk, args: list[str]):
    desk.write(".daft.toml", LOCAL)
    assert desk.daft(*args) == failed(
        "`daft logs` takes the id of a job, or `--bootstrap`", "`daft jobs` lists the ids", status=2
    )


def test_logs_and_ssh_at_home(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.local_node("head")
    desk.write(".daft/demo.local/run/logs/environment.log", "installed\n")
    desk.write(".daft/demo.local/run/logs/head.log", "Ray runs\n")
    assert desk.daft("logs", "--bootstrap") == Seen(0, out="installed\nRay runs\n")
    assert desk.daft("ssh") == failed(
        "the head of `demo` is this machine", "its Python is .daft/demo.local/run/venv/bin/python", status=2
    )


@pytest.mark.parametrize(
    "args",
    [
        ["dashboard", "--port", "0"],
        ["dashboard", "--port", "65536"],
        ["dashboard", "--port", "http"],
        ["up", "--step-timeout", "0"],
        ["down", "--timeout", "soon"],
    ],
)
def test_a_number_out_of_range(desk: Desk, args: list[str]):
    desk.write(".daft.toml", LOCAL)
    with desk.unchanged():
        seen = desk.daft(*args)
    assert (seen.status, seen.out) == (2, "")
    assert seen.err.startswith(
        f"Usage: daft {args[0]} [OPTIONS]\nTry 'daft {args[0]} -h' for help.\n\n"
        f"Error: Invalid value for '{args[1]}': "
    )
    assert seen.err.count("\n") == 4


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["up", "--json"],
            failed("`--json` and `--detailed-exitcode` go with `daft up --plan`", status=2),
        ),
        (
            ["up", "--detailed-exitcode"],
            failed("`--json` and `--detailed-exitcode` go with `daft up --plan`", status=2),
        ),
        (["up", "--out", "plan"], failed("`--out` goes with `daft up --plan`", status=2)),
        (
            ["up", "--from-plan", "plan", "--out", "plan"],
            failed("`--out` goes with `daft up --plan`", status=2),
        ),
        *(
            (
                ["up", "--from-plan", "plan", "--plan", *more],
                failed(
                    "`--from-plan` applies a plan and `--plan` makes one: leave one of the two out", status=2
                ),
            )
            for more in ([], ["--json"], ["--out", "plan"])
        ),
        *(
            (
                ["up", "--from-plan", "plan", option],
                failed("`--json` and `--detailed-exitcode` go with `daft up --plan`", status=2),
            )
            for option in ("--json", "--detailed-exitcode")
        ),
        (
            ["submit", "-w", "job", "--env", "NAME", "--", "x"],
            failed("`--env NAME` is not of the form NAME=VALUE", status=2),
        ),
        (
            ["submit", "-w", "job", "--env", "GOOD=1", "--env", "2BAD=1", "--", "x"],
            failed("`--env 2BAD=1` is not of the form NAME=VALUE", status=2),
        ),
        (
            ["submit", "-w", "job", "--env", "=x", "--", "x"],
            failed("`--env =x` is not of the form NAME=VALUE", status=2),
        ),
        *(
            (
                ["submit", "-w", "job", "--env", f"A={value}", "--", "x"],
                failed(
                    "the value of `--env A` holds a `$` with a name behind it, in whose place Ray puts a variable "
                    "of the node",
                    "set it in the command, where a shell does as you write: -- sh -c 'export A=…; exec …'",
                    status=2,
                ),
            )
            for value in ("$HOME", "a${HOME}", "pa$$word", "${not there}")
        ),
        *(
            (
                ["submit", "-w", "job", *words],
                failed(f"{what} is not UTF-8, and Ray takes nothing else", status=2),
            )
            for words, what in (
                (["--env", "A=\udcff", "--", "x"], "the value of `--env A`"),
                (["--", "x", "\udcff"], "the command"),
            )
        ),
        (
            ["submit", "-w", "job", "--env", f"A={'é' * 50_001}", "--", "x"],
            failed(
                "the value of `--env A` has 100,002 bytes, and no node takes more than 100,000",
                "put it into a file of the folder that is sent",
                status=2,
            ),
        ),
        *(
            (
                ["submit", "-w", "job", *(word for pair in pairs for word in ("--env", pair)), "--", "x"],
                failed(
                    f"the job's environment has {size} bytes as Ray writes it, and no node takes more than 100,000",
                    "put what is long into a file of the folder that is sent",
                    status=2,
                ),
            )
            for pairs, size in (
                ([f"A={'é' * 40_000}"], "240,009"),
                ([f"A={'x' * 50_000}", f"B={'x' * 50_000}"], "100,018"),
            )
        ),
        *(
            (
                ["list", "--region", region],
                failed(f"`--region {region}` is not the name of a region, like us-west-2", status=2),
            )
            for region in ("mars", "", "us west 2", "us-west-2.evil.example/", "US-WEST-2")
        ),
    ],
)
def test_values_that_do_not_go(desk: Desk, args: list[str], expected: Seen):
    desk.write(".daft.toml", LOCAL)
    desk.write("job/main.py", "")
    with desk.unchanged():
        assert desk.daft(*args) == expected


def test_nothing_at_all_shows_the_help(desk: Desk):
    assert desk.daft().status == 2
    assert desk.daft().err + desk.daft().out == desk.daft("--help").out


def test_debug_shows_the_traceback(desk: Desk):
    seen = desk.program("--debug", "up")
    assert (seen.status, seen.out) == (1, "")
    assert seen.err.startswith("Traceback (most recent call last):\n")
    assert seen.err.endswith("daft_launcher.errors.ConfigError: there is no .daft.toml\n")


@pytest.mark.parametrize(
    "args",
    [
        ["list", "--provider", "local"],
        ["list", "--provider", "local", "--format", "table"],
        ["render", "--check"],
        ["--version"],
    ],
)
def test_a_reader_that_goes_away(desk: Desk, args: list[str]):
    """`daft list | head -0`."""
    desk.write(".daft.toml", LOCAL)
    desk.local_node("head")
    read, write = os.pipe()
    os.close(read)
    try:
        assert desk.program(*args, stdout=write) == Seen(1)
    finally:
        os.close(write)


@pytest.mark.parametrize(
    "args", [["list", "--provider", "local"], ["--version"], ["config-schema"], ["plan-schema"]]
)
def test_no_stdout_at_all(desk: Desk, args: list[str]):
    desk.local_node("head")
    assert desk.program(*args, prefix=("/bin/sh", "-c", 'exec "$@" >&-', "sh")) == Seen(0)


def test_no_stderr_at_all(desk: Desk):
    assert desk.program("up", prefix=("/bin/sh", "-c", 'exec "$@" 2>&-', "sh")) == Seen(2)


def test_a_shadowed_command_says_so(desk: Desk):
    """PyPI's `daft` brings a script of that name, and pip lets the last one win."""
    metadata = desk.write("site/daft-0.7.26.dist-info/METADATA", "Metadata-Version: 2.1\nName: daft\n")
    desk.environ["PYTHONPATH"] = str(metadata.parents[1])
    warning = (
        "warning: in this environment the command `daft` belongs to the package daft: type `daft-launcher`, or "
        "install this program as a tool of its own with `uv tool install daft-launcher`\n"
    )
    args = ["list", "--provider", "local"]
    assert desk.program(*args, name="daft-launcher") == Seen(0, err=f"{warning}no cluster is running\n")
    assert desk.program(*args) == Seen(0, err="no cluster is running\n")


@pytest.mark.parametrize("command", ["up", "submit"])
def test_no_escape_codes_in_a_pipe(desk: Desk, command: str):
    assert desk.program(*COMMANDS[command]) == failed(
        "there is no .daft.toml",
        "write one with `daft init-config`, or name yours with `--config FILE`",
        status=2,
    )
