"""`daft up` on a cluster that is not, or no longer, as the configuration says."""

from __future__ import annotations

import pytest
from localkit import NEXT, Project, Seen, failed

pytestmark = pytest.mark.real

READY = f"  the head is ready (N s)\n{NEXT}"


def here(workers: int) -> str:
    return f"demo: head demo-head at 127.0.0.1, {workers} workers asked for\n"


def test_a_killed_worker_is_seen_and_comes_back(demo: Project):
    demo.kill("worker-0")
    assert demo.listed() == [
        "Running:",
        "  - demo, head, demo-head, 127.0.0.1",
        "  - demo, worker, demo-worker-1, 127.0.0.1",
        "Terminated:",
        "  - demo, worker, demo-worker-0, 127.0.0.1",
    ]
    before = demo.nodes()
    assert demo.daft("up") == Seen(
        0, here(2), " replace 1 terraform_data\n" + "".join(sorted(_lines(0, stopped=True))) + READY
    )
    after = demo.nodes()
    assert demo.is_up()
    assert {name: node for name, node in after.items() if name != "worker-0"} == {
        name: node for name, node in before.items() if name != "worker-0"
    }


def _lines(*workers: int, stopped: bool) -> list[str]:
    lines = []
    for index in workers:
        lines += [
            f"  created terraform_data.worker[{index}] (N s)\n",
            f"  started: demo-worker-{index} in N s\n",
        ]
        if stopped:
            lines += [f"  removed terraform_data.worker[{index}] (N s)\n", f"  stopped: worker-{index}\n"]
    return lines


def test_a_killed_head_comes_back_with_its_workers_and_nobody_is_asked(demo: Project):
    token = demo.token
    demo.kill("head")
    assert demo.listed()[-2:] == ["Terminated:", "  - demo, head, demo-head, 127.0.0.1"]
    assert demo.daft("submit", "-w", "job") == failed(
        "no head of cluster `demo` is running on this machine (one is terminated)",
        "make it with `daft up`; `daft list` shows what there is",
    )
    assert demo.daft("up") == Seen(
        0,
        here(2),
        " replace 3 terraform_data\n"
        + "".join(sorted(f"  removed terraform_data.worker[{index}] (N s)\n" for index in (0, 1)))
        + "".join(sorted(f"  stopped: worker-{index}\n" for index in (0, 1)))
        + "  stopped: head\n"
        "  removed terraform_data.head (N s)\n"
        "  started: demo-head in N s\n"
        "  created terraform_data.head (N s)\n" + "".join(sorted(_lines(0, 1, stopped=False))) + READY,
    )
    assert demo.is_up()
    assert demo.token == token


def test_workers_come_and_go_and_the_head_stays(demo: Project):
    head = demo.nodes()["head"]
    demo.write(number_of_workers=3)
    assert demo.daft("up", "--plan", "--detailed-exitcode").status == 2
    assert demo.daft("up") == Seen(
        0, here(3), "  create 1 terraform_data\n" + "".join(sorted(_lines(2, stopped=False))) + READY
    )
    assert demo.is_up()
    demo.write(number_of_workers=1)
    assert demo.daft("up") == Seen(
        0,
        here(1),
        "  remove 2 terraform_data\n"
        + "".join(
            sorted(
                line
                for index in (1, 2)
                for line in (
                    f"  removed terraform_data.worker[{index}] (N s)\n",
                    f"  stopped: worker-{index}\n",
                )
            )
        )
        + READY,
    )
    assert demo.is_up()
    assert demo.nodes()["head"] == head


def test_a_saved_plan_is_applied_at_home_once(demo: Project):
    demo.write(number_of_workers=3)
    plan = demo.daft("up", "--plan")
    saved = "saved three.tfplan; apply it with `daft up --from-plan three.tfplan`\n"
    assert demo.daft("up", "--plan", "--out", "three.tfplan") == Seen(0, plan.out, saved)
    assert demo.daft("up", "--from-plan", "three.tfplan") == Seen(
        0, here(3), "  create 1 terraform_data\n" + "".join(sorted(_lines(2, stopped=False))) + READY
    )
    assert demo.is_up()
    again = demo.daft("up", "--from-plan", "three.tfplan")
    assert (again.status, again.out) == (1, "")
    assert again.err.startswith("error: three.tfplan is not applied: the state has moved since, from serial ")


def test_the_head_is_replaced_with_a_yes_only(demo: Project):
    demo.write(number_of_workers=0)
    assert demo.daft("up").status == 0
    nodes = demo.nodes()
    demo.write(dependencies=["packaging"])
    assert demo.daft("up") == failed(
        "the head node would be replaced and its running jobs ended; nothing was changed",
        "agree with `daft up --yes`, or look at it first with `daft up --plan`",
        before=" replace 2 terraform_data\n",
    )
    plan = demo.daft("up", "--plan")
    assert (plan.status, plan.err) == (0, "")
    assert plan.out.endswith(
        "Summary: 0 to add, 0 to change, 2 to replace, 0 to destroy; the head is replaced.\n"
    )
    assert demo.nodes() == nodes
    assert demo.daft("up", "--yes") == Seen(
        0,
        here(0),
        " replace 2 terraform_data\n"
        "  stopped: head\n"
        "  removed terraform_data.head (N s)\n"
        "  removed terraform_data.environment (N s)\n"
        "  creating: a virtual environment with uv\n"
        "  installing: ray[default]>=2.54, daft[ray]>=0.7, packaging\n"
        "  created terraform_data.environment (N s)\n"
        "  started: demo-head in N s\n"
        "  created terraform_data.head (N s)\n" + READY,
    )
    assert demo.nodes()["head"]["pid"] != nodes["head"]["pid"]
