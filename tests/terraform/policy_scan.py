"""Scan the rendered roots of all golden cases with checkov, and hold what it finds against checkov.toml.

usage: python -m tests.terraform.policy_scan PYTHON, where PYTHON is one that has checkov
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from daft_launcher.config import load_config
from daft_launcher.render import render_cluster
from daft_launcher.state_dir import write_rendered

ACCEPTED = Path(__file__).with_name("checkov.toml")
GOLDEN = Path(__file__).parents[1] / "golden"
TIMEOUT = 300.0
MARK = "checkov asked for"
# Neither policies, nor modules, nor its maker's platform: who needs the network is refused, and named.
OFFLINE = f"""\
import os, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        os.write(2, f"{MARK} {{arguments!r}}\\n".encode())
        raise PermissionError(event)
sys.addaudithook(refuse)
from checkov.main import Checkov
sys.exit(Checkov().run())
"""
QUIET = {"CKV_SKIP_PACKAGE_UPDATE_CHECK": "true"}
OPTIONS = ["--framework", "terraform", "--output", "json", "--compact", "--soft-fail"]
OPTIONS += ["--skip-download", "--skip-results-upload", "--download-external-modules", "false"]


class Finding(NamedTuple):
    """A check that failed on a resource of the module."""

    check: str
    resource: str


def main(python: str) -> int:
    """Print what was found in one line and every problem in another; return the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cases = render_all(Path(folder))
        report = scan(python, Path(folder))
    accepted = load_accepted(ACCEPTED.read_text(encoding="utf-8"))
    problems = [*missing_roots(report, cases), *judge(report, accepted)]
    counts, version = report["summary"], report["summary"]["checkov_version"]
    print(
        f"checkov {version}: {counts['passed']} passed, {counts['failed']} failed, of which"
        f" {len(failures(report)) - len(unlisted(report, accepted))} are accepted as {len(accepted)} findings,"
        f" {counts['skipped']} skipped, in {len(cases)} roots and {time.monotonic() - began:.0f} s"
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def render_all(folder: Path) -> list[str]:
    """Write the root of each golden case for AWS into a folder of its name, and return the names."""
    cases = []
    for path in sorted(GOLDEN.glob("*/daft.toml")):
        config = load_config(path)
        if config.setup.provider == "aws":
            cases.append(path.parent.name)
            write_rendered(render_cluster(config), folder / path.parent.name)
    return cases


def scan(python: str, folder: Path) -> dict[str, Any]:
    """Return checkov's report on all roots. Fails when it asks for anything of a network, or cannot read a file."""
    done = subprocess.run(
        [python, "-c", OFFLINE, "--directory", folder, *OPTIONS],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LOG_LEVEL": "WARNING", **QUIET},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode or MARK in done.stderr:
        sys.exit(f"checkov ended with {done.returncode}:\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def load_accepted(text: str) -> Mapping[Finding, str]:
    """Return the reason for each finding that may stay."""
    return {
        Finding(entry["check"], entry["resource"]): entry["reason"] for entry in tomli.loads(text)["accepted"]
    }


def judge(report: Mapping[str, Any], accepted: Mapping[Finding, str]) -> Iterator[str]:
    """Yield what is found and not accepted, accepted and not found, or accepted without a reason."""
    for failure in unlisted(report, accepted):
        where = f"{failure['file_path'].lstrip('/')}:{failure['file_line_range'][0]}"
        yield f"{where}: {failure['resource']}: {failure['check_id']}: {failure['check_name']}"
    found = {_finding(failure) for failure in failures(report)}
    for finding, reason in accepted.items():
        if finding not in found:
            yield f"{ACCEPTED.name}: {finding.check} on {finding.resource} is not found any more"
        if not reason.strip():
            yield f"{ACCEPTED.name}: {finding.check} on {finding.resource} has no reason"
    if errors := report["summary"]["parsing_errors"]:
        yield f"checkov could not read {errors} files: {report['results'].get('parsing_errors')}"


def missing_roots(report: Mapping[str, Any], cases: Iterable[str]) -> Iterator[str]:
    """Yield the roots whose module was not evaluated, and which would pass for that."""
    results = report["results"]["passed_checks"] + report["results"]["failed_checks"]
    seen = {
        r["file_path"].split("/")[1] for r in results if r["resource"] == "module.cluster.aws_instance.head"
    }
    for case in cases:
        if case not in seen:
            yield f"{case}: checkov has not seen the head node that this root calls for"


def failures(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each check that failed, once for each root."""
    found: list[dict[str, Any]] = report["results"]["failed_checks"]
    return found


def unlisted(report: Mapping[str, Any], accepted: Mapping[Finding, str]) -> list[dict[str, Any]]:
    """Return those of them that nothing accepts."""
    return [failure for failure in failures(report) if _finding(failure) not in accepted]


def _finding(failure: Mapping[str, Any]) -> Finding:
    return Finding(failure["check_id"], failure["resource"].removeprefix("module.cluster."))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
