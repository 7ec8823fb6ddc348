"""Every string that a configuration takes comes out of Terraform as it went in."""

from __future__ import annotations

import json
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from daft_launcher.config_types import Command
from daft_launcher.rendered import to_hcl
from daft_launcher.terraform_binary import TerraformBinary

_AWKWARD = [
    *(
        "${",
        "%{",
        "$${",
        "%%{",
        "$",
        "%",
        "{",
        "}",
        "~}",
        "${~",
        '"',
        "'",
        "\\",
        "\\n",
        "\n",
        "\t",
        "\\u0041",
    ),
    *(
        "<<EOT\n",
        "EOT",
        "#",
        "//",
        "/*",
        "*/",
        "`",
        "\u2028",
        "\ufeff",
        "\u200d",
        "🎉",
        "é",
        "\U0010ffff",
        " ",
    ),
]
_CHARACTERS = st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n\t")
_STRINGS = (
    st.lists(st.sampled_from(_AWKWARD) | st.text(_CHARACTERS, max_size=4), min_size=1, max_size=10)
    .map("".join)
    .filter(lambda text: text.strip() and unicodedata.is_normalized("NFC", text))
)


def some_strings() -> list[str]:
    found: list[str] = [*(f"a{piece}b{piece}" for piece in _AWKWARD), "".join(_AWKWARD)]

    @settings(max_examples=400, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_STRINGS)
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return found


@pytest.mark.real
def test_strings_survive_terraform(tmp_path: Path, real_terraform: TerraformBinary) -> None:
    strings = some_strings()
    check = TypeAdapter(Command).validate_python
    assert [check(text) for text in strings] == strings
    values = {f"s{number}": text for number, text in enumerate(strings)} | {
        "list": strings,
        "map": {text: text for text in strings},
    }
    root = "".join(f'output "{name}" {{\n  value = {to_hcl(value)}\n}}\n' for name, value in values.items())
    (tmp_path / "main.tf").write_text(root, encoding="utf-8")
    for words in (["init"], ["apply", "-auto-approve"]):
        command = [real_terraform.path, *words, "-no-color", "-input=false"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [real_terraform.path, "output", "-json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seen = {name: output["value"] for name, output in json.loads(done.stdout).items()}
    assert seen == values
