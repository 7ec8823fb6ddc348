"""`daft down` on AWS: when it returns, what it leaves, and that it finishes what was begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from awskit import ADDRESSES, NEXT, Project, Seen, created, done, failed, is_free, wait_until

from tests.moto.server import Failure

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Two:
    """Two clusters, made side by side."""

    brief: Project
    lost: Project


@pytest.fixture(scope="module")
def two(new_project: Callable[..., Project]) -> Two:
    two = Two(new_project("brief", region="eu-west-1"), new_project("lost", region="eu-west-2"))
    with two.brief.head_says("ready"), two.lost.head_says("ready"):
        runs = [project.start("up") for project in (two.brief, two.lost)]
        assert [run.end().status for run in runs] == [0, 0]
    return two


@pytest.fixture
def slow_to_end(two: Two) -> Iterator[None]:
    """Let instances take their time to shut down, as they do on AWS."""
    two.brief.aws.shutting_down = 8
    yield
    two.brief.aws.shutting_down = 0


def test_down_goes_on_by_itself_and_up_waits_for_it(two: Two, slow_to_end: None) -> None:
    project = two.brief
    log = ".daft/brief/logs/destroy.jsonl"
    returned = "every instance of brief is shutting down; Terraform removes the rest and writes "
    first_returned, second_returned = f"{returned}PROJECT/{log}\n", f"{returned}{log}\n"
    first = [*project.nodes("head"), *project.nodes("worker")]
    seen = project.daft("down")
    *removed, last = seen.err.splitlines(keepends=True)
    # How much Terraform has removed by then is a matter of luck.
    assert (seen.status, seen.out, last) == (0, "", first_returned)
    assert set(removed) <= set(done("removed", ADDRESSES).splitlines(keepends=True))
    assert {node.state for node in first} == {"shutting-down"}
    assert project.daft("down") == Seen(0, "", second_returned)
    waiting = "waiting for `daft down` of WHO (process N), since THEN; Ctrl-C gives up\n"
    out = "brief: head i-1 at 1.2.3.4, 2 workers asked for\n"
    assert project.up() == Seen(0, out, waiting + created("the head is ready") + NEXT)
    assert {node.state for node in first} == {"terminated"}
    assert "Destroy complete! Resources: " in (project.root / log).read_text()


def test_down_goes_by_what_was_made_and_not_by_a_file_edited_since(two: Two) -> None:
    project = two.brief
    if project.find_head() is None:
        assert project.up().status == 0
    config = project.root / ".daft.toml"
    project.write(instance_type="x9.colossal", number_of_workers=-7, disk_size_gb="plenty")
    config.write_text(config.read_text() + "\n[nonsense]\nkey = 1\n")
    assert project.daft("down", "--wait") == Seen(0, "", done("removed", ADDRESSES) + "brief is gone\n")
    assert project.tagged() == []
    again = Seen(0, "", "there is no cluster brief\n")
    assert [project.daft("down"), project.daft("down", "--wait")] == [again, again]


def test_down_of_a_cluster_that_never_was(new_project: Callable[..., Project]) -> None:
    project = new_project("never", region="eu-west-3")
    nothing = Seen(0, "", "there is no cluster never\n")
    assert [project.daft("down"), project.daft("down", "--wait")] == [nothing, nothing]
    assert (list(project.files()), project.changes_asked()) == ([".daft.toml"], [])


def test_what_cannot_be_removed_is_named_until_it_can(two: Two) -> None:
    project = two.lost
    denied = "You are not authorized to perform this operation."
    refused = Failure("UnauthorizedOperation", denied, 403)
    with project.aws.failing("DeleteSecurityGroup", refused, region=project.region):
        seen = project.daft("down", "--wait")
    left = "left are:\n  security group sg-1 (daft-lost)"
    kept = {"aws_security_group.nodes", "terraform_data.placement"}
    assert seen == failed(
        "Terraform could not destroy:\n  deleting Security Group (sg-1): operation error EC2: DeleteSecurityGroup, "
        f"https response error StatusCode: 403, RequestID: R, api error UnauthorizedOperation: {denied}\n{left}",
        "ask for the permission that the message names; then run `daft down --wait` again",
        before="  aws_security_group.nodes failed after N s\n" + done("removed", set(ADDRESSES) - kept),
    )
    held = Failure("DependencyViolation", "resource sg-1 has a dependent object")
    hint = "run `daft down --wait` again; what Terraform said stands in the `logs` of its root"
    message = f"cluster `lost` could not be removed in time; {left}"
    with project.aws.failing("DeleteSecurityGroup", held, region=project.region):
        assert project.daft("down", "--wait", "--timeout", "12") == failed(message, hint)
    # The Terraform of the `down` before goes on by itself.
    wait_until(lambda: is_free(project.terraform_root / "daft.lock"))
    assert project.tagged() == []
    assert project.daft("down", "--wait") == Seen(0, "", "there is no cluster lost\n")
