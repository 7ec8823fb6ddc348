"""`up --plan --out` and `up --from-plan` with files in the way, files that are no plans, and a real plan at home."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile

import pytest
from clikit import LOCAL, Desk, failed, full_disk

MAKE = "make one with `daft up --plan --out FILE`"
ANOTHER = "name another file with `--out`"
EXPOSED = "warning: {} holds sensitive values in clear, and git does not ignore it: add it to .gitignore\n"
SUMMARY = "Summary: 5 to add, 0 to change, 0 to replace, 0 to destroy; the head is created.\n"


def saved(path: str, *, more: str = "") -> str:
    return f"saved {path}; apply it with `daft up --from-plan {path}`\n{more}"


def test_a_file_that_is_no_plan_is_not_applied(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    desk.write("letter", "Dear Ann")
    (desk.project / "folder").mkdir()
    with zipfile.ZipFile(desk.project / "terraforms", "w") as plan:
        plan.writestr("tfplan", "a plan")
    with desk.unchanged():
        seen = [desk.daft("up", "--from-plan", name) for name in ("none", "folder", "letter", "terraforms")]
    again = "make it with `daft up --plan --out FILE`"
    assert seen == [
        failed("none cannot be read: No such file or directory", again),
        failed("folder cannot be read: Is a directory", again),
        failed("letter is not a saved plan", MAKE),
        failed(
            "terraforms is a plan of Terraform's own, which `daft up` did not save",
            f"apply it with `terraform apply`, or {MAKE}",
        ),
    ]


@pytest.mark.parametrize("name", ["letter", "folder"])
def test_out_never_writes_over_a_file_of_somebody_else(desk: Desk, name: str):
    desk.write(".daft.toml", LOCAL)
    desk.write("letter", "Dear Ann")
    (desk.project / "folder").mkdir()
    with desk.unchanged():
        assert desk.daft("up", "--plan", "--out", name) == failed(
            f"{name} is in the way: it is no saved plan, and is never overwritten",
            f"move it away, or {ANOTHER}",
        )


def test_out_in_a_folder_that_is_not_there(desk: Desk):
    desk.write(".daft.toml", LOCAL)
    with desk.unchanged():
        assert desk.daft("up", "--plan", "--out", "plans/demo.tfplan") == failed(
            "plans/demo.tfplan cannot be written: there is no folder plans"
        )


@pytest.mark.real
def test_a_full_disk_keeps_no_half_of_a_plan(terraform_desk: Desk):
    terraform_desk.write(".daft.toml", LOCAL)
    disk = full_disk(terraform_desk, kib=4)
    seen = disk.run("up", "--plan", "--out", f"{terraform_desk.root}/disk/demo.tfplan")
    assert (seen, disk.left) == (
        failed(f"DESK/disk/demo.tfplan cannot be written: {disk.error}", ANOTHER),
        ["./full"],
    )


@pytest.mark.real
def test_git_is_asked_whether_it_would_take_the_plan_in(terraform_desk: Desk):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)

    def save(path: str) -> tuple[int, bool, str]:
        seen = desk.daft("up", "--plan", "--out", path)
        return seen.status, seen.out.endswith(SUMMARY), seen.err

    assert save("a.tfplan") == (0, True, saved("a.tfplan"))  # there is no git on PATH
    git = shutil.which("git")
    assert git, "this test needs git"
    (desk.bin / "git").symlink_to(git)
    assert save("a.tfplan") == (0, True, saved("a.tfplan"))  # and no working tree
    subprocess.run([git, "init", "--quiet", str(desk.project)], check=True)
    assert save("a.tfplan") == (0, True, saved("a.tfplan", more=EXPOSED.format("a.tfplan")))
    desk.write(".gitignore", "*.tfplan\n")
    assert save("a.tfplan") == (0, True, saved("a.tfplan"))
    assert save("b.plan") == (0, True, saved("b.plan", more=EXPOSED.format("b.plan")))
    desk.daft("render")
    assert save(".daft/demo.local/b.tfplan") == (0, True, saved(".daft/demo.local/b.tfplan"))


@pytest.mark.real
def test_a_plan_at_home_is_saved_beside_its_document_and_refused_when_it_is_stale(terraform_desk: Desk):
    desk = terraform_desk
    desk.write(".daft.toml", LOCAL)
    plan = desk.daft("up", "--plan", "--json")
    with_out = desk.daft("up", "--plan", "--json", "--detailed-exitcode", "--out", "demo.tfplan")
    assert (with_out.status, with_out.err) == (2, saved("demo.tfplan"))
    assert _in_order(with_out.out) == _in_order(plan.out)
    assert oct((desk.project / "demo.tfplan").stat().st_mode) == "0o100600"
    desk.write(".daft.toml", LOCAL + "number_of_workers = 1\n")
    with desk.unchanged():
        assert desk.daft("up", "--from-plan", "demo.tfplan") == failed(
            "demo.tfplan is not applied: the configuration has changed since, in main.tf",
            "make a new one with `daft up --plan --out demo.tfplan`",
        )
        assert desk.daft("up", "--from-plan", "demo.tfplan", "--provider", "aws").status == 1


def _in_order(text: str) -> dict[str, object]:
    """Return a plan's JSON with its changes sorted: Terraform says them as it comes to them."""
    document = json.loads(text)
    return {**document, "changes": sorted(document["changes"], key=lambda change: change["address"])}
