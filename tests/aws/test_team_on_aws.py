"""One cluster, several people: where its state lies, how it gets there, and who waits for whom."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from awskit import ADDRESSES, NEXT, Project, Seen, answer, created, done, failed, no_changes

pytestmark = pytest.mark.real

BUCKET = "our-states"
KEY = "daft/team/terraform.tfstate"
PLACE = f"s3://{BUCKET}/{KEY}"
MATCHES = "  the head is ready (N s)\nteam is as the configuration says\n"
UP = "team: head i-1 at 1.2.3.4, 2 workers asked for\n"
WHO = "WHO (apply), since THEN"
NOTHING_TO_DO = no_changes("ap-south-1")
REMOVED = done("removed", ADDRESSES)


@dataclass(frozen=True)
class Team:
    """The same `.daft.toml` on three machines, with a bucket that all may use."""

    ann: Project
    bob: Project
    carol: Project


def s3_backend(**more: object) -> dict[str, object]:
    return {"type": "s3", "bucket": BUCKET, **more}


@pytest.fixture(scope="module")
def team(new_project: Callable[..., Project]) -> Team:
    team = Team(*(new_project("team", region="ap-south-1", backend=s3_backend()) for _ in range(3)))
    assert team.ann.daft("backend", "create").status == 0
    return team


@pytest.fixture
def slow_to_start(team: Team) -> Iterator[None]:
    """Let instances take their time to start, and so the Terraform that makes them."""
    team.ann.aws.pending = 30
    yield
    team.ann.aws.pending = 0


def lying_at(project: Project, key: str = KEY) -> dict[str, Any]:
    """Return the state that lies in the bucket."""
    body = project.aws.client("s3", project.region).get_object(Bucket=BUCKET, Key=key)["Body"].read()
    state: dict[str, Any] = json.loads(body)
    return state


def put(project: Project, key: str, document: dict[str, Any]) -> None:
    text = json.dumps(document).encode()
    project.aws.client("s3", project.region).put_object(Bucket=BUCKET, Key=key, Body=text)


def keys(project: Project) -> list[str]:
    found = project.aws.client("s3", project.region).list_objects_v2(Bucket=BUCKET)
    return [one["Key"] for one in found.get("Contents", [])]


def held(state: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return what makes a state the same wherever it lies."""
    return state["lineage"], state["resources"], state["outputs"]


def test_the_second_of_two_waits_and_is_told_for_whom(team: Team, slow_to_start: None) -> None:
    with team.ann.head_says("ready"):
        first = team.ann.start("up")
        first.await_words("created aws_autoscaling_group.workers")
        second = team.bob.start("up")
        at_once = team.carol.daft("up", "--no-wait-lock")
        second.await_words("waiting for")
        assert first.end() == Seen(0, UP, created("the head is ready") + NEXT)
        assert second.end() == Seen(
            0, UP, f"waiting for {WHO} to unlock the state; Ctrl-C gives up\n{MATCHES}"
        )
    root = ".daft/team"
    assert at_once == failed(
        f"Terraform's state {BUCKET}/{KEY} is locked by {WHO}",
        "wait for it to end. Only if its Terraform was killed, break the lock: `daft render && "
        f"terraform -chdir={root} init && terraform -chdir={root} force-unlock ID`",
    )
    assert not (team.carol.root / ".daft").exists()
    assert keys(team.ann) == [KEY]
    assert not list(team.bob.terraform_root.glob("id_ed25519*"))
    assert len(team.ann.nodes("head")) == 1


def test_a_lock_that_nobody_holds_any_more_is_explained_and_not_broken(team: Team) -> None:
    lock = {
        "ID": "b296add7-c154-562a-72b0-bb243c9723fc",
        "Operation": "OperationTypeApply",
        "Who": "eve@laptop",
        "Version": "1.11.4",
        "Created": "2024-02-03T04:05:06.732806445Z",
        "Path": f"{BUCKET}/{KEY}",
    }
    put(team.ann, f"{KEY}.tflock", lock)
    stale = failed(
        f"Terraform's state {BUCKET}/{KEY} is locked by {WHO}",
        "no command takes so long, so that its Terraform was likely killed. If it was: "
        "`terraform -chdir=.daft/team force-unlock ID`",
    )
    assert [team.ann.daft("up"), team.ann.daft("down")] == [stale, stale]
    assert keys(team.ann) == [KEY, f"{KEY}.tflock"]
    seen = team.ann.start("up")
    seen.process.wait()
    command = seen.words().partition("If it was: `")[2].partition("`")[0].split()
    subprocess.run(
        [*command[:-1], "-force", command[-1]], cwd=team.ann.root, env=dict(team.ann.environ), check=True
    )
    assert team.ann.daft("up") == Seen(0, UP, MATCHES)


def test_another_machine_plans_no_change_and_removes_what_it_never_made(team: Team) -> None:
    (team.bob.root / ".daft").rename(team.bob.root.parent / "aside")
    (team.ann.root / ".daft").rename(team.ann.root.parent / "lost")
    seen = team.bob.daft("up", "--plan")
    assert (seen.status, seen.err, seen.out.partition("No changes.")[2]) == (
        0,
        "",
        NOTHING_TO_DO.partition("No changes.")[2],
    )
    assert not (team.bob.root / ".daft").exists()
    restored = f"this machine has no Terraform root of `team`; its state is at {PLACE}\n"
    team.bob.write(number_of_workers=-1)
    assert team.bob.daft("down", "--wait") == Seen(0, "", f"{restored}{REMOVED}team is gone\n")
    team.bob.write(number_of_workers=2)
    assert team.bob.tagged() == []
    gone = Seen(0, "", "there is no cluster team\n")
    assert [team.bob.daft("down"), team.ann.daft("down")] == [gone, gone]
    assert not (team.ann.root / ".daft").exists()


