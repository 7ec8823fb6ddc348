"""Where a state lies: read back from what was rendered, and from Terraform's own record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daft_launcher.backend import Backend, find_declared, find_recorded, parse_backend
from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_backend, render_cluster

ROLE = "arn:aws:iam::123456789012:role/states"


def rendered(backend: dict[str, Any], **aws: Any) -> str:
    config = {"setup": {"name": "demo", "provider": "aws"}, "aws": aws, "backend": backend}
    return render_cluster(ClusterConfig.model_validate(config)).files["backend.tf"]


def s3(**more: Any) -> dict[str, Any]:
    return {"type": "s3", "bucket": "states", **more}


@pytest.mark.parametrize(
    "backend",
    [
        {"type": "local"},
        {"type": "local", "path": "my ${x} = {.tfstate"},
        s3(),
        s3(key='backend "local"', allowed_account_ids=["123456789012"]),
        s3(assume_role={"role_arn": ROLE, "external_id": '"} = {'}, endpoints={"s3": "http://x"}),
    ],
)
def test_what_is_rendered_is_read_back(backend: dict[str, Any]) -> None:
    text = rendered(backend)
    assert render_backend(parse_backend(text)) == text


def test_what_is_filled_in() -> None:
    assert parse_backend(rendered(s3())) == Backend(
        type="s3",
        settings={
            "bucket": "states",
            "encrypt": True,
            "key": "daft/demo/terraform.tfstate",
            "region": "us-west-2",
            "use_lockfile": True,
        },
    )


@pytest.mark.parametrize(
    ("backend", "profile"), [(s3(), "research"), (s3(profile="ops"), "ops")], ids=["aws's", "its own"]
)
def test_the_profile_reaches_the_backend(backend: dict[str, Any], profile: str) -> None:
    assert parse_backend(rendered(backend, profile="research")).settings["profile"] == profile


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"type": "local"}, {"type": "local", "path": "terraform.tfstate"}, True),
        ({"type": "local"}, {"type": "local", "path": "x.tfstate"}, False),
        ({"type": "local"}, s3(), False),
        (s3(), s3(encrypt=False, profile="ops", region="eu-west-1"), True),
        (s3(), s3(key="x"), False),
        (s3(), s3(bucket="others"), False),
        (s3(), s3(endpoints={"s3": "http://x"}), False),
    ],
)
def test_two_ways_to_the_same_state(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert parse_backend(rendered(one)).is_where(parse_backend(rendered(other))) is same


def test_what_it_is_called(tmp_path: Path) -> None:
    local = parse_backend(rendered({"type": "local", "path": "x/y.tfstate"}))
    assert local.describe(Path("root")) == "root/x/y.tfstate"
    assert parse_backend(rendered(s3())).describe(Path("root")) == "s3://states/daft/demo/terraform.tfstate"


def test_what_a_root_declares(tmp_path: Path) -> None:
    assert find_declared(tmp_path) is None
    (tmp_path / "backend.tf").write_text(rendered(s3()))
    assert find_declared(tmp_path) == parse_backend(rendered(s3()))


def test_what_terraform_has_noted(tmp_path: Path) -> None:
    assert find_recorded(tmp_path) is None
    note = tmp_path / ".terraform/terraform.tfstate"
    note.parent.mkdir()
    config = {"bucket": "b", "key": "k", "region": "us-west-2", "acl": None, "endpoints": {"s3": None}}
    note.write_text(json.dumps({"version": 3, "backend": {"type": "s3", "config": config, "hash": 1}}))
    settings = {"bucket": "b", "key": "k", "region": "us-west-2"}
    assert find_recorded(tmp_path) == Backend(type="s3", settings=settings)


@pytest.mark.parametrize(
    "note",
    ["", "[]", "{}", '{"backend": null}', '{"backend": {"type": "s3", "config": {"bucket": "b"}}}'],
)
def test_a_note_that_says_nothing_sensible(tmp_path: Path, note: str) -> None:
    (tmp_path / ".terraform").mkdir()
    (tmp_path / ".terraform/terraform.tfstate").write_text(note)
    assert find_recorded(tmp_path) is None
