"""What may stand in `.daft.toml`: every key, its default and its bounds, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from daft_launcher.config import ClusterConfig, ClusterReference, load_config, load_reference
from daft_launcher.errors import ConfigError

HINT = "`daft init-config` writes a file that names every key"
BASE = '[setup]\nname = "demo"\nprovider = "aws"\n'
DEFAULTS = {
    "setup": {
        "name": "demo",
        "provider": "aws",
        "region": "us-west-2",
        "ssh_user": "ec2-user",
        "number_of_workers": 2,
        "instance_type": "m7g.medium",
        "image_id": None,
        "dependencies": (),
        "python_version": None,
        "ray_version": None,
        "daft_version": None,
        "package_index": None,
        "find_links": None,
        "proxy": None,
        "disk_size_gb": 50,
        "max_lifetime": None,
        "idle_timeout": None,
        "tags": {},
    },
    "run": {"setup_commands": (), "command": None},
    "aws": {
        "profile": None,
        "vpc_id": None,
        "subnet_id": None,
        "ssh_allowed_cidrs": (),
        "ssh_key_name": None,
        "iam_instance_profile": None,
        "iam_policy_arns": (),
        "spot": False,
    },
    "backend": {"type": "local", "path": None},
    "prices": {"instance_hour": {}, "spot_hour": {}, "gp3_gb_month": None},
}
FULL = """\
[setup]
name = "full_house-2"
provider = "aws"
region = "eu-central-1"
ssh_user = "ubuntu"
number_of_workers = 0
instance_type = "c7i-flex.large"
image_id = "ami-0123abcd"
dependencies = ["polars>=1", "git+https://example.com/a.git@main#egg=a"]
python_version = "3.11.9"
ray_version = "2.54.0"
daft_version = "0.7.26rc1"
package_index = "https://pypi.example.com/simple/"
find_links = "/opt/wheels"
proxy = "http://proxy.example.com:3128"
disk_size_gb = 16384
max-lifetime = "1d2h3m"
idle_timeout = "90m"
tags = { team = "data", "cost center" = "R&D".. }

[run]
setup_commands = ["echo '${HOME}'", "a\\tb\\nc"]
command = "python main.py --n 3"

[aws]
profile = "dev"
vpc_id = "vpc-0123456789abcdef0"
subnet_id = "subnet-01234567"
ssh_allowed_cidrs = ["203.0.113.7", "10.0.0.0/255.0.0.0", "2001:db8::/32"]
ssh_key_name = "my key"
iam_policy_arns = ["arn:aws-cn:iam::aws:policy/ReadOnly", "arn:aws:iam::123456789012:policy/path/x"]
spot = true

[backend]
type = "s3"
bucket = "my-bucket.example"
key = "some/where"
region = "us-east-1"
profile = "ops"
kms_key_id = "alias/x"
encrypt = true
use_lockfile = false
assume_role = { role_arn = "arn:aws:iam::123456789012:role/a/b", session_name = "us", external_id = "e" }
allowed_account_ids = ["123456789012"]
endpoints = { s3 = "https://s3.example.com", sts = "http://127.0.0.1:1" }
use_path_style = true
skip_credentials_validation = true
skip_requesting_account_id = true
skip_region_validation = true
skip_s3_checksum = true

[prices]
gp3-gb-month = 0.0652
spot_hour = { "c7i-flex.large" = 0.02 }

[prices.instance_hour]
"c7i-flex.large" = 0.0763
"u-6tb1.112xlarge" = 46
""".replace('"R&D"..', '"R + D"')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".daft.toml"


def load(file: Path, text: str | bytes) -> ClusterConfig:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(file)


def refusal(file: Path, text: str | bytes) -> tuple[str, str | None]:
    """Return message and hint, with the file's path shown as FILE."""
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    assert caught.value.exit_code == 2
    return caught.value.message.replace(str(file), "FILE"), caught.value.hint


def problems(file: Path, text: str) -> list[str]:
    """Return the problems of a file that has some, each as `line: sentence`."""
    message, hint = refusal(file, text)
    first, *lines = message.split("\n")
    count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert (first, hint) == (f"FILE has {count}:", HINT)
    assert all(line.startswith("  FILE:") for line in lines)
    return [line.removeprefix("  FILE:") for line in lines]


# What is accepted


def test_two_keys_are_enough(file: Path) -> None:
    assert load(file, BASE).model_dump() == DEFAULTS


