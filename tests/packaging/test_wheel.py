"""The wheel as a user gets it: what is in it, and that it works in an environment that holds nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli

from daft_launcher.config import load_config
from daft_launcher.render import render_cluster

CHECKOUT = Path(__file__).parents[2]
METADATA = tomli.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
VERSION = METADATA["version"]
_VERSIONS = "import sys; from importlib.metadata import version; [print(n, version(n)) for n in sys.argv[1:]]"


def _short(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


#: The lower bounds of pyproject.toml.
LOWEST = {
    match[1]: _short(match[2])
    for requirement in METADATA["dependencies"]
    if (match := re.match(r"([\w-]+)>=([\d.]+)", requirement))
}
# What a checkout in use holds and a wheel must not; git ignores some of it, and hatchling what git ignores.
LITTER = (
    "terraform/aws/.terraform/providers/registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64/provider",
    "terraform/aws/.terraform.lock.hcl",
    "terraform/aws/terraform.tfstate",
    "terraform/aws/tests/more.tftest.hcl",
    "terraform/local/.mypy_cache/3.10/cache.db",
    "terraform/local/__pycache__/node.cpython-311.pyc",
    "daft_launcher/__pycache__/cli.cpython-311.pyc",
    "daft_launcher/.ruff_cache/x",
    "templates/.DS_Store",
    ".daft/demo/terraform.tfstate",
)


@dataclass(frozen=True)
class Installer:
    """uv, with the network and the caches of the world outside the tests."""

    uv: Path
    environ: Mapping[str, str]

    def run(self, *words: str | Path) -> None:
        done = subprocess.run(
            [self.uv, *words], env=self.environ, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"uv {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"

    def environment(
        self, folder: Path, *packages: str | Path, python: Path | str = sys.executable
    ) -> Installed:
        """Return a new virtual environment that holds these packages, what they need, and nothing else."""
        self.run("venv", "--quiet", "--no-project", "--python", python, folder / "venv")
        self.run("pip", "install", "--quiet", "--python", folder / "venv" / "bin" / "python", *packages)
        for name in ("home", "elsewhere"):
            (folder / name).mkdir()
        return Installed(folder)


@dataclass(frozen=True)
class Installed:
    """A virtual environment, a clean home, and a folder to work in that has nothing to do with either."""

    folder: Path

    @property
    def here(self) -> Path:
        return self.folder / "elsewhere"

    def run(self, script: str, *words: str) -> tuple[int, str, str]:
        path = self.folder / "venv" / "bin" / script
        environ = {"HOME": str(self.folder / "home"), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [path, *words],
            cwd=self.here,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def versions(self) -> dict[str, str]:
        """Return what of the project's own requirements is installed, with zeros at the end left out."""
        done = self.run("python", "-c", _VERSIONS, *LOWEST)
        return {name: _short(version) for name, version in (line.split() for line in done[1].splitlines())}

    def tree(self, folder: str) -> dict[str, str]:
        root = self.here / folder
        return {
            path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in root.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="session")
