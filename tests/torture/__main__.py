"""`make torture`: fail every call to AWS, and see that nothing is lost. `--help` says how to run a part of it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.moto.server import MotoServer
from tests.provider_mirror import find_mirror, link_mirror
from tests.torture import report
from tests.torture.cases import Trial, enumerate_cases, sample
from tests.torture.disk import enumerate_full
from tests.torture.kills import enumerate_kills
from tests.torture.life import Outcome, SharedLife
from tests.torture.sweep import Sweep
from tests.torture.world import World

_Some = TypeVar("_Some", bound=Trial)


PARTS = ("faults", "shared", "kills", "disks")


def main() -> None:
    options = parse()
    # Started in a script's background, all that it starts would ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    mirror = find_mirror(os.environ)
    with (
        tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryDirectory() as scripts,
        MotoServer() as aws,
        World(aws, Path(place), plugin_dir=mirror and link_mirror(mirror, Path(scripts))) as world,
    ):
        sweep = Sweep(world, jobs=options.jobs, tell=say)
        trials, run = prepare(sweep, options)
        say(f"{len(trials)} cases")
        if options.list:
            say("\n".join(trial.name for trial in trials))
            return
        outcomes = run()
    found = {"minutes": round((time.monotonic() - begun) / 60, 1), "orphans": sweep.orphans}
    report.write(options.report, {**found, "lives": sweep.lives, "outcomes": report.document(outcomes)})
    missing = [trial.name for trial in trials if trial not in {one.case for one in outcomes}]
    say("\n".join([*report.failures(outcomes), *(f"{name} was not reached" for name in missing)]))
    say(report.table(outcomes))
    say(
        f"{len(sweep.lives)} lives, {found['minutes']} minutes, {len(sweep.orphans)} orphans: {options.report}"
    )
    sys.exit(bool(sweep.orphans or missing) or not all(one.held for one in outcomes))


def prepare(sweep: Sweep, options: argparse.Namespace) -> tuple[list[Trial], Callable[[], list[Outcome]]]:
    """Record what is to be recorded, and return what is asked for with what runs it."""
    moments = sweep.record_moments() if {"kills", "disks"} & set(options.part) else {}
    own = choose(enumerate_cases(sweep.record()), options) if "faults" in options.part else []
    # With a state in a bucket, what is asked of S3 comes to what is asked otherwise.
    of_s3 = enumerate_cases(sweep.record(SharedLife)) if "shared" in options.part else []
    shared = choose([case for case in of_s3 if case.call.service == "s3"], options)
    kills = choose(enumerate_kills(moments), options) if "kills" in options.part else []
    disks = choose(enumerate_full(moments), options) if "disks" in options.part else []
    return (
        [*own, *shared, *kills, *disks],
        lambda: [
            *sweep.run(own),
            *sweep.run(shared, SharedLife),
            *sweep.run_kills(kills),
            *sweep.run_full(disks),
        ],
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture TORTURE=…", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", default="", help="the cases whose names match")
    parser.add_argument("--sample", metavar="N", type=int, help="so many cases, spread evenly over all")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS, help="default: all")
    parser.add_argument("--jobs", metavar="N", type=int, default=5, help="lives side by side (default: 5)")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument(
        "--report", metavar="FILE", type=Path, default=Path("torture.json"), help="default: torture.json"
    )
    return parser.parse_args()


def choose(cases: list[_Some], options: argparse.Namespace) -> list[_Some]:
    """Return the cases that are asked for."""
    chosen = [case for case in cases if re.search(options.only, case.name)]
    return sample(chosen, options.sample) if options.sample else chosen


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