def test_every_key_is_taken(file: Path) -> None:
    assert load(file, FULL).model_dump() == {
        "setup": {
            "name": "full_house-2",
            "provider": "aws",
            "region": "eu-central-1",
            "ssh_user": "ubuntu",
            "number_of_workers": 0,
            "instance_type": "c7i-flex.large",
            "image_id": "ami-0123abcd",
            "dependencies": ("polars>=1", "git+https://example.com/a.git@main#egg=a"),
            "python_version": "3.11.9",
            "ray_version": "2.54.0",
            "daft_version": "0.7.26rc1",
            "package_index": "https://pypi.example.com/simple/",
            "find_links": "/opt/wheels",
            "proxy": "http://proxy.example.com:3128",
            "disk_size_gb": 16384,
            "max_lifetime": "1d2h3m",
            "idle_timeout": "90m",
            "tags": {"team": "data", "cost center": "R + D"},
        },
        "run": {"setup_commands": ("echo '${HOME}'", "a\tb\nc"), "command": "python main.py --n 3"},
        "aws": {
            "profile": "dev",
            "vpc_id": "vpc-0123456789abcdef0",
            "subnet_id": "subnet-01234567",
            "ssh_allowed_cidrs": ("203.0.113.7/32", "10.0.0.0/8", "2001:db8::/32"),
            "ssh_key_name": "my key",
            "iam_instance_profile": None,
            "iam_policy_arns": (
                "arn:aws-cn:iam::aws:policy/ReadOnly",
                "arn:aws:iam::123456789012:policy/path/x",
            ),
            "spot": True,
        },
        "backend": {
            "type": "s3",
            "bucket": "my-bucket.example",
            "key": "some/where",
            "region": "us-east-1",
            "profile": "ops",
            "kms_key_id": "alias/x",
            "encrypt": True,
            "use_lockfile": False,
            "assume_role": {
                "role_arn": "arn:aws:iam::123456789012:role/a/b",
                "session_name": "us",
                "external_id": "e",
            },
            "allowed_account_ids": ("123456789012",),
            "endpoints": {"s3": "https://s3.example.com", "sts": "http://127.0.0.1:1"},
            "use_path_style": True,
            "skip_credentials_validation": True,
            "skip_requesting_account_id": True,
            "skip_region_validation": True,
            "skip_s3_checksum": True,
        },
        "prices": {
            "instance_hour": {"c7i-flex.large": 0.0763, "u-6tb1.112xlarge": 46.0},
            "spot_hour": {"c7i-flex.large": 0.02},
            "gp3_gb_month": 0.0652,
        },
    }


@pytest.mark.parametrize("name", ["a", "d2", "a" * 30, "with-dash_and_underscore9"])
def test_names_that_will_do(file: Path, name: str) -> None:
    assert load(file, BASE.replace("demo", name)).setup.name == name


@pytest.mark.parametrize("span", ["1m", "90m", "8h", "2d", "1h30m", "1d2h3m", "999999d", "0h1m"])
def test_times_that_will_do(file: Path, span: str) -> None:
    config = load(file, f'{BASE}max_lifetime = "{span}"\nidle-timeout = "{span}"')
    assert config.limits == {"max_lifetime": span, "idle_timeout": span}
    assert config.on("local").limits == {}


@pytest.mark.parametrize("region", ["us-gov-west-1", "ap-southeast-10", "eusc-de-east-1"])
def test_regions_that_will_do(file: Path, region: str) -> None:
    assert load(file, f'{BASE}region = "{region}"').setup.region == region


@pytest.mark.parametrize("kind", ["u-6tb1.112xlarge", "m7g.metal", "mac2-m1ultra.metal", "x2gd.metal-48xl"])
def test_instance_types_that_will_do(file: Path, kind: str) -> None:
    assert load(file, f'{BASE}instance_type = "{kind}"').setup.instance_type == kind


@pytest.mark.parametrize("version", ["2.54", "2.60.0", "3.0.0rc1", "2.54.1.post2", "10.0"])
def test_versions_that_will_do(file: Path, version: str) -> None:
    assert load(file, f'{BASE}ray_version = "{version}"').setup.ray_version == version


def test_keys_and_tables_may_be_spelled_with_dashes_but_tags_stay_as_they_are(file: Path) -> None:
    text = """
        setup = { name = "x", provider = "aws", number-of-workers = 7, tags = { my-team = "a-b", my_team = "c" } }
        run.setup-commands = ["x-y"]
        [aws]
        ssh-allowed-cidrs = ["10.0.0.0/8"]
        [backend]
        type = "s3"
        bucket = "a-bucket"
        use-lockfile = false
    """
    config = load(file, text)
    assert (config.setup.number_of_workers, config.setup.tags) == (7, {"my-team": "a-b", "my_team": "c"})
    assert config.run.setup_commands == ("x-y",)
    assert config.aws.ssh_allowed_cidrs == ("10.0.0.0/8",)
    assert config.backend.model_dump(exclude_defaults=True) == {
        "type": "s3",
        "bucket": "a-bucket",
        "use_lockfile": False,
    }


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + BASE,
        BASE.replace("\n", "\r\n"),
        'setup.name = "demo"\nsetup.provider = "aws"\n',
        'setup = { "name" = "demo", \'provider\' = "aws" }',
        '"setup" . "n\\u0061me" = """demo"""\nsetup.provider = \'\'\'\naws\'\'\'',
        BASE + "\n[run]\n[aws]\n",
    ],
    ids=["byte order mark", "CRLF", "dotted", "inline", "escaped and multi-line", "empty tables"],
)
def test_toml_may_be_written_in_many_ways(file: Path, text: str) -> None:
    assert load(file, text).model_dump() == DEFAULTS


def test_a_multi_line_command_comes_through_with_the_newlines_of_unix(file: Path) -> None:
    text = f"{BASE}[run]\nsetup_commands = ['''\nif x; then\n\ty\nfi\n''']\n"
    for written in (text, text.replace("\n", "\r\n")):
        assert load(file, written).run.setup_commands == ("if x; then\n\ty\nfi\n",)