def installer(tmp_path_factory: pytest.TempPathFactory, outside_environ: Mapping[str, str]) -> Installer:
    """The uv of this machine, else one that pip installs."""
    search = os.pathsep.join([str(Path(sys.executable).parent), outside_environ.get("PATH", os.defpath)])
    if found := shutil.which("uv", path=search):
        return Installer(Path(found), outside_environ)
    venv = tmp_path_factory.mktemp("uv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], env=outside_environ, check=True)
    subprocess.run(
        [venv / "bin/python", "-m", "pip", "install", "--quiet", "uv"], env=outside_environ, check=True
    )
    return Installer(venv / "bin" / "uv", outside_environ)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, installer: Installer) -> Path:
    """The wheel of this checkout as somebody who works in it would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".venv", ".git", ".daft", "dist", ".*_cache", ".terraform", "*.tfstate")
    shutil.copytree(CHECKOUT, folder / "checkout", ignore=leave, symlinks=True)
    for name in LITTER:
        path = folder / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("litter")
    installer.run("build", "--quiet", "--wheel", "--out-dir", folder / "dist", folder / "checkout")
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, installer: Installer, wheel: Path) -> Installed:
    return installer.environment(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_holds_the_program_its_modules_and_its_templates(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {name: archive.getinfo(name).external_attr >> 16 & 0o777 for name in names}
    info = f"daft_launcher-{VERSION}.dist-info"
    sources = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "daft_launcher").rglob("*.py")}
    assets = {
        f"daft_launcher/{path.relative_to(CHECKOUT).as_posix()}"
        for pattern in ("terraform/*/*.tf", "terraform/*/*.py", "terraform/*/*.sh", "templates/*")
        for path in CHECKOUT.glob(pattern)
        if not path.name.startswith(".")
    }
    about = {
        f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert names == sources | assets | about
    assert wheel.name == f"daft_launcher-{VERSION}-py3-none-any.whl"
    assert {mode & 0o444 for mode in modes.values()} == {0o444}


def test_both_scripts_are_the_same_program(installed: Installed) -> None:
    assert installed.run("daft", "--version") == (0, f"daft-launcher {VERSION}\n", "")
    assert installed.run("daft-launcher", "--version") == (0, f"daft-launcher {VERSION}\n", "")


@pytest.mark.parametrize("provider", ["aws", "local"])
def test_an_empty_environment_renders_what_the_checkout_renders(installed: Installed, provider: str) -> None:
    file = f"{provider}/.daft.toml"
    (installed.here / provider).mkdir()
    status, out, _ = installed.run("daft", "init-config", file, "--name", "demo", "--provider", provider)
    assert (status, out) == (0, "")
    wanted = render_cluster(load_config(installed.here / file)).files
    root = f"{provider}/.daft/{'demo' if provider == 'aws' else 'demo.local'}"
    assert installed.run("daft", "render", "--config", file) == (
        0,
        "",
        f"{root}: {len(wanted)} of {len(wanted)} files written\n",
    )
    assert installed.tree(root) == wanted
    assert installed.run("daft", "render", "-c", file, "--check") == (0, "", "")
    assert list((installed.folder / "home").iterdir()) == []


def test_neither_ray_nor_daft_comes_with_it(installed: Installed) -> None:
    packages = {
        path.name.partition("-")[0] for path in installed.folder.glob("venv/lib/*/site-packages/*.dist-info")
    }
    assert packages & {"ray", "daft", "getdaft", "moto", "pytest"} == set()


def python_of_the_floor(environ: Mapping[str, str]) -> str:
    """Return the oldest Python that the program says it runs on, where this machine has it; else this one."""
    floor = METADATA["requires-python"].removeprefix(">=")
    home = Path(environ.get("HOME", "/nonexistent"))
    found = shutil.which(f"python{floor}", path=environ.get("PATH", os.defpath))
    candidates = [
        *sorted(map(str, home.glob(f".pyenv/versions/{floor}.*/bin/python"))),
        *filter(None, [found]),
    ]
    for candidate in candidates:
        words = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        if done.stdout.strip() == floor:
            return candidate
    return sys.executable


def test_the_lowest_versions_that_are_allowed_will_do(
    tmp_path: Path, installer: Installer, wheel: Path, outside_environ: Mapping[str, str]
) -> None:
    python = python_of_the_floor(outside_environ)
    # What counts as direct for uv is what it is given: the project's own requirements, not the wheel.
    needs = ["--resolution", "lowest-direct", "--requirements", CHECKOUT / "pyproject.toml"]
    lowest = installer.environment(tmp_path, *needs, python=python)
    installer.run("pip", "install", "--quiet", "--no-deps", "--python", tmp_path / "venv/bin/python", wheel)
    assert lowest.versions() == LOWEST
    status, out, err = lowest.run("daft", "--help")
    assert (status, err) == (0, "")
    assert [
        command for command in ("up", "down", "list", "submit", "render") if f" {command} " not in out
    ] == []
    (lowest.here / "full.toml").write_text((CHECKOUT / "tests/golden/full-aws/daft.toml").read_text())
    status, out, err = lowest.run("daft", "render", "--config", "full.toml", "--out", "root")
    assert (status, out) == (0, ""), err
    assert lowest.tree("root") == render_cluster(load_config(lowest.here / "full.toml")).files
    assert lowest.run("daft", "list", "--provider", "local") == (0, "", "no cluster is running\n")
    (lowest.here / "bad.toml").write_text("[setup]\nname = 'x'\nregions = 'y'\n[aws]\nspot = 1\n")
    assert lowest.run("daft", "render", "--config", "bad.toml") == (
        2,
        "",
        (
            "error: bad.toml has 3 problems:\n"
            "  bad.toml:1: `setup.provider` is required and missing\n"
            "  bad.toml:3: `setup.regions` is not a key that is known here; did you mean `region`?\n"
            "  bad.toml:5: `aws.spot` must be true or false, not 1\n"
            "hint: `daft init-config` writes a file that names every key\n"
        ),
    )
    modules = "; ".join(
        f"import daft_launcher.{name}"
        for name in (
            "providers.aws",
            "providers.local",
            "ssh",
            "ray_jobs",
            "job_package",
            "terraform",
            "wiring",
        )
    )
    assert lowest.run("python", "-c", modules) == (0, "", "")
