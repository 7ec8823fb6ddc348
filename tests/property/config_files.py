"""Whole `.daft.toml` files as text: right ones, nearly right ones, and files that were written to do harm."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from daft_launcher.config import ClusterConfig, LocalBackend, S3Backend
from tests.property.hostile import CONTROLS, accepted_texts, texts

_LINES = accepted_texts()
_TAGS = st.text(
    st.characters(categories=("L", "N"), include_characters=" _.:/=+-@"), min_size=1, max_size=20
).filter(
    lambda text: (
        unicodedata.is_normalized("NFC", text) and not text.lower().startswith(("aws:", "daft:", "name"))
    )
)
_VERSIONS = (
    st.sampled_from(["3.12", "3.11.4"]),
    st.sampled_from(["2.60.0", "2.54"]),
    st.sampled_from(["0.7.26"]),
)
_URLS = st.sampled_from(["https://pypi.example.com/simple", "http://[2001:db8::1]:8080/?a=${x}&b=%{y}"])
_PRICES = st.dictionaries(
    st.sampled_from(["m7g.medium", "u-6tb1.112xlarge"]), st.sampled_from([0, 0.07, 1e6])
)

#: A right value for each key; a test below sees to it that each key of the models has one.
RIGHT: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "setup": {
        "name": st.sampled_from(["demo", "a", "a-b_c9"]),
        "provider": st.sampled_from(["aws", "local"]),
        "region": st.sampled_from(["us-west-2", "us-gov-east-1"]),
        "ssh_user": st.sampled_from(["ec2-user", "_x"]),
        "number_of_workers": st.sampled_from([0, 2, 5000]),
        "instance_type": st.sampled_from(["m7g.medium", "u-6tb1.112xlarge"]),
        "image_id": st.just("ami-01c3c55948a949a52"),
        "dependencies": st.lists(_LINES, max_size=4),
        "python_version": _VERSIONS[0],
        "ray_version": _VERSIONS[1],
        "daft_version": _VERSIONS[2],
        "package_index": _URLS,
        "find_links": _URLS | _LINES.map(lambda text: f"/{text}"),
        "proxy": _URLS,
        "disk_size_gb": st.sampled_from([8, 16384]),
        "tags": st.dictionaries(_TAGS, _TAGS, max_size=3),
        "max_lifetime": st.sampled_from(["8h", "1d12h"]),
        "idle_timeout": st.sampled_from(["30m", "999999d"]),
    },
    "run": {
        "setup_commands": st.lists(accepted_texts(controls="\n\t"), max_size=4),
        "command": accepted_texts(controls="\n\t"),
    },
    "aws": {
        "profile": _LINES,
        "vpc_id": st.just("vpc-0123456789abcdef0"),
        "subnet_id": st.just("subnet-01234567"),
        "ssh_allowed_cidrs": st.just(["203.0.113.7/32", "2001:db8::/32"]),
        "ssh_key_name": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
        "iam_instance_profile": st.just("mine+=,.@-"),
        "iam_policy_arns": st.just(["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]),
        "spot": st.booleans(),
    },
    "backend": {
        "type": st.sampled_from(["s3", "local"]),
        "path": _LINES.map(lambda text: f"{text}.tfstate"),
        "bucket": st.just("abc"),
        "key": _LINES.map(lambda text: f"a{text}b"),
        "region": st.just("eu-north-1"),
        "profile": _LINES,
        "kms_key_id": _LINES,
        "encrypt": st.booleans(),
        "use_lockfile": st.booleans(),
        "assume_role": st.fixed_dictionaries(
            {"role_arn": st.just("arn:aws:iam::123456789012:role/x")}, optional={"external_id": _LINES}
        ),
        "allowed_account_ids": st.just(["123456789012"]),
        "endpoints": st.dictionaries(st.sampled_from(["s3", "sts"]), _URLS),
        "use_path_style": st.booleans(),
        "skip_credentials_validation": st.booleans(),
        "skip_requesting_account_id": st.booleans(),
        "skip_region_validation": st.booleans(),
        "skip_s3_checksum": st.booleans(),
    },
    "prices": {"instance_hour": _PRICES, "spot_hour": _PRICES, "gp3_gb_month": st.just(0.07)},
}
#: Values written as TOML, most of which no key takes.
ODD = st.one_of(
    texts(*CONTROLS).map(lambda text: quoted(text)),
    st.sampled_from(
        [
            *(
                "0",
                "-1",
                "1e400",
                "nan",
                "-inf",
                "0x" + "f" * 5000,
                "9" * 4000,
                "9" * 5000,
                "0b1",
                "1_0",
                "0.1",
            ),
            *(
                "true",
                "[]",
                "{}",
                "[[]]",
                "[{}]",
                "{ a.b.c = 1 }",
                "1979-05-27",
                "07:32:00",
                '["a", 1]',
                "[1.5]",
            ),
            *(
                "1979-05-27T07:32:00-08:00",
                r'"\ud800"',
                r'"\u202e"',
                r'"\U000E0041"',
                '"\x1b"',
                '"""\n"""',
                "''",
            ),
            *(
                "'''\n${x}'''",
                r'"\x1b[31m"',
                r'"\u001b"',
                r'"\u0000"',
                "[" * 200 + "]" * 200,
                "[",
                '"',
                "=",
                "",
            ),
            *('"' + "x" * 70000 + '"', "[" + '"x",' * 1500 + "]", '["e\u0301"]', '"e\u0301"', '"\u2028"'),
        ]
    ),
)


def keys_of(table: str) -> set[str]:
    """Return the keys that the models know in a table."""
    if table == "backend":
        return {*S3Backend.model_fields, *LocalBackend.model_fields}
    model = ClusterConfig.model_fields[table].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return set(model.model_fields)


def quoted(text: str) -> str:
    """Return a TOML string, in which only what has to be is written as an escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def to_toml(value: object) -> str:
    """Return a value as TOML, tables inline."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(key)} = {to_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return json.dumps(value)


@st.composite
def right_tables(draw: st.DrawFn, provider: str | None = None) -> dict[str, dict[str, Any]]:
    """Draw the tables of a file in which nothing is wrong."""
    tables: dict[str, dict[str, Any]] = {}
    for table, keys in RIGHT.items():
        required = {"name", "provider"} if table == "setup" else set()
        tables[table] = {
            key: draw(value) for key, value in keys.items() if key in required or draw(st.booleans())
        }
    if provider:
        tables["setup"]["provider"] = provider
    if "iam_instance_profile" in tables["aws"]:
        tables["aws"].pop("iam_policy_arns", None)
    kind = draw(st.sampled_from(["s3", "local"]))
    known = S3Backend.model_fields if kind == "s3" else LocalBackend.model_fields
    backend = {key: value for key, value in tables["backend"].items() if key in known}
    tables["backend"] = backend | {"type": kind} | ({"bucket": "abc"} if kind == "s3" else {})
    if tables["backend"].get("encrypt") is False:
        tables["backend"].pop("kms_key_id", None)
    return tables


def to_file(tables: Mapping[str, Mapping[str, str]]) -> str:
    """Return a file of these tables, whose values are TOML already."""
    return "".join(
        f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for table, keys in tables.items()
    )


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Draw a file in which a few things are wrong, or none."""
    tables = {
        table: {key: to_toml(value) for key, value in keys.items()}
        for table, keys in draw(right_tables()).items()
    }
    for _ in range(draw(st.integers(0, 3))):
        table = draw(st.sampled_from([*RIGHT, "jobs"]))
        key = draw(
            st.sampled_from([*RIGHT.get(table, {}), "names", "instance-type"]) | texts(*CONTROLS).map(quoted)
        )
        tables.setdefault(table, {})[key] = draw(ODD)
    data = to_file(tables).encode("utf-8", "surrogatepass")
    return draw(st.sampled_from(MISHAPS))(data)


#: What can happen to a whole file.
MISHAPS = [
    *[bytes] * 12,
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.replace(b"\n", b"\r\n"),
    lambda data: data + b"\xff",
    lambda data: data.replace(b"m", b"\xe9", 1),
    lambda data: data.decode(errors="replace").encode("utf-16"),
    lambda data: data + b"[setup]\n",
    lambda data: data + b"\x00",
    lambda data: data[: len(data) // 2],
    lambda data: b"\xef\xbb\xbf\xef\xbb\xbf" + data,
    lambda data: data + b"# \x1b[31m \xe2\x80\xae",
    lambda data: data + b"x = " + b"[" * 5000,
    lambda data: data + b"[" + b".".join([b"a"] * 2000) + b"]\n",
]
