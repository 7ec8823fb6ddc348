"""Saved plans as files: what is written, and what is made of any other file."""

from __future__ import annotations

import io
import json
import os
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daft_launcher import saved_plan
from daft_launcher.errors import StateError
from daft_launcher.saved_plan import (
    Origin,
    SavedPlan,
    StateVersion,
    check_target,
    read_saved_plan,
    write_saved_plan,
)

LOCK = """\
provider "registry.terraform.io/hashicorp/aws" {
  version     = "5.100.0"
  constraints = ">= 5.100.0, < 6.0.0"
  hashes = [
    "h1:abc=",
    "zh:00ff",
  ]
}

provider "registry.terraform.io/hashicorp/null" {
  version = "3.2.3"
  hashes = [
    "h1:def=",
  ]
}
"""
ORIGIN = Origin(
    name="demo",
    provider="aws",
    region="us-west-2",
    account="AWS account 123456789012",
    files={"main.tf": "00ff", "modules/aws/head.tf": "ff00"},
    operator={"operator_cidrs": ["203.0.113.7/32"], "ssh_public_key": "ssh-ed25519 AAAA"},
    terraform="Terraform 1.11.4",
    launcher="1.0",
    own_key=True,
)
AGAIN = "make it with `daft up --plan --out FILE`"


def terraform_plan(*, state: str = '{"lineage": "abc", "serial": 7}', **more: str) -> bytes:
    """Return a zip with the parts that a plan file of Terraform's has."""
    parts = {"tfplan": "a plan", "tfstate": state, ".terraform.lock.hcl": LOCK, **more}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as plan:
        for name, text in parts.items():
            plan.writestr(name, text)
    return file.getvalue()


def refused(path: Path, message: str, hint: str | None) -> None:
    with pytest.raises(StateError) as caught:
        read_saved_plan(path)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_what_was_saved_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    plan, path = terraform_plan(), tmp_path / "demo.tfplan"
    write_saved_plan(path, plan, ORIGIN)
    assert read_saved_plan(path) == SavedPlan(
        path=path,
        origin=ORIGIN,
        terraform_plan=plan,
        state=StateVersion(lineage="abc", serial=7),
        lock=LOCK,
    )
    assert [(file.name, oct(file.stat().st_mode)) for file in tmp_path.iterdir()] == [
        ("demo.tfplan", "0o100600")
    ]


def test_a_saved_plan_is_still_a_zip_with_terraforms_own_parts(tmp_path: Path) -> None:
    write_saved_plan(tmp_path / "demo.tfplan", terraform_plan(), ORIGIN)
    with zipfile.ZipFile(tmp_path / "demo.tfplan") as parts:
        assert (parts.testzip(), parts.namelist()) == (None, ["tfplan", "tfstate", ".terraform.lock.hcl"])


def test_only_the_user_may_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_saved_plan(tmp_path / "demo.tfplan", terraform_plan(), ORIGIN)
    finally:
        os.umask(before)
    assert oct((tmp_path / "demo.tfplan").stat().st_mode) == "0o100600"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "demo.tfplan"
    write_saved_plan(path, terraform_plan(), ORIGIN)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StateError) as caught:
            write_saved_plan(path, terraform_plan(tfplan="another plan"), ORIGIN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.message, caught.value.hint) == (
        f"{path} cannot be written: File too large",
        "name another file with `--out`",
    )
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], before)


def test_a_plan_of_an_unknown_kind_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be saved"):
        write_saved_plan(tmp_path / "demo.tfplan", b"another kind of plan, longer than a zip's end", ORIGIN)
    huge = replace(ORIGIN, files={f"{number}.tf": "0" * 64 for number in range(1000)})
    with pytest.raises(StateError, match="cannot be saved"):
        write_saved_plan(tmp_path / "demo.tfplan", terraform_plan(), huge)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_saved_plan_is_said_so(tmp_path: Path) -> None:
    make = "make one with `daft up --plan --out FILE`"
    path = tmp_path / "some.file"
    refused(path, f"{path} cannot be read: No such file or directory", AGAIN)
    refused(tmp_path, f"{tmp_path} cannot be read: Is a directory", AGAIN)
    for content in (b"", b"some text", b'{"format_version": "1.2"}'):
        path.write_bytes(content)
        refused(path, f"{path} is not a saved plan", make)
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("readme.txt", "a zip of something else")
    refused(path, f"{path} is not a saved plan", make)
    path.write_bytes(terraform_plan())
    refused(
        path,
        f"{path} is a plan of Terraform's own, which `daft up` did not save",
        f"apply it with `terraform apply`, or {make}",
    )


