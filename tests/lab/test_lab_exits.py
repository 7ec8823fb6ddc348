"""Clusters that reach no package index: by a proxy alone, and by a page of wheels alone.

The last of the tests with these two, because it takes them down.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.neighbours import Neighbours

JOB = """\
import os
import daft
print(os.environ.get("https_proxy"), daft.from_pydict({"x": [1, 2]}).sum("x").to_pydict())
"""


def test_head_behind_a_proxy_installs_and_reports_through_it(lab: Lab, beside: Neighbours) -> None:
    proxied = beside.proxied
    head = proxied.project.head()
    asked = [request for _, request in proxied.way.asked]

    # Not one packet tried another way: what came, came through the proxy, but for the metadata.
    assert proxied.out.refused == 0
    assert {address for address, _ in proxied.way.asked} == {head.facts.private}
    assert "169.254.169.254" not in str(asked)

    statuses = re.findall("^daft: status (.*)", head.log(), re.MULTILINE)
    assert "daft: retrying" not in head.log()
    assert "daft: cannot tag" not in head.log()
    aws = f"POST {lab.cloud.url}/"
    # One for each step and one that writes the secret; how often the watch has asked by then is a matter of time.
    assert asked.count(aws) > len(statuses) + 1
    assert (asked[0], statuses[0], statuses[-1]) == (aws, "booting: instance is up", "ready: Ray answers")
    assert "  the head is ready: Ray answers (" in proxied.came_up.err

    origin = lab.packages.origin
    for wheel in ("uv-", "ray-", "daft-"):
        assert [r for r in asked if r.startswith(f"GET {origin}/{wheel}")], wheel


def test_head_with_a_page_of_wheels_alone_takes_nothing_from_elsewhere(beside: Neighbours) -> None:
    offline = beside.offline
    head = offline.project.head()
    asked = [request for _, request in offline.way.asked]

    assert offline.out.refused == 0
    assert {address for address, _ in offline.way.asked} == {head.facts.private}
    assert asked[0] == "GET /"
    for wheel in ("uv-", "ray-", "daft-"):
        assert [request for request in asked if request.startswith(f"GET /{wheel}")], wheel
    assert "ready: Ray answers" in head.log()
    assert "  the head is ready: Ray answers (" in offline.came_up.err


def test_both_take_jobs(beside: Neighbours, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(JOB)
    for neighbour, proxy in ((beside.proxied, beside.proxied.way.url), (beside.offline, None)):
        seen = neighbour.project.daft("submit", "-w", str(tmp_path), "--job-id", "look")
        assert (seen.status, seen.out, seen.err) == (0, f"look\n{proxy} {{'x': [3]}}\n", ""), seen


def test_ray_tells_nobody_of_the_cluster(lab: Lab, beside: Neighbours) -> None:
    """What is tunnelled is asked for by the setup command, or by Daft in the job; Ray sends no statistics."""
    tunnels = [request for _, request in beside.proxied.way.asked if request.startswith("CONNECT ")]
    assert tunnels.count(f"CONNECT {lab.packages.origin.removeprefix('http://')}") == 1
    assert [tunnel for tunnel in tunnels if "ray.io" in tunnel] == []


def test_down_leaves_nothing_of_them(lab: Lab, beside: Neighbours) -> None:
    heads = [neighbour.project.head() for neighbour in (beside.proxied, beside.offline)]
    beside.remove()
    assert lab.cloud.tagged("proxied") + lab.cloud.tagged("offline") == []
    assert [head for head in heads if head.on] == []
