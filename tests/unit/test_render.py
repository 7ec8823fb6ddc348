"""Rendering: the same bytes everywhere, from nothing but the configuration and what ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import config

from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_cluster, render_starter_config
from daft_launcher.rendered import from_hcl, to_hcl

MODULES = Path(__file__).parents[2] / "terraform"
FULL = {
    "setup": {
        "name": "demo",
        "provider": "aws",
        "number_of_workers": 3,
        "dependencies": ["b", "a", "${x}"],
        "tags": {"z": "1", "a": "2", "Z": "3", "é": "4"},
        "python_version": "3.11",
    },
    "run": {"setup_commands": ["one", "two\nthree"]},
    "aws": {"profile": "dev", "ssh_allowed_cidrs": ["10.0.0.0/8"], "spot": True},
    "backend": {"type": "s3", "bucket": "abc"},
}
PRINT = """
import hashlib, json, sys
from daft_launcher.config import ClusterConfig
from daft_launcher.render import render_cluster
files = render_cluster(ClusterConfig.model_validate(json.loads(sys.argv[1]))).files
print(json.dumps(list(files.items())))
"""


@pytest.mark.parametrize("provider", ["aws", "local"])
def test_a_root_has_these_files(provider: str) -> None:
    shipped = [path.name for path in (MODULES / provider).iterdir() if path.suffix in (".tf", ".sh", ".py")]
    names = list(render_cluster(config(provider)).files)
    assert names == sorted(
        [
            ".gitignore",
            "backend.tf",
            "cluster.json",
            "main.tf",
            *[f"modules/{provider}/{name}" for name in shipped],
        ]
    )


def test_rendering_leaves_its_configuration_and_gives_the_same_again() -> None:
    full = ClusterConfig.model_validate(FULL)
    before = full.model_dump()
    first, second = render_cluster(full), render_cluster(full)
    assert (first, list(first.files), full.model_dump()) == (second, list(second.files), before)


def test_rendering_depends_on_neither_place_nor_environment_nor_hash_seed(tmp_path: Path) -> None:
    wanted = [list(item) for item in render_cluster(ClusterConfig.model_validate(FULL)).files.items()]
    for number, seed in enumerate(["0", "1", "424242"]):
        place = tmp_path / f"folder {number}"
        place.mkdir()
        environ = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "HOME": str(place),
            "TZ": "Asia/Kathmandu",
            "LC_ALL": "C",
            "AWS_REGION": "eu-west-1",
            "DAFT_STATE_DIR": str(place),
        }
        command = [sys.executable, "-c", PRINT, json.dumps(FULL)]
        done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == wanted
        assert list(place.iterdir()) == []


def test_nothing_of_this_machine_is_in_it() -> None:
    texts = "".join(render_cluster(ClusterConfig.model_validate(FULL)).files.values())
    for trace in (str(Path.home()), str(MODULES.parent)):
        assert trace not in texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '"plain"'),
        ("${a} %{b} $${c} %%{d}", '"$${a} %%{b} $$${c} %%%{d}"'),
        ('"\\\n\t', '"\\"\\\\\\n\\t"'),
        ("é 🎉", '"é 🎉"'),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        (["${a}", 1], '["$${a}", 1]'),
        ({"b": 1, "a${": "x"}, '{"a$${": "x", "b": 1}'),
    ],
)
def test_a_value_as_hcl_and_back(value: object, text: str) -> None:
    assert (to_hcl(value), from_hcl(text)) == (text, value)


def test_the_order_of_tags_and_keys_does_not_matter() -> None:
    turned = {
        table: dict(reversed(values.items())) if isinstance(values, dict) else values
        for table, values in reversed(FULL.items())
    }
    turned["setup"]["tags"] = dict(reversed(FULL["setup"]["tags"].items()))
    assert render_cluster(ClusterConfig.model_validate(turned)) == render_cluster(
        ClusterConfig.model_validate(FULL)
    )


def test_the_order_of_commands_and_dependencies_is_kept() -> None:
    main = render_cluster(ClusterConfig.model_validate(FULL)).files["main.tf"]
    assert '  dependencies = [\n    "b",\n    "a",\n    "$${x}",\n  ]\n' in main
    assert '  setup_commands = [\n    "one",\n    "two\\nthree",\n  ]\n' in main


def test_what_only_aws_has_stays_out_of_a_local_root() -> None:
    local = render_cluster(ClusterConfig.model_validate(FULL).on("local")).files["main.tf"]
    for word in ("instance_type", "image_id", "region", "profile", "spot", "tags", "hashicorp/aws", "two"):
        assert word not in local


def test_only_numbers_of_workers_differ_between_two_clusters_of_different_size() -> None:
    two = render_cluster(config(number_of_workers=2)).files
    many = render_cluster(config(number_of_workers=2000)).files
    assert {name for name in two if two[name] != many[name]} == {"main.tf"}
    assert two["main.tf"].replace("= 2\n", "= 2000\n") == many["main.tf"]


def test_the_starter_file_is_the_same_for_all_but_name_and_provider() -> None:
    aws = render_starter_config(provider="aws", name="demo")
    local = render_starter_config(provider="local", name=None)
    assert (
        aws.replace('name = "demo"', 'name = "CHANGE-ME"').replace('provider = "aws"', 'provider = "local"')
        == local
    )