@pytest.mark.parametrize("text", ['"\\"', "${x} %{y} $${z}", "a\u2028b", "é 🎉 ﻿", "'; rm -rf / #", " x "])
def test_any_text_without_control_characters_is_kept(file: Path, text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    config = load(file, f'{BASE}dependencies = ["{quoted}"]\n[run]\ncommand = "{quoted}"\n')
    assert (config.setup.dependencies, config.run.command) == ((text,), text)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("number_of_workers = 0", 0),
        ("number_of_workers = 5000", 5000),
        ("disk_size_gb = 8", 8),
        ("disk_size_gb = 16384", 16384),
        ('python_version = "3.10"', "3.10"),
        ('daft_version = "0.5"', "0.5"),
        (f'dependencies = ["{"x" * 1024}"]', ("x" * 1024,)),
        (f"dependencies = {['x'] * 1000}", ("x",) * 1000),
        (f"tags.{'k' * 128} = '{'v' * 256}'", {"k" * 128: "v" * 256}),
        ('tags = { "é ٣_.:/=+-@" = "" }', {"é ٣_.:/=+-@": ""}),
        ("\n".join(f"tags.t{n} = ''" for n in range(40)), {f"t{n}": "" for n in range(40)}),
    ],
)
def test_the_bounds_are_inside(file: Path, line: str, value: object) -> None:
    config = load(file, f"{BASE}{line}\n")
    key = line.partition(" ")[0].partition(".")[0]
    assert getattr(config.setup, key) == value


def test_a_configuration_cannot_be_changed(file: Path) -> None:
    config = load(file, BASE)
    with pytest.raises(ValidationError):
        config.setup.name = "other"


# What is refused: the line, the key, and what it should be

