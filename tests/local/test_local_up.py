"""`daft up` and what a user sees of the cluster that it made."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from localkit import NEXT, Project, Seen, ask, processes_of

pytestmark = pytest.mark.real

HERE = "demo: head demo-head at 127.0.0.1, 2 workers asked for\n"


def test_up_shows_what_it_will_do_what_it_does_and_what_to_type_next(first_up: tuple[Project, Seen]):
    assert first_up[1] == Seen(
        0,
        HERE,
        "  create 5 terraform_data\n"
        "  created terraform_data.run (N s)\n"
        "  creating: a virtual environment with uv\n"
        "  installing: ray[default]>=2.54, daft[ray]>=0.7\n"
        "  created terraform_data.environment (N s)\n"
        "  started: demo-head in N s\n"
        "  created terraform_data.head (N s)\n"
        "  created terraform_data.worker[0] (N s)\n"
        "  created terraform_data.worker[1] (N s)\n"
        "  started: demo-worker-0 in N s\n"
        "  started: demo-worker-1 in N s\n"
        "  the head is ready (N s)\n" + NEXT,
    )


def test_up_again_has_nothing_to_do(demo: Project):
    nodes = demo.nodes()
    assert demo.daft("up") == Seen(0, HERE, "  the head is ready (N s)\ndemo is as the configuration says\n")
    assert demo.nodes() == nodes


def test_plan_has_nothing_to_do_and_touches_nothing(demo: Project):
    def files() -> dict[str, int]:
        state_dir = demo.root / ".daft"
        return {
            str(path.relative_to(state_dir)): path.stat().st_mtime_ns
            for path in state_dir.rglob("*")
            if "run" not in path.relative_to(state_dir).parts
        }

    before, nodes = files(), demo.nodes()
    assert demo.daft("up", "--plan") == Seen(
        0,
        "No changes. Your infrastructure matches the configuration.\n\n"
        "Summary: 0 to add, 0 to change, 0 to replace, 0 to destroy; the head is kept.\n",
    )
    plan = demo.daft("up", "--plan", "--detailed-exitcode", "--json")
    assert (plan.status, json.loads(plan.out)["price"]) == (0, None)
    assert (files(), demo.nodes()) == (before, nodes)


def test_list_in_all_forms(demo: Project):
    assert demo.listed() == [
        "Running:",
        "  - demo, head, demo-head, 127.0.0.1",
        "  - demo, worker, demo-worker-0, 127.0.0.1",
        "  - demo, worker, demo-worker-1, 127.0.0.1",
    ]
    table = demo.daft("list", "--provider", "local", "--format", "table")
    rows = [line.split() for line in table.out.splitlines()]
    assert (table.status, table.err) == (0, "")
    assert [rows[0], rows[1][:8], *sorted(row[:8] for row in rows[2:])] == [
        ["CLUSTER", "ROLE", "STATE", "STATUS", "INSTANCE", "ADDRESS", "TYPE", "ZONE", "AGE"],
        ["demo", "head", "Running", "ready", "demo-head", "127.0.0.1", "-", "local"],
        ["demo", "worker", "Running", "ready", "demo-worker-0", "127.0.0.1", "-", "local"],
        ["demo", "worker", "Running", "ready", "demo-worker-1", "127.0.0.1", "-", "local"],
    ]
    document = demo.daft("list", "--provider", "local", "--json")
    nodes = json.loads(document.out)
    assert (document.status, document.err) == (0, "")
    assert nodes[0] == {
        "cluster": "demo",
        "role": "head",
        "instance_id": "demo-head",
        "state": "Running",
        "provider": "local",
        "region": "local",
        "address": "127.0.0.1",
        "private_address": "127.0.0.1",
        "instance_type": None,
        "zone": None,
        "launched_at": "TIME",
        "status": "ready",
        "detail": None,
        "ends_at": None,
    }
    assert sorted(node["instance_id"] for node in nodes) == ["demo-head", "demo-worker-0", "demo-worker-1"]


def test_list_of_a_cluster_that_is_not_there(demo: Project):
    assert demo.daft("list", "other", "--provider", "local") == Seen(0, "", "there is no cluster other\n")


def test_ray_wants_the_token(demo: Project):
    port = demo.nodes()["head"]["ports"]["dashboard"]
    assert ask(port, "/api/version")[0] == 401
    assert ask(port, "/api/version", "0" * 64)[0] == 403
    status, body = ask(port, "/api/version", demo.token)
    assert (status, json.loads(body)["version"]) == (200, "4")


def test_the_token_is_in_its_file_alone(demo: Project):
    """Not in what any process of the cluster was started with, its jobs included, and not in what Terraform writes."""
    run = demo.terraform_root() / "run"
    assert stat.S_IMODE((run / "token").stat().st_mode) == 0o600
    folders = [run, *(Path(node["temp_dir"]) for node in demo.nodes().values())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    job = demo.start("submit", "-w", "job", "--", "python", "slow.py")
    job.await_words("line 1")
    started_with = processes_of(demo)
    assert any("slow.py" in words for words in started_with.values())
    assert len(started_with) > 20
    assert [words for words in started_with.values() if demo.token in words] == []
    # Nor does Daft tell anybody of a job.
    drivers = [words for words in started_with.values() if "slow.py" in words]
    assert [words for words in drivers if "DAFT_ANALYTICS_ENABLED=0" not in words] == []
    assert job.interrupt().status == 130
    assert demo.daft("stop-job", job.out.split()[0]).status == 0
    written = [
        *demo.terraform_root().rglob("*"),
        *demo.root.parent.glob("*.output/*"),
        *(path for node in demo.nodes().values() for path in Path(node["temp_dir"], "ray").rglob("*")),
    ]
    found = [
        path
        for path in written
        if path.is_file() and "venv" not in path.parts and demo.token.encode() in path.read_bytes()
    ]
    # `daft dashboard` shows it, for the user to paste.
    assert [path for path in found if "paste this one" not in path.read_text()] == [run / "token"]
