"""Rendering: the same bytes everywhere, from nothing but the configuration and what ships."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
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


def files_with(table: str, **keys: object) -> Mapping[str, str]:
    """Return the files of a cluster on AWS whose configuration has these keys in one table."""
    tables: dict[str, dict[str, object]] = {"setup": {"name": "demo", "provider": "aws"}}
    tables[table] = {**tables.get(table, {}), **keys}
    return render_cluster(ClusterConfig.model_validate(tables)).files


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the lines that differ, by the file that they are in."""
    lines = {
        name: list(difflib.unified_diff(before[name].splitlines(), text.splitlines(), lineterm="", n=0))[2:]
        for name, text in after.items()
    }
    assert before.keys() == after.keys()
    return {
        name: [line for line in found if not line.startswith("@@")] for name, found in lines.items() if found
    }


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


def test_nothing_is_in_it_that_only_this_program_or_an_account_has() -> None:
    for name in ("aws", "local"):
        text = "".join(render_cluster(config(name)).files.values())
        assert version("daft-launcher") not in re.findall(r"\d+\.\d+\.\d+", text)
        assert [number for number in re.findall(r"\b\d{12}\b", text) if f":{number}:" in text] == []


@pytest.mark.parametrize(
    ("table", "key", "value", "diff"),
    [
        (
            "setup",
            "number_of_workers",
            5,
            ["-  number_of_workers = 2", "+  number_of_workers = 5"],
        ),
        (
            "setup",
            "instance_type",
            "m7g.xlarge",
            ['-  instance_type     = "m7g.medium"', '+  instance_type     = "m7g.xlarge"'],
        ),
        ("setup", "disk_size_gb", 200, ["-  disk_size_gb      = 50", "+  disk_size_gb      = 200"]),
        ("setup", "dependencies", ["pandas"], ["+  dependencies = [", '+    "pandas",', "+  ]", "+"]),
        ("setup", "tags", {"team": "data"}, ["+  tags = {", '+    "team" = "data"', "+  }", "+"]),
        ("setup", "python_version", "3.11", ['+  python_version    = "3.11"']),
        ("aws", "iam_instance_profile", "mine", ['+  iam_instance_profile = "mine"', "+"]),
    ],
)
def test_another_value_of_one_key_changes_the_lines_that_mean_it(
    table: str, key: str, value: object, diff: list[str]
) -> None:
    before, after = files_with("setup"), files_with(table, **{key: value})
    assert difference(before, after) == {"main.tf": diff}


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        (["a", "b"], ["a", "c", "b"], ['+    "c",']),
        (["a", "b"], ["a"], ['-    "b",']),
        (["a"], ["b"], ['-    "a",', '+    "b",']),
    ],
)
def test_one_more_or_less_in_a_list_is_one_line(before: list[str], after: list[str], diff: list[str]) -> None:
    one, two = (files_with("setup", dependencies=packages) for packages in (before, after))
    assert difference(one, two) == {"main.tf": diff}


def test_the_profile_is_a_line_of_its_own_and_the_users_to_name() -> None:
    assert difference(files_with("aws"), files_with("aws", profile="dev")) == {
        "cluster.json": ['-  "profile": null,', '+  "profile": "dev",'],
        "main.tf": ["+", '+  profile = "dev"'],
    }


def test_the_starter_file_is_the_same_for_all_but_name_and_provider() -> None:
    aws = render_starter_config(provider="aws", name="demo")
    local = render_starter_config(provider="local", name=None)
    assert (
        aws.replace('name = "demo"', 'name = "CHANGE-ME"').replace('provider = "aws"', 'provider = "local"')
        == local
    )