NAME_RULE = (
    "must be 1 to 30 lower-case letters, digits, `-` or `_`, start with a letter "
    "and end with a letter or a digit"
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", f"{NAME_RULE}, not ''"),
        ("a" * 31, f"{NAME_RULE}, not '{'a' * 31}'"),
        ("Demo", f"{NAME_RULE}, not 'Demo'"),
        ("1a", f"{NAME_RULE}, not '1a'"),
        ("a-", f"{NAME_RULE}, not 'a-'"),
        ("a b", f"{NAME_RULE}, not 'a b'"),
        ("../a", f"{NAME_RULE}, not '../a'"),
        ("é", f"{NAME_RULE}, not 'é'"),
        ("a\\n", f"{NAME_RULE}, not 'a\\n'"),
        ("b" * (1 << 20), f"{NAME_RULE}, not '{'b' * 56}…"),
        ("CHANGE-ME", "is still the placeholder 'CHANGE-ME': give your cluster a name, like 'demo'"),
    ],
)
def test_names_that_will_not_do(file: Path, name: str, said: str) -> None:
    assert problems(file, BASE.replace("demo", name)) == [f"2: `setup.name` {said}"]


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("setup", "number_of_workers = -1", "must be greater than or equal to 0, not -1"),
        ("setup", "number_of_workers = 5001", "must be less than or equal to 5000, not 5001"),
        ("setup", "number_of_workers = 1" + "0" * 80, f"must be less than or equal to 5000, not 1{'0' * 80}"),
        ("setup", "number_of_workers = 2.0", "must be a whole number, not 2.0"),
        ("setup", "number_of_workers = '2'", "must be a whole number, not '2'"),
        ("setup", "number_of_workers = true", "must be a whole number, not true"),
        ("setup", "number_of_workers = inf", "must be a whole number, not inf"),
        ("setup", "number_of_workers = []", "must be a whole number, not []"),
        ("setup", "disk_size_gb = 7", "must be greater than or equal to 8, not 7"),
        ("setup", "disk_size_gb = 16385", "must be less than or equal to 16384, not 16385"),
        ("setup", "region = 1", "must be a string, not 1"),
        ("setup", "max_lifetime = 8", "must be a string, not 8"),
        *(
            ("setup", f'{key} = "{span}"', f"must be a time like '90m', '8h', '2d' or '1h30m', not {span!r}")
            for key, span in [
                ("max_lifetime", ""),
                ("max_lifetime", "8"),
                ("max_lifetime", "30s"),
                ("idle_timeout", "1.5h"),
                ("idle_timeout", "8 h"),
                ("idle_timeout", "8H"),
                ("idle_timeout", "30m1h"),
                ("idle_timeout", "-1h"),
                ("idle_timeout", "٣h"),
                ("idle_timeout", "1234567m"),
            ]
        ),
        ("setup", 'max_lifetime = "0h"', "must be at least '1m', not '0h'"),
        ("setup", 'idle_timeout = "0d0h0m"', "must be at least '1m', not '0d0h0m'"),
        ("setup", "region = 'Oregon'", "must be a region like 'us-west-2', not 'Oregon'"),
        ("setup", "region = 'us-west-٢'", "must be a region like 'us-west-2', not 'us-west-٢'"),
        ("setup", "region = 'us-west-2\u2028'", "must be a region like 'us-west-2', not 'us-west-2\\u2028'"),
        ("setup", "ssh_user = 'Root!'", "must be a Linux account name like 'ec2-user', not 'Root!'"),
        ("setup", "ssh_user = '-oX'", "must be a Linux account name like 'ec2-user', not '-oX'"),
        ("setup", "instance_type = 'm7g'", "must be an EC2 instance type like 'm7g.medium', not 'm7g'"),
        ("setup", "image_id = 'ami-1'", "must be an image id like 'ami-01c3c55948a949a52', not 'ami-1'"),
        ("setup", "dependencies = 'polars'", "must be a list, not 'polars'"),
        ("setup", "dependencies = { a = 1 }", "must be a list, not {'a': 1}"),
        ("setup", f"dependencies = {['x'] * 1001}", f"must have at most 1000 items, not {['x'] * 1001}"),
        ("setup", "python_version = 3.12", "must be a string, not 3.12"),
        ("setup", "python_version = '3.9'", "must be at least 3.10, not '3.9'"),
        ("setup", "python_version = '3.13rc1'", "must be a version like '3.12', not '3.13rc1'"),
        ("setup", "python_version = '4.0'", "must be a version like '3.12', not '4.0'"),
        ("setup", "python_version = '3.1٢'", "must be a version like '3.12', not '3.1٢'"),
        ("setup", "ray_version = '2.53.9'", "must be at least 2.54, not '2.53.9'"),
        ("setup", "ray_version = '>=2.54'", "must be a version like '2.60.0', not '>=2.54'"),
        ("setup", "ray_version = '2'", "must be a version like '2.60.0', not '2'"),
        ("setup", f"ray_version = '2.{'9' * 5000}'", f"must be a version like '2.60.0', not '2.{'9' * 54}…"),
        ("setup", "daft_version = '0.4.17'", "must be at least 0.5, not '0.4.17'"),
        ("setup", "daft_version = 'newest'", "must be a version like '0.7.26', not 'newest'"),
        ("setup", "tags = 'a'", "must be a table, not 'a'"),
        ("run", "setup_commands = 'x'", "must be a list, not 'x'"),
        ("run", "command = ''", "must not be empty"),
        ("run", "command = ' \t\\n'", "must not be empty"),
        ("run", f"command = '{'x' * 65537}'", "must have at most 65536 characters, not 65537"),
        ("run", f"command = '{'é' * 60000}'", "must have at most 100000 bytes in UTF-8, not 120000"),
        ("run", f"command = '{'x' * (1 << 20)}'", "must have at most 65536 characters, not 1048576"),
        ("aws", "profile = ''", "must not be empty"),
        ("aws", f"profile = '{'x' * 1025}'", "must have at most 1024 characters, not 1025"),
        ("aws", "vpc_id = 'vpc-xyz'", "must be a VPC id like 'vpc-0123456789abcdef0', not 'vpc-xyz'"),
        (
            "aws",
            "subnet_id = 'vpc-01234567'",
            "must be a subnet id like 'subnet-0123456789abcdef0', not 'vpc-01234567'",
        ),
        ("aws", "ssh_allowed_cidrs = '10.0.0.0/8'", "must be a list, not '10.0.0.0/8'"),
        ("aws", "ssh_key_name = 'clé'", "must be the name of an EC2 key pair, not 'clé'"),
        (
            "aws",
            "iam_instance_profile = 'arn:aws:iam::1:instance-profile/x'",
            "must be the name of an IAM instance profile, not 'arn:aws:iam::1:instance-profile/x'",
        ),
        ("aws", "iam_policy_arns = {}", "must be a list, not {}"),
        ("aws", "spot = 1", "must be true or false, not 1"),
        ("aws", "spot = 'true'", "must be true or false, not 'true'"),
        ("backend", "type = 'gcs'", "must be 's3' or 'local', not 'gcs'"),
        ("backend", "type = 's3'\nbucket = 'B'", "must be the name of an S3 bucket, not 'B'"),
        ("backend", "type = 's3'\nbucket = 'bb'", "must be the name of an S3 bucket, not 'bb'"),
        ("backend", "type = 's3'\nbucket = 'abc'\nencrypt = 'yes'", "must be true or false, not 'yes'"),
        (
            "backend",
            "type = 's3'\nbucket = 'abc'\nregion = 'x'",
            "must be a region like 'us-west-2', not 'x'",
        ),
        ("backend", "type = 'local'\npath = 3", "must be a string, not 3"),
        ("backend", "type = 's3'\nbucket = 'abc'\nkey = '/x'", "must not start or end with '/', not '/x'"),
    ],
)
def test_a_value_that_will_not_do(file: Path, table: str, line: str, said: str) -> None:
    text = BASE + ("" if table == "setup" else f"[{table}]\n") + line.replace("\\n", "\n") + "\n"
    if "\\n" in line:
        text = BASE + f"[{table}]\n{line.replace(chr(39), chr(34))}\n"
    number = text.rstrip("\n").count("\n") + 1
    key = line.split("\n")[-1].partition(" ")[0]
    assert problems(file, text) == [f"{number}: `{table}.{key}` {cut(said)}"]