def test_a_file_of_another_version_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "demo.tfplan"
    write_saved_plan(path, terraform_plan(), ORIGIN)
    path.write_bytes(path.read_bytes().replace(b"daft-launcher plan 1 ", b"daft-launcher plan 2 "))
    refused(
        path,
        f"{path} is not applied: another version of daft-launcher has saved it",
        f"make a new one with `daft up --plan --out {path}`",
    )


CONTENT = saved_plan._join(terraform_plan(), ORIGIN)


@given(st.integers(min_value=2, max_value=len(CONTENT) - 1))
def test_no_file_that_was_cut_short_is_taken(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tfplan"
    path.write_bytes(CONTENT[:length])
    refused(
        path,
        f"{path} is cut short or damaged",
        f"copy it again, or make a new one with `daft up --plan --out {path}`",
    )


@given(st.integers(min_value=0, max_value=len(CONTENT) - 1), st.integers(min_value=1, max_value=255))
def test_no_file_of_which_a_byte_was_changed_is_taken(
    tmp_path_factory: pytest.TempPathFactory, place: int, difference: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.tfplan"
    changed = bytearray(CONTENT)
    changed[place] ^= difference
    path.write_bytes(changed)
    with pytest.raises(StateError):
        read_saved_plan(path)


@pytest.mark.parametrize("state", ["", "[]", "3", '{"serial": "x"}'])
def test_a_plan_without_a_state_in_it_is_damaged(tmp_path: Path, state: str) -> None:
    path = tmp_path / "demo.tfplan"
    write_saved_plan(path, terraform_plan(state=state), ORIGIN)
    refused(
        path,
        f"{path} is cut short or damaged",
        f"copy it again, or make a new one with `daft up --plan --out {path}`",
    )


def test_only_a_plan_of_ours_is_written_over(tmp_path: Path) -> None:
    ours, theirs, link = (tmp_path / name for name in ("ours", "theirs", "link"))
    write_saved_plan(ours, terraform_plan(), ORIGIN)
    link.symlink_to(ours)
    check_target(ours)
    check_target(tmp_path / "new")
    for path, content in ((theirs, b"a letter"), (theirs, terraform_plan()), (theirs, b"")):
        path.write_bytes(content)
        _in_the_way(path)
    _in_the_way(link)
    _in_the_way(tmp_path)
    with pytest.raises(StateError) as caught:
        check_target(tmp_path / "missing" / "new")
    assert caught.value.message == (
        f"{tmp_path}/missing/new cannot be written: there is no folder {tmp_path}/missing"
    )


def test_what_a_lock_file_selects() -> None:
    assert saved_plan.provider_versions(LOCK) == {
        "registry.terraform.io/hashicorp/aws": "5.100.0",
        "registry.terraform.io/hashicorp/null": "3.2.3",
    }
    assert saved_plan.read_lock(LOCK)["registry.terraform.io/hashicorp/aws"] == (
        "5.100.0",
        {"h1:abc=", "zh:00ff"},
    )
    assert saved_plan.read_lock("") == {}


def test_the_comment_is_json_for_whoever_looks(tmp_path: Path) -> None:
    write_saved_plan(tmp_path / "demo.tfplan", terraform_plan(), ORIGIN)
    with zipfile.ZipFile(tmp_path / "demo.tfplan") as parts:
        title, _, text = parts.comment.partition(b"\n")
    assert (title[:21], json.loads(text)["operator"]) == (b"daft-launcher plan 1 ", ORIGIN.operator)


def _in_the_way(path: Path) -> None:
    with pytest.raises(StateError) as caught:
        check_target(path)
    assert (caught.value.message, caught.value.hint) == (
        f"{path} is in the way: it is no saved plan, and is never overwritten",
        "move it away, or name another file with `--out`",
    )
