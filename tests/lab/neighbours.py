"""Two clusters beside the shared one, of a head each, on machines with no way to a package index of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.exits import OnlyWayOut, Proxy, WheelPage
from tests.lab.lab import Lab, Project, Seen


@dataclass(frozen=True)
class Neighbour:
    """A cluster that is up, what `daft up` said, and what its head asked of its way out."""

    project: Project
    came_up: Seen
    way: Proxy | WheelPage
    out: OnlyWayOut


@dataclass(frozen=True)
class Neighbours:
    """`proxied` reaches AWS and packages through a proxy; `offline` reaches AWS, and a page of wheels.

    `remove` may be called before the end, and again at it.
    """

    proxied: Neighbour
    offline: Neighbour
    remove: Callable[[], None]


@contextlib.contextmanager
def neighbours(lab: Lab, packages: Path, new_project: Callable[..., Project]) -> Iterator[Neighbours]:
    """Bring both up side by side, and remove them at the end."""
    with Proxy() as proxy, WheelPage(packages) as page, contextlib.ExitStack() as closing:
        setup = {"number_of_workers": 0}
        tunnel = f"curl --silent --show-error --fail --proxytunnel {lab.packages.checkip_url}"
        proxied = new_project(
            "proxied", setup={**setup, "proxy": proxy.url}, run={"setup_commands": [tunnel]}
        )
        offline = new_project("offline", setup={**setup, "package_index": None, "find_links": page.url})
        closing.callback(_remove, (proxied, offline))
        ups = [project.start("up") for project in (proxied, offline)]
        for up in ups:
            closing.callback(up.kill)
        # A machine takes some seconds to boot, and says nothing before.
        outs = [
            closing.enter_context(OnlyWayOut(proxied.head(), proxy.url)),
            closing.enter_context(OnlyWayOut(offline.head(), page.url, lab.cloud.url)),
        ]
        seen = [up.end(timeout=600) for up in ups]
        assert [one.status for one in seen] == [0, 0], f"{seen}\n{lab.logs()}"
        yield Neighbours(
            Neighbour(proxied, seen[0], proxy, outs[0]),
            Neighbour(offline, seen[1], page, outs[1]),
            closing.close,
        )


def _remove(projects: Iterable[Project]) -> None:
    downs = [(project, project.start("down", "--wait")) for project in projects]
    for project, down in downs:
        seen = down.end()
        assert seen.status == 0, seen
        assert project.lab.cloud.tagged(project.name) == []