@pytest.mark.parametrize(
    ("bucket", "said"),
    [
        ("a..b", "without two dots in a row, not 'a..b'"),
        ("192.168.5.4", "which cannot look like an address: '192.168.5.4'"),
        ("xn--abc", "which cannot start with 'xn--'"),
        ("sthree-abc", "which cannot start with 'sthree-'"),
        ("abc-s3alias", "which cannot end in '-s3alias'"),
        ("abc--x-s3", "which cannot end in '--x-s3'"),
    ],
)
def test_bucket_names_that_s3_does_not_give(file: Path, bucket: str, said: str) -> None:
    text = f"{BASE}[backend]\ntype = 's3'\nbucket = '{bucket}'\n"
    assert problems(file, text) == [f"6: `backend.bucket` must be the name of an S3 bucket, {said}"]


def test_a_key_needs_encryption(file: Path) -> None:
    text = f"{BASE}[backend]\ntype = 's3'\nbucket = 'abc'\nkms_key_id = 'x'\nencrypt = false\n"
    said = "4: `backend` has a kms_key_id and `encrypt = false`: leave one of the two out"
    assert problems(file, text) == [said]


def cut(said: str) -> str:
    """Cut the value at the end of a sentence where the program does."""
    start, comma, value = said.rpartition(", not ")
    return start + comma + (value if len(value) <= 60 else f"{value[:57]}…")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dependencies = ['a', '']", "`setup.dependencies[2]` must not be empty"),
        ("dependencies = ['a', 2]", "`setup.dependencies[2]` must be a string, not 2"),
        ("dependencies = [['a']]", "`setup.dependencies[1]` must be a string, not ['a']"),
        (
            'dependencies = ["a\\nb"]',
            "`setup.dependencies[1]` must not contain the control character '\\n'",
        ),
        (
            'dependencies = ["\\u0000"]',
            "`setup.dependencies[1]` must not contain the control character '\\x00'",
        ),
        (
            'dependencies = ["\\u007f"]',
            "`setup.dependencies[1]` must not contain the control character '\\x7f'",
        ),
        (
            'dependencies = ["\\u0085"]',
            "`setup.dependencies[1]` must not contain the control character '\\x85'",
        ),
        (
            'dependencies = ["cafe\\u0301 x"]',
            (
                "`setup.dependencies[1]` must be in composed Unicode (NFC), which Terraform would make of it: "
                "see 'e\u0301 x'"
            ),
        ),
        ("tags = { a = 1 }", "`setup.tags.a` must be a string, not 1"),
        ("tags = { Name = 'x' }", "`setup.tags.Name` tag keys `Name`, `aws:…` and `daft:…` are taken"),
        ("tags = { 'AWS:x' = 'x' }", "`setup.tags.'AWS:x'` tag keys `Name`, `aws:…` and `daft:…` are taken"),
        (
            "tags = { 'daft:x' = 'x' }",
            "`setup.tags.'daft:x'` tag keys `Name`, `aws:…` and `daft:…` are taken",
        ),
        ("tags = { '' = 'x' }", "`setup.tags.''` tag keys must have 1 to 128 characters"),
        (
            f"tags = {{ {'k' * 129} = 'x' }}",
            f"`setup.tags.'{'k' * 56}…` tag keys must have 1 to 128 characters",
        ),
        (f"tags = {{ a = '{'v' * 257}' }}", "`setup.tags.a` tag values must have at most 256 characters"),
        (
            "tags = { a = 'R&D' }",
            "`setup.tags.a` tags may hold letters, digits, spaces and _ . : / = + - @, not '&'",
        ),
        (
            "tags = { 'a\u2028' = 'x' }",
            "`setup.tags.'a\\u2028'` tags may hold letters, digits, spaces and _ . : / = + - @, not '\\u2028'",
        ),
    ],
)
def test_an_item_that_will_not_do(file: Path, line: str, said: str) -> None:
    assert problems(file, f"{BASE}{line}\n") == [f"4: {said}"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("gp3_gb_month = '0.07'", "`prices.gp3_gb_month` must be a number, not '0.07'"),
        ("gp3_gb_month = true", "`prices.gp3_gb_month` must be a number, not true"),
        ("gp3_gb_month = nan", "`prices.gp3_gb_month` must be a finite number, not nan"),
        ("gp3_gb_month = -1", "`prices.gp3_gb_month` must be greater than or equal to 0, not -1"),
        (
            "gp3_gb_month = 1e7",
            "`prices.gp3_gb_month` must be less than or equal to 1000000, not 10000000.0",
        ),
        ("spot_hour = 0.01", "`prices.spot_hour` must be a table, not 0.01"),
        ("spot_hour.'m7g.large' = 'x'", "`prices.spot_hour.'m7g.large'` must be a number, not 'x'"),
        (
            "instance_hour = { large = 1 }",
            "`prices.instance_hour.large` must be an EC2 instance type in quotes, like \"m7g.medium\", not 'large'",
        ),
        (
            "'m7g.medium' = 0.03",
            "`prices.'m7g.medium'` is not a key that is known here; known: gp3_gb_month, instance_hour, spot_hour",
        ),
    ],
)
def test_prices_that_will_not_do(file: Path, line: str, problem: str) -> None:
    assert problems(file, f"{BASE}[prices]\n{line}\n") == [f"5: {problem}"]


