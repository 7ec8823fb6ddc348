"""Time 1 and 200 roots, rendered and written in one process; count the lines that another value of one key changes."""

from __future__ import annotations

import argparse
import difflib
import statistics
import tempfile
import time
from pathlib import Path

from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_cluster
from daft_launcher.state_dir import write_rendered

CHANGES: dict[str, object] = {
    "number_of_workers": 5,
    "instance_type": "m7g.xlarge",
    "dependencies": ["pandas>=2", "pyarrow"],
    "disk_size_gb": 200,
    "tags": {"team": "data", "stage": "test"},
}
SETUP: dict[str, object] = {
    "provider": "aws",
    "dependencies": ["pandas>=2"],
    "tags": {"team": "data"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each count")
    options = parser.parse_args()
    for count in (1, 200):
        runs = [render(count) for _ in range(options.runs)]
        rendered, written = (statistics.median(seconds) for seconds in zip(*runs, strict=True))
        print(f"{count:3} roots: rendered in {rendered:.3f} s, written in {written:.3f} s")
    for key, value in CHANGES.items():
        removed, added = changed_lines(cluster(), cluster(**{key: value}))
        print(f"another {key}: {removed} lines less, {added} more")


def render(count: int) -> tuple[float, float]:
    """Return the seconds from as many configurations to their files in memory, and from there to the disk."""
    start = time.perf_counter()
    rendered = [render_cluster(cluster(name=f"c{number}")) for number in range(count)]
    between = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, root in enumerate(rendered):
            write_rendered(root, Path(folder) / f"c{number}")
        return between - start, time.perf_counter() - between


def cluster(**keys: object) -> ClusterConfig:
    return ClusterConfig.model_validate({"setup": {"name": "demo", **SETUP, **keys}})


def changed_lines(before: ClusterConfig, after: ClusterConfig) -> tuple[int, int]:
    """Return how many lines of all generated files are gone, and how many are new."""
    one, two = render_cluster(before).files, render_cluster(after).files
    lines = [
        line[0]
        for name in two
        for line in list(difflib.unified_diff(one[name].splitlines(), two[name].splitlines(), n=0))[2:]
    ]
    return lines.count("-"), lines.count("+")


if __name__ == "__main__":
    main()