@pytest.fixture(scope="module")
def mover(new_project: Callable[..., Project], team: Team) -> Project:
    """A cluster whose state lies at home, in the region of the bucket."""
    project = new_project("mover", region="ap-south-1")
    assert project.up().status == 0
    return project


MOVED = f"s3://{BUCKET}/daft/mover/terraform.tfstate"
AT_HOME = ".daft/mover/terraform.tfstate"
BACKUP = f"{AT_HOME}.THEN.backup"
MOVER_UP = UP.replace("team", "mover")
MOVER_MATCHES = MATCHES.replace("team", "mover")


def test_a_state_moves_to_the_bucket_after_a_yes(mover: Project) -> None:
    at_home = mover.state()
    before = mover.files()
    mover.keep_state(**s3_backend())
    would = f"`daft up` would move the state from {AT_HOME} to {MOVED}\n"
    assert mover.daft("up", "--plan") == Seen(0, f"would write backend.tf\n{NOTHING_TO_DO}", would)
    assert mover.daft("up") == failed(
        f"the state of `mover` would move from {AT_HOME} to {MOVED}; nothing was changed",
        "agree to it with `daft up --yes`, or put back the [backend] that it had",
    )
    assert {**mover.files(), ".daft.toml": before[".daft.toml"]} == before
    question = f"The state of `mover` moves from {AT_HOME} to {MOVED}. Go on?"
    status, shown = answer(mover, "up", question="[y/N]", reply="y")
    moved = f"moved the state from {AT_HOME} to {MOVED}; {BACKUP} keeps it as it was\n"
    assert status == 0
    said = f"{question} [y/N] y {moved}{MOVER_MATCHES}{MOVER_UP}"
    assert shown.split() == said.split()  # a terminal breaks lines where it ends
    assert held(lying_at(mover, "daft/mover/terraform.tfstate")) == held(at_home)
    states = sorted(path for path in mover.terraform_root.glob("terraform.tfstate*") if path.stat().st_size)
    assert [path.stat().st_mode & 0o777 for path in states] == [0o600] * len(states)
    assert not (mover.root / AT_HOME).exists()
    assert held(json.loads(max(mover.terraform_root.glob("*Z.backup")).read_text())) == held(at_home)
    assert mover.daft("up", "--plan") == Seen(0, NOTHING_TO_DO, "")


def test_a_move_that_was_cut_short_is_finished(mover: Project) -> None:
    before = lying_at(mover, "daft/mover/terraform.tfstate")
    # Terraform had written the state where there was none, with a lineage of its own.
    put(mover, "other.tfstate", {**before, "lineage": "11111111-2222-3333-4444-555555555555", "serial": 1})
    mover.keep_state(**s3_backend(key="other.tfstate"))
    to = f"s3://{BUCKET}/other.tfstate"
    assert mover.daft("up", "--yes") == Seen(
        0,
        MOVER_UP,
        f"moved the state from {MOVED} to {to}; {BACKUP} keeps it as it was\n"
        f"warning: what lies at {MOVED} is out of date from now on: whoever has the old [backend] must take the "
        f"new one\n{MOVER_MATCHES}",
    )
    assert held(lying_at(mover, "other.tfstate")) == held(before)
    # It had moved, and the root did not know: nothing is asked, and what has come since is kept.
    record = mover.terraform_root / ".terraform/terraform.tfstate"
    record.write_text(record.read_text().replace("other.tfstate", "daft/mover/terraform.tfstate"))
    assert mover.daft("up") == Seen(0, MOVER_UP, MOVER_MATCHES)
    assert held(lying_at(mover, "other.tfstate")) == held(before)


def test_a_state_does_not_move_over_another(mover: Project) -> None:
    other = lying_at(mover, "other.tfstate")
    other["outputs"]["cluster"]["value"]["name"] = "finance"
    put(mover, "taken.tfstate", other)
    before = mover.files()
    mover.keep_state(**s3_backend(key="taken.tfstate"))
    refused = failed(
        f"s3://{BUCKET}/taken.tfstate holds the state of cluster `finance` in ap-south-1, and not of `mover` in "
        "ap-south-1",
        "give this cluster a `key` of its own in [backend]",
    )
    assert [mover.daft("up", "--yes"), mover.daft("up", "--plan")] == [refused, refused]
    other["outputs"]["cluster"]["value"]["name"] = "mover"
    put(mover, "taken.tfstate", {**other, "lineage": "another", "resources": other["resources"][1:]})
    assert mover.daft("up", "--yes") == failed(
        f"s3://{BUCKET}/taken.tfstate holds another state than s3://{BUCKET}/other.tfstate, and one of the two "
        "would be lost",
        "give this cluster a `key` of its own in [backend], or put back the [backend] that it had",
    )
    assert {**mover.files(), ".daft.toml": before[".daft.toml"]} == before


def test_a_state_comes_home_and_down_goes_by_where_it_is(mover: Project) -> None:
    before = lying_at(mover, "other.tfstate")
    mover.keep_state(type="local")
    # What is rendered names another place already; the state is still where it was.
    assert mover.daft("render").status == 0
    seen = mover.daft("up", "--yes")
    assert (seen.status, seen.out) == (0, MOVER_UP)
    assert held(mover.state()) == held(before)
    mover.keep_state(**s3_backend(key="never.tfstate"))
    assert mover.daft("render").status == 0
    assert mover.daft("down", "--wait") == Seen(0, "", f"{REMOVED}mover is gone\n")
    assert mover.tagged() == []
    assert "never.tfstate" not in keys(mover)