def test_an_instance_type_without_quotes_is_a_table_to_toml(file: Path) -> None:
    assert problems(file, f"{BASE}[prices.instance_hour]\nm7g.medium = 0.03\n") == [
        "4: `prices.instance_hour.m7g` must be a number, not {'medium': 0.03}",
        "4: `prices.instance_hour.m7g` must be an EC2 instance type in quotes, like \"m7g.medium\", not 'm7g'",
    ]


def test_forty_tags_are_enough(file: Path) -> None:
    tags = {f"t{n}": "" for n in range(41)}
    text = f"{BASE}[setup.tags]\n" + "".join(f"{name} = ''\n" for name in tags)
    assert problems(file, text) == [f"4: `setup.tags` must have at most 40 items, not {cut(str(tags))}"]


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("anywhere", "'anywhere' does not appear to be an IPv4 or IPv6 network"),
        ("0", "'0' does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.0/33", "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network"),
        ("x" * 5000, f"'{'x' * 56}… is none"),
    ],
)
def test_networks_that_will_not_do(file: Path, cidr: str, said: str) -> None:
    assert problems(file, f"{BASE}[aws]\nssh_allowed_cidrs = ['::/0', '{cidr}']") == [
        f"5: `aws.ssh_allowed_cidrs[2]` must be a network like '203.0.113.7/32': {said}"
    ]


def test_a_network_with_a_zone_means_nothing_to_aws(file: Path) -> None:
    assert problems(file, f"{BASE}[aws]\nssh_allowed_cidrs = ['fe80::%eth0/64']") == [
        (
            "5: `aws.ssh_allowed_cidrs[1]` must be a network like '203.0.113.7/32': "
            "'fe80::|eth0/64' does not appear to be an IPv4 or IPv6 network"
        )
    ]


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::aws:role/x",
        "arn:aws:iam::12345:policy/x",
        "AmazonS3ReadOnlyAccess",
        "arn:aws:iam::aws:policy/é",
    ],
)
def test_policies_that_will_not_do(file: Path, arn: str) -> None:
    assert problems(file, f"{BASE}[aws]\niam_policy_arns = ['{arn}']") == [
        f"5: `aws.iam_policy_arns[1]` must be the ARN of an IAM policy, not '{arn}'"
    ]


def test_policies_cannot_be_attached_to_a_profile_of_the_users(file: Path) -> None:
    text = f"{BASE}[aws]\niam_instance_profile = 'x'\niam_policy_arns = ['arn:aws:iam::aws:policy/x']"
    assert problems(file, text) == [
        (
            "4: `aws` has both iam_instance_profile and iam_policy_arns: attach the policies to the role of your "
            "profile, or leave one of the two out"
        )
    ]


# Keys and tables


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["1: `setup` is required and missing"]),
        ("# nothing\n[run]\n", ["1: `setup` is required and missing"]),
        (
            "\n[setup]\n",
            ["2: `setup.name` is required and missing", "2: `setup.provider` is required and missing"],
        ),
        (
            "[setup]\nname = 'x'\nprovider = 'gcp'\n",
            ["3: `setup.provider` must be 'aws' or 'local', not 'gcp'"],
        ),
        (
            f"[setup]\nname = 'x'\nprovider = '{'p' * 1000}'\n",
            [f"3: `setup.provider` must be 'aws' or 'local', not '{'p' * 56}…"],
        ),
        ("[setup]\nname = 'x'\nprovider = 3\n", ["3: `setup.provider` must be 'aws' or 'local', not 3"]),
        ("setup = 3\n", ["1: `setup` must be a table, not 3"]),
        ("[[setup]]\nname = 'x'\n", ["1: `setup` must be a table, not [{'name': 'x'}]"]),
        (f"{BASE}\n[backend]\n", ["5: `backend.type` is required and missing"]),
        (f"{BASE}\n[backend]\ntype = 's3'\n", ["5: `backend.bucket` is required and missing"]),
        ("backend = 3\n" + BASE, ["1: `backend` must be a table, not 3"]),
        (
            f"{BASE}[backend]\ntype = 'local'\nbucket = 'abc'\n",
            ["6: `backend.bucket` is not a key that is known here; it belongs to a backend of another type"],
        ),
        (
            f"{BASE}regions = 'x'\n",
            ["4: `setup.regions` is not a key that is known here; did you mean `region`?"],
        ),
        (
            f"{BASE}number-of-worker = 3\n",
            [
                "4: `setup.number_of_worker` is not a key that is known here; did you mean `number_of_workers`?",
            ],
        ),
        (
            f"{BASE}spot = true\n",
            ["4: `setup.spot` is not a key that is known here; `spot` belongs to [aws]"],
        ),
        (
            f"{BASE}[run]\ninstance-type = 'x'\n",
            ["5: `run.instance_type` is not a key that is known here; `instance_type` belongs to [setup]"],
        ),
        (
            f"{BASE}[run]\nzzz = 1\n",
            ["5: `run.zzz` is not a key that is known here; known: command, setup_commands"],
        ),
        (
            f"{BASE}[setups]\nx = 1\n",
            ["4: `setups` is not a key that is known here; did you mean `setup`?"],
        ),
        (
            "zzz = 1\n" + BASE,
            ["1: `zzz` is not a key that is known here; known: aws, backend, prices, run, setup"],
        ),
        (
            f"{BASE}\"a\\nb\" = 1\n[run]\n'z z' = 1\n",
            [
                (
                    "4: `setup.'a\\nb'` is not a key that is known here; known: daft_version, dependencies, "
                    "disk_size_gb, find_links, idle_timeout, image_id, instance_type, max_lifetime, name, "
                    "number_of_workers, package_index, provider, proxy, python_version, ray_version, region, "
                    "ssh_user, tags"
                ),
                "6: `run.'z z'` is not a key that is known here; known: command, setup_commands",
            ],
        ),
        (
            f"{BASE}number-of-workers = 1\nnumber_of_workers = 2\n",
            [
                (
                    "4: `setup.number-of-workers` is not a key that is known here; "
                    "`number_of_workers` stands there in both spellings"
                )
            ],
        ),
    ],
)
def test_tables_and_keys_that_are_missing_or_unknown(file: Path, text: str, said: list[str]) -> None:
    assert problems(file, text) == said


