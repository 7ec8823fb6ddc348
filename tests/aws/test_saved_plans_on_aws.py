"""`daft up --plan --out` and `daft up --from-plan` on AWS: applied as saved, or refused with the reason."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awskit import NEXT, OPERATOR, Project, Seen, answer, created, done, no_changes

from daft_launcher.from_plan import KEY_STAYS
from daft_launcher.saved_plan import read_saved_plan
from tests.moto.server import MotoServer

pytestmark = pytest.mark.real

REGION = "eu-central-1"
OUT = "saved: head i-1 at 1.2.3.4, 2 workers asked for\n"
NOTHING = "saved is as the configuration says\n"
SAVED = "saved {0}; apply it with `daft up --from-plan {0}`\n"
READY = "  the head is ready (N s)\n"
SCALED = "  change 1 aws_autoscaling_group\n" + done("changed", ["aws_autoscaling_group.workers"])
PROVIDER = "registry.terraform.io/hashicorp/aws"


@pytest.fixture(scope="module")
def first(new_project: Callable[..., Project]) -> Project:
    """A folder in which a cluster that is not there yet was planned, and the plan saved."""
    project = new_project("saved", region=REGION)
    assert save(project, "first.tfplan").status == 0
    return project


@pytest.fixture(scope="module")
def applied(first: Project) -> Project:
    """The cluster that came of it."""
    with first.head_says("ready"):
        seen = first.daft("up", "--from-plan", "first.tfplan")
    assert seen == Seen(0, OUT, created("the head is ready") + NEXT)
    return first


@pytest.fixture
def cluster(applied: Project) -> Iterator[Project]:
    """That cluster, as the configuration says, with no call on record."""
    applied.aws.requests.clear()
    yield applied
    applied.write(number_of_workers=2, instance_type="m7g.medium")
    if len(applied.nodes("worker")) != 2 or applied.head().instance_type != "m7g.medium":
        assert applied.up("--yes").status == 0


def save(project: Project, name: str, *more: str) -> Seen:
    return project.daft("up", "--plan", "--out", name, *more)


def refused(project: Project, name: str, *, status: int = 1) -> tuple[str, str]:
    """Return why a plan is not applied, after making sure that nothing has changed."""
    before = project.files()
    project.aws.requests.clear()
    seen = project.daft("up", "--from-plan", name)
    assert (project.files(), project.changes_asked()) == (before, [])
    found = re.fullmatch(rf"error: {name} is not applied: (.*)\nhint: (.*)\n", seen.err)
    assert found, seen
    assert (seen.status, seen.out) == (status, "")
    return re.sub(r"serial \d+( to \d+)?", r"serial N", found[1]), found[2]


def again(name: str) -> str:
    return f"make a new one with `daft up --plan --out {name}`"


def elsewhere(project: Project, folder: Path) -> Project:
    """Return the same project on another machine, on which nothing was planned and whose address is another."""
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    other = like(project, **cache)
    other.root = folder / "project"
    shutil.copytree(project.root, other.root, ignore=shutil.ignore_patterns(".daft"))
    return other


def like(project: Project, **environ: str) -> Project:
    """Return the same folder, in which commands run with more in their environment."""
    other = copy.copy(project)
    other.environ = {**project.environ, **environ}
    return other


# a cluster that is not there yet


def test_a_saved_plan_is_the_one_that_is_shown_and_touches_nothing_else(first: Project) -> None:
    before = first.files()
    plain = first.daft("up", "--plan")
    said = f"{KEY_STAYS}\n{SAVED.format('second.tfplan')}"
    assert save(first, "second.tfplan") == Seen(0, plain.out, said)
    document = first.daft("up", "--plan", "--json", "--detailed-exitcode")
    seen = save(first, "second.tfplan", "--json", "--detailed-exitcode")
    assert (seen.status, seen.err) == (2, said)
    assert in_order(seen.out) == in_order(document.out)
    assert sorted(set(first.files()) - set(before)) == ["second.tfplan"]
    assert oct((first.root / "second.tfplan").stat().st_mode) == "0o100600"
    assert not first.terraform_root.exists()
    (first.root / "second.tfplan").unlink()


def test_terraform_reads_a_saved_plan_itself(first: Project) -> None:
    (place,) = (
        folder
        for folder in Path(first.environ["XDG_CACHE_HOME"], "daft-launcher", "plans").iterdir()
        if '"saved"' in (folder / "main.tf").read_text()
    )
    command = ["terraform", "show", "-no-color", str(first.root / "first.tfplan")]
    shown = subprocess.run(command, cwd=place, env=first.environ, capture_output=True, text=True, check=True)
    # `up --plan` shows the start and the hash of user data, which here are thousands of letters.
    parts = re.split(r'"[A-Za-z0-9+/]{1000,}={0,2}"', first.plain(shown.stdout))
    planned = first.daft("up", "--plan").out
    assert (len(parts), [part for part in parts if part not in planned]) == (3, [])


def test_no_secret_is_in_a_saved_plan_but_who_gets_in_is(first: Project) -> None:
    origin = read_saved_plan(first.root / "first.tfplan").origin
    assert origin.own_key
    assert origin.operator["operator_cidrs"] == []
    assert str(origin.operator["ssh_public_key"]).startswith("ssh-ed25519 ")


def test_a_plan_of_another_cluster_is_refused(first: Project) -> None:
    for change, says in (
        ({"name": "other"}, f"`other` on aws in {REGION}"),
        ({"region": "eu-west-3"}, "`saved` on aws in eu-west-3"),
    ):
        other = replace_file(first, **change)
        reason = f"it is a plan of `saved` on aws in {REGION}, and the configuration says {says}"
        assert refused(first, "first.tfplan") == (reason, "name the file of that cluster with `-c`")
        (first.root / ".daft.toml").write_text(other)


def test_a_plan_of_another_configuration_is_refused(first: Project) -> None:
    first.write(number_of_workers=9)
    reason = "the configuration has changed since, in main.tf"
    assert refused(first, "first.tfplan") == (reason, again("first.tfplan"))
    first.write(number_of_workers=None)
    first_file = (first.root / ".daft.toml").read_text()
    (first.root / ".daft.toml").write_text(f'{first_file}\n[backend]\ntype = "local"\npath = "x.tfstate"\n')
    reason = "the configuration has changed since, in backend.tf"
    assert refused(first, "first.tfplan") == (reason, again("first.tfplan"))
    first.write()


def test_a_plan_of_another_account_is_refused(first: Project, aws: MotoServer) -> None:
    role = {"RoleArn": "arn:aws:iam::999999999999:role/prod", "RoleSessionName": "ann"}
    keys = aws.client("sts").assume_role(**role)["Credentials"]
    names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey"}
    names["AWS_SESSION_TOKEN"] = "SessionToken"
    other = like(first, **{name: keys[key] for name, key in names.items()})
    assert refused(other, "first.tfplan") == (
        "it was made for AWS account 123456789012, and this is AWS account 999999999999",
        f"apply it for AWS account 123456789012, or {again('first.tfplan')}",
    )


def test_a_plan_of_another_terraform_is_refused(first: Project, tmp_path: Path) -> None:
    newer = tmp_path / "terraform"
    newer.write_text('#!/bin/sh\necho \'{"terraform_version": "1.12.2"}\'\n')
    newer.chmod(0o755)
    other = like(first, DAFT_TERRAFORM=str(newer))
    ours = read_saved_plan(first.root / "first.tfplan").origin.terraform
    assert refused(other, "first.tfplan") == (
        f"{ours} made it, and this is Terraform 1.12.2",
        f"let DAFT_TERRAFORM name {ours}, or {again('first.tfplan')}",
    )


def test_a_plan_whose_key_lies_on_another_machine_is_refused(first: Project, tmp_path: Path) -> None:
    assert refused(elsewhere(first, tmp_path), "first.tfplan") == (
        "the SSH key that it lets in was made for it, and lies where it was made; nobody here could log in",
        "apply it there, or plan with `-i KEY` or with `ssh_key_name` under `[aws]`, which all machines know",
    )


def test_a_plan_that_was_cut_short_is_refused(first: Project) -> None:
    short = first.root / "short.tfplan"
    short.write_bytes((first.root / "first.tfplan").read_bytes()[:-100])
    assert first.daft("up", "--from-plan", "short.tfplan") == Seen(
        1,
        "",
        "error: short.tfplan is cut short or damaged\n"
        "hint: copy it again, or make a new one with `daft up --plan --out short.tfplan`\n",
    )
    short.unlink()


# and is there then


def test_the_key_that_was_planned_with_opens_the_head(applied: Project) -> None:
    key = applied.terraform_root / "id_ed25519"
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True)
    ec2, name = applied.aws.client("ec2", REGION), "daft-saved"
    (pair,) = ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
    assert pair["PublicKey"].split()[:2] == public.stdout.split()[:2]
    assert applied.head().key_name == name


def test_a_plan_is_applied_once(applied: Project) -> None:
    reason = "there was no state when it was made, and now there is one, at serial N"
    assert refused(applied, "first.tfplan") == (reason, again("first.tfplan"))


def test_a_plan_of_no_change_is_saved_and_says_that_it_does_nothing(cluster: Project) -> None:
    assert save(cluster, "none.tfplan") == Seen(0, no_changes(REGION), SAVED.format("none.tfplan"))
    before = cluster.files()
    nothing = Seen(0, OUT, READY + NOTHING)
    assert [cluster.daft("up", "--from-plan", "none.tfplan") for _ in range(2)] == [nothing] * 2
    assert (cluster.files(), cluster.changes_asked()) == (before, [])


def test_a_plan_is_stale_when_somebody_was_quicker(cluster: Project) -> None:
    cluster.write(number_of_workers=3)
    assert save(cluster, "three.tfplan").status == 0
    assert cluster.daft("up").status == 0
    reason = "the state has moved since, from serial N"
    assert refused(cluster, "three.tfplan") == (reason, again("three.tfplan"))


def test_a_plan_without_its_state_is_refused(cluster: Project) -> None:
    cluster.write(number_of_workers=4)
    assert save(cluster, "four.tfplan").status == 0
    state = cluster.terraform_root / "terraform.tfstate"
    kept = state.read_text()
    state.unlink()
    reason = "it was made on serial N of a state that is not here"
    assert refused(cluster, "four.tfplan") == (reason, again("four.tfplan"))
    state.write_text(json.dumps({**json.loads(kept), "lineage": "another"}))
    reason = "it was made on the state of another cluster of that name"
    assert refused(cluster, "four.tfplan") == (reason, again("four.tfplan"))
    state.write_text(kept)
    assert cluster.daft("up", "--from-plan", "four.tfplan").status == 0


def test_a_plan_with_another_provider_is_refused(cluster: Project) -> None:
    assert save(cluster, "lock.tfplan").status == 0
    lock = cluster.terraform_root / ".terraform.lock.hcl"
    kept = lock.read_text()
    lock.write_text(re.sub(r'(version +=) "[0-9.]+"', r'\1 "5.999.0"', kept))
    planned = re.search(r'version += "([0-9.]+)"', kept)
    assert planned
    assert refused(cluster, "lock.tfplan") == (
        f".daft/saved/.terraform.lock.hcl selects {PROVIDER} 5.999.0, and it was made with {planned[1]}",
        again("lock.tfplan"),
    )
    lock.write_text(kept)


def test_a_saved_plan_that_replaces_the_head_asks_for_a_yes(cluster: Project) -> None:
    head = cluster.head()
    cluster.write(instance_type="m7g.large")
    assert save(cluster, "large.tfplan").status == 0
    before = cluster.files()
    seen = cluster.daft("up", "--from-plan", "large.tfplan")
    *planned, error, hint = seen.err.splitlines()
    assert (seen.status, error, hint) == (
        1,
        "error: the head node would be replaced and its running jobs ended; nothing was changed",
        "hint: agree with `daft up --from-plan large.tfplan --yes`, or look at it first with `daft up --plan`",
    )
    assert " replace 1 aws_instance" in planned
    assert (cluster.files(), cluster.head().id, cluster.changes_asked()) == (before, head.id, [])
    with cluster.head_says("ready"):
        status, shown = answer(cluster, "up", "--from-plan", "large.tfplan", question="Go on?", reply="y")
    assert (status, shown.endswith(f"{READY}{OUT}{NEXT}")) == (0, True)
    assert (head.state, cluster.head().instance_type) == ("terminated", "m7g.large")
    cluster.write(instance_type="m7g.medium")
    assert save(cluster, "medium.tfplan").status == 0
    with cluster.head_says("ready"):
        assert cluster.daft("up", "--from-plan", "medium.tfplan", "--yes").status == 0
    assert cluster.head().instance_type == "m7g.medium"


def test_a_plan_on_a_state_at_another_path_is_applied_there(
    new_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = new_project("placed", region="eu-north-1")
    written = (project.root / ".daft.toml").read_text()
    (project.root / ".daft.toml").write_text(f'{written}[backend]\ntype = "local"\npath = "../p.tfstate"\n')
    for workers, note, did in (
        (1, f"{KEY_STAYS}\n", created("the head is ready")),
        (2, "", f"{SCALED}{READY}"),
    ):
        text = (project.root / ".daft.toml").read_text()
        lines = re.sub(r"number_of_workers = \d\n", "", text)
        lines = lines.replace("[setup]\n", f"[setup]\nnumber_of_workers = {workers}\n")
        (project.root / ".daft.toml").write_text(lines)
        # With a cache of its own each time: the second is planned where there was a state from the start.
        planner = like(project, XDG_CACHE_HOME=str(tmp_path / str(workers)))
        assert save(planner, "placed.tfplan") == Seen(
            0, planner.daft("up", "--plan").out, note + SAVED.format("placed.tfplan")
        )
        with planner.head_says("ready"):
            seen = planner.daft("up", "--from-plan", "placed.tfplan")
        assert seen == Seen(0, f"placed: head i-1 at 1.2.3.4, {workers} workers asked for\n", did + NEXT)
    assert (project.root / ".daft" / "p.tfstate").exists()
    assert not (project.terraform_root / "terraform.tfstate").exists()


# one job plans, another applies


def test_a_pipeline_hands_one_file_from_the_job_that_plans_to_the_job_that_applies(
    new_project: Callable[..., Project], aws: MotoServer, tmp_path: Path
) -> None:
    access = {"ssh_allowed_cidrs": [f"{OPERATOR}/32"], "ssh_key_name": "team"}
    aws.client("ec2", "eu-west-3").create_key_pair(KeyName="team")
    planner = new_project("handed", region="eu-west-3", access=access)
    with (planner.root / ".daft.toml").open("a") as file:
        file.write('[backend]\ntype = "s3"\nbucket = "states"\n')
    assert planner.daft("backend", "create").status == 0
    for number, expected in ((2, created("the head is ready")), (3, f"{SCALED}{READY}")):
        text = (planner.root / ".daft.toml").read_text()
        lines = re.sub(r"number_of_workers = \d\n", "", text)
        (planner.root / ".daft.toml").write_text(
            lines.replace("[setup]\n", f"[setup]\nnumber_of_workers = {number}\n")
        )
        assert save(planner, "handed.tfplan").status == 0
        applier = elsewhere(planner, tmp_path / str(number))
        with applier.head_says("ready"):
            seen = applier.daft("up", "--from-plan", "handed.tfplan")
        expected = expected.replace("  create 1 aws_key_pair\n", "").replace(
            "  created aws_key_pair.cluster[0] (N s)\n", ""
        )
        assert seen == Seen(0, f"handed: head i-1 at 1.2.3.4, {number} workers asked for\n", expected + NEXT)
    reason = "the state has moved since, from serial N"
    assert refused(planner, "handed.tfplan") == (reason, again("handed.tfplan"))
    assert "No changes." in planner.daft("up", "--plan").out


def in_order(text: str) -> dict[str, object]:
    """Return a plan's JSON with its changes sorted: Terraform says them as it comes to them."""
    document = json.loads(text)
    return {**document, "changes": sorted(document["changes"], key=lambda change: change["address"])}


def replace_file(project: Project, **setup: str) -> str:
    """Write other values of [setup] into the file for once, and return what it held."""
    before = (project.root / ".daft.toml").read_text()
    text = before
    for key, value in setup.items():
        text = re.sub(rf"^{key} = .*$", f'{key} = "{value}"', text, flags=re.MULTILINE)
    (project.root / ".daft.toml").write_text(text)
    return before
