"""Roots of many configurations: whatever is set beside what, Terraform's own formatter has nothing to change."""

from __future__ import annotations

import random
import subprocess
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_cluster
from daft_launcher.terraform_binary import TerraformBinary

COUNT = 200
KEYS: Mapping[str, Mapping[str, object]] = {
    "setup": {
        "number_of_workers": 5000,
        "instance_type": "u-6tb1.112xlarge",
        "image_id": "ami-01c3c55948a949a52",
        "dependencies": ["pandas>=2", "é", "日本 ; python_version < '3.13'", "👩‍👩‍👧"],
        "python_version": "3.12",
        "ray_version": "2.60.0",
        "daft_version": "0.7.26",
        "package_index": "https://pypi.example.com/simple",
        "find_links": "/opt/wheels",
        "proxy": "http://proxy.example.com:3128",
        "disk_size_gb": 16384,
    },
    "run": {"setup_commands": ["a\n\tb", "${HOME} %{x} \\ \"'"]},
    "aws": {
        "profile": "ann's",
        "vpc_id": "vpc-0123456789abcdef0",
        "subnet_id": "subnet-0123456789abcdef0",
        "ssh_allowed_cidrs": ["203.0.113.7/32", "2001:db8::/32"],
        "ssh_key_name": "key",
        "iam_instance_profile": "mine",
        "spot": True,
    },
}
BACKENDS: list[dict[str, object]] = [
    {"type": "local"},
    {"type": "local", "path": "a b.tfstate"},
    {"type": "s3", "bucket": "abc"},
    {"type": "s3", "bucket": "abc", "profile": "é", "kms_key_id": "alias/x", "use_lockfile": False},
]


@pytest.mark.real
def test_terraform_would_format_none_of_them_otherwise(
    tmp_path: Path, real_terraform: TerraformBinary
) -> None:
    chance = random.Random(4)
    for number in range(COUNT):
        for name, text in render_cluster(some_configuration(chance)).files.items():
            if "/" not in name:
                path = tmp_path / f"{number}" / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    command = [real_terraform.path, "fmt", "-check", "-diff", "-recursive"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def some_configuration(chance: random.Random) -> ClusterConfig:
    """Return a configuration in which each key is there or not, and with tags in any script."""
    tables: dict[str, dict[str, object]] = {
        table: {key: value for key, value in keys.items() if chance.random() < 0.5}
        for table, keys in KEYS.items()
    }
    tables["setup"] |= {"name": "demo", "provider": chance.choice(["aws", "aws", "aws", "local"])}
    tables["backend"] = chance.choice(BACKENDS)
    while True:
        tables["setup"]["tags"] = {some_tag(chance): "é" for _ in range(chance.randint(0, 4))}
        try:
            return ClusterConfig.model_validate(tables)
        except ValidationError as error:
            if {problem["loc"][:2] for problem in error.errors()} != {("setup", "tags")}:
                raise


def some_tag(chance: random.Random) -> str:
    """Return a key of letters: ASCII, those that are one for the eye and several characters, or any."""
    alphabet = chance.choice(["abcXYZ019:/", "ᄎ틼ᄀᆞᆫ", "กำขา", "ｶﾞﾊﾟ"]) + chr(chance.randrange(0xA1, 0x2FFFF))
    letters = "".join(chance.choice(alphabet) for _ in range(chance.randint(1, 9)))
    return unicodedata.normalize("NFC", letters)