def test_of_very_many_problems_the_first_are_said(file: Path) -> None:
    file.write_text(f"{BASE}dependencies = [{'1, ' * 10_000}]\n")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    said = [f"  {file}:4: `setup.dependencies[{n}]` must be a string, not 1\n" for n in range(1, 21)]
    assert error.value.message == (f"{file} has 10,000 problems:\n{''.join(sorted(said))}  … and 9,980 more")


def test_a_number_that_python_does_not_write_out(file: Path) -> None:
    assert problems(file, f"{BASE}number_of_workers = 0x{'f' * 5000}\n") == [
        "4: `setup.number_of_workers` must be less than or equal to 5000, not a number of thousands of digits"
    ]


def test_all_problems_are_said_at_once_in_the_order_of_their_lines(file: Path) -> None:
    text = """\
[aws]
spot = "yes"
vpc_id = 1

[setup]
setup_commands = [
  '''
  [run]
  command = 3
  ''',
]
disk_size_gb = 1
name = "CHANGE-ME"
dependencies = ["ok", "", 3]
tags = { a = 1, "b;" = "" }
[backend]
type = "s3"
buket = "b"
[run]
command = 3
"""
    assert problems(file, text) == [
        "2: `aws.spot` must be true or false, not 'yes'",
        "3: `aws.vpc_id` must be a string, not 1",
        "5: `setup.provider` is required and missing",
        "6: `setup.setup_commands` is not a key that is known here; `setup_commands` belongs to [run]",
        "12: `setup.disk_size_gb` must be greater than or equal to 8, not 1",
        "13: `setup.name` is still the placeholder 'CHANGE-ME': give your cluster a name, like 'demo'",
        "14: `setup.dependencies[2]` must not be empty",
        "14: `setup.dependencies[3]` must be a string, not 3",
        "15: `setup.tags.'b;'` tags may hold letters, digits, spaces and _ . : / = + - @, not ';'",
        "15: `setup.tags.a` must be a string, not 1",
        "16: `backend.bucket` is required and missing",
        "18: `backend.buket` is not a key that is known here; did you mean `bucket`?",
        "20: `run.command` must be a string, not 3",
    ]


# Files that cannot be read


def test_there_is_no_file(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert (caught.value.message, caught.value.hint) == (
        f"there is no {file}",
        "write one with `daft init-config`, or name yours with `--config FILE`",
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path} is a directory, not a file",
        f"did you mean `{tmp_path}/.daft.toml`?",
    )


def test_a_way_through_a_file_leads_nowhere(file: Path) -> None:
    file.write_text(BASE)
    with pytest.raises(ConfigError) as caught:
        load_config(file / "x")
    assert caught.value.message == f"{file}/x cannot be read: Not a directory"


def test_sources_of_packages_that_cannot_be(file: Path) -> None:
    text = BASE + (
        "package_index = 'pypi.example.com'\nproxy = 'http://ann:pw@proxy.example.com'\nfind_links = 'wheels'\n"
    )
    assert refusal(file, text)[0] == (
        "FILE has 3 problems:\n"
        "  FILE:4: `setup.package_index` must be an address like 'https://pypi.example.com/simple', "
        "not 'pypi.example.com'\n"
        "  FILE:5: `setup.proxy` must not hold a user name or a password: "
        "let the server tell nodes by their network\n"
        "  FILE:6: `setup.find_links` must be an address like 'https://pypi.example.com/simple', not 'wheels'"
    )


def test_a_state_file_that_git_would_take(file: Path) -> None:
    message, _ = refusal(file, BASE + '[backend]\ntype = "local"\npath = "x.json"\n')
    assert message == (
        "FILE has a problem:\n"
        "  FILE:6: `backend.path` must end in '.tfstate', which stays out of git, not 'x.json'"
    )


