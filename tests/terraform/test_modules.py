"""Both Terraform modules by Terraform's own means: formatted, valid, and passing their own tests offline."""

import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[2] / "terraform"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["aws", "local"])
def module(request, tmp_path_factory, plugin_dir):
    """A copy of a module, initialised; `init` leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("module") / request.param
    shutil.copytree(MODULES / request.param, copy, ignore=shutil.ignore_patterns(".terraform*"))
    options = [f"-plugin-dir={plugin_dir}"] if plugin_dir else []
    done = terraform(copy, "init", "-backend=false", "-input=false", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


def terraform(folder, *arguments):
    return subprocess.run(["terraform", *arguments, "-no-color"], cwd=folder, capture_output=True, text=True)


def test_the_modules_are_in_terraforms_own_format():
    done = terraform(MODULES, "fmt", "-check", "-recursive")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_module_is_valid(module):
    done = terraform(module, "validate")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.strip() == "Success! The configuration is valid."


def test_a_module_passes_its_own_tests(module):
    done = terraform(module, "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