def test_text_that_is_not_utf_8(file: Path) -> None:
    assert refusal(file, BASE.encode() + b"# \xe9\n") == (
        "FILE is not UTF-8 text: invalid continuation byte at byte 41",
        "save it as UTF-8",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[setup\n", "line 1, column 7"),
        (f"{BASE}name = 'again'\n", "Cannot overwrite a value"),
        (f"{BASE}[setup]\n", "Cannot declare ('setup',) twice"),
        (f"{BASE}x = \n", "Invalid value (at line 4, column 5)"),
        (f"{BASE}x = 'a\x00'\n", "(at line 4, column 7)"),
        (f"{BASE}number_of_workers = {'9' * 5000}\n", "4300"),
        (f"{BASE}dependencies = {'[' * 5000}{']' * 5000}\n", "nested more than the allowed"),
    ],
)
def test_text_that_is_not_toml(file: Path, text: str, said: str) -> None:
    message, hint = refusal(file, text)
    assert message.startswith("FILE is not valid TOML: ")
    assert said in message  # the parser's own words, which differ between its versions
    assert (message.count("\n"), hint) == (0, "https://toml.io has the rules")


# Another provider


def test_on_this_machine_commands_and_state_of_the_cloud_are_left_behind(file: Path) -> None:
    config = load(file, FULL)
    assert config.on("local").model_dump() == {
        **config.model_dump(),
        "setup": {**config.setup.model_dump(), "provider": "local"},
        "run": {"setup_commands": (), "command": "python main.py --n 3"},
        "backend": {"type": "local", "path": None},
    }
    assert config.setup.provider == "aws"


def test_on_its_own_provider_a_configuration_is_itself(file: Path) -> None:
    config = load(file, BASE.replace("aws", "local") + "[run]\nsetup_commands = ['x']\n")
    assert config.on(None) is config
    assert config.on("local") is config
    assert config.on("aws").model_dump() == {
        **config.model_dump(),
        "setup": {**config.setup.model_dump(), "provider": "aws"},
    }


# As much as `daft down` needs


@pytest.mark.parametrize(
    ("rest", "profile"),
    [
        ("number_of_workers = -3\nzzz = 1\ndependencies = 3\n[run]\ncommand = 3\n[what]\n", None),
        ("[aws]\nprofile = 'dev'\nspot = 3\n[backend]\n", "dev"),
        ("[aws]\nprofile = 3\n", None),
    ],
)
def test_a_file_with_other_mistakes_still_names_its_cluster(
    file: Path, rest: str, profile: str | None
) -> None:
    file.write_text(f'{BASE}region = "eu-west-1"\nssh-user = "ubuntu"\n{rest}')
    assert load_reference(file).model_copy(update={"backend": None}) == ClusterReference(
        name="demo", provider="aws", region="eu-west-1", ssh_user="ubuntu", profile=profile
    )


def test_aws_may_be_no_table_for_a_reference(file: Path) -> None:
    file.write_text(f"aws = 3\n{BASE}")
    assert load_reference(file) == ClusterReference(name="demo", provider="aws")


def test_a_reference_knows_where_the_state_lies_whatever_else_is_wrong(file: Path) -> None:
    bucket = "[backend]\ntype = 's3'\nbucket = 'states'\nkey = 'x'\n"
    file.write_text(f"{BASE}number_of_workers = -3\nzzz = 1\n[aws]\nprofile = 'dev'\n{bucket}")
    config = load_reference(file).bare_config()
    assert config.model_dump(exclude_defaults=True) == {
        "setup": {"name": "demo", "provider": "aws"},
        "aws": {"profile": "dev"},
        "backend": {"type": "s3", "bucket": "states", "key": "x"},
    }


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("type = 's3'", "`backend.bucket` is required and missing"),
        ("type = 's3'\nbucket = 'B'", "`backend.bucket` must be the name of an S3 bucket, not 'B'"),
        ("bucket = 'abc'", "`backend.type` is required and missing"),
    ],
)
def test_a_reference_to_a_state_that_cannot_be_found(file: Path, backend: str, said: str) -> None:
    file.write_text(f"{BASE}[backend]\n{backend}\n")
    with pytest.raises(ConfigError) as caught:
        load_reference(file).bare_config()
    assert (caught.value.message, caught.value.hint) == (
        f"the configuration does not say where the state lies: {said}",
        "`daft up --plan` shows where the problem is",
    )


def test_a_reference_moves_to_another_provider(file: Path) -> None:
    file.write_text(BASE)
    reference = load_reference(file)
    assert reference.on(None) is reference
    assert reference.on("local") == ClusterReference(name="demo", provider="local")


def test_a_file_that_names_no_cluster_is_refused(file: Path) -> None:
    file.write_text("zzz = 1\n[setup]\nname = 'CHANGE-ME'\nspot = 1\n")
    with pytest.raises(ConfigError) as caught:
        load_reference(file)
    assert (caught.value.message, caught.value.hint) == (
        (
            f"{file} has 2 problems:\n"
            f"  {file}:2: `setup.provider` is required and missing\n"
            f"  {file}:3: `setup.name` is still the placeholder 'CHANGE-ME': give your cluster a name, like 'demo'"
        ),
        HINT,
    )
