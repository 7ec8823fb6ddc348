"""What `terraform init` needs and leaves: its environment, the shared provider cache, and when it may be skipped."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from daft_launcher.errors import TerraformError
from daft_launcher.terraform_binary import TerraformBinary

PLUGIN_DIR = "DAFT_TERRAFORM_PLUGIN_DIR"
_LOCK_FILE = ".terraform.lock.hcl"
_CLI_CONFIG = "TF_CLI_CONFIG_FILE"
_PLUGIN_CACHE = "TF_PLUGIN_CACHE_DIR"


def cache_folder() -> Path:
    """Return this program's folder in the user's cache."""
    return user_cache_path("daft-launcher")


def missing_cli_config(environ: Mapping[str, str]) -> str | None:
    """Return the file that TF_CLI_CONFIG_FILE names though it is not there, None when all is well."""
    named = environ.get(_CLI_CONFIG)
    return named if named and not Path(named).is_file() else None


def terraform_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment for Terraform, without what would mix roots up or break the stream."""
    environment = dict(environ)
    # One data directory for all roots would make each use another's providers and backend.
    environment.pop("TF_DATA_DIR", None)
    if missing_cli_config(environ):
        # Terraform goes on without it after a warning in the midst of its JSON; so do we, and warn ourselves.
        environment.pop(_CLI_CONFIG)
    environment |= {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
    if PLUGIN_DIR not in environ and not _chooses_plugin_cache(environment):
        environment[_PLUGIN_CACHE] = str(cache_folder() / "providers")
    return environment


@contextlib.contextmanager
def shared_plugin_cache(directory: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Let one `init` at a time use our provider cache, and start a new root with the versions that are in it.

    Terraform's cache is not safe for several at once, and is only used for versions that the lock file names:
    https://developer.hashicorp.com/terraform/cli/config/config-file#provider-plugin-cache
    """
    cache = cache_folder() / "providers"
    if environment.get(_PLUGIN_CACHE) != str(cache):
        yield
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        guard = (cache.parent / "providers.lock").open("w")
    except OSError as error:
        raise TerraformError(
            f"{cache} cannot be written: {error.strerror}",
            hint="let XDG_CACHE_HOME or TF_PLUGIN_CACHE_DIR name a folder that can",
        ) from None
    with guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        versions = cache.parent / f"providers-{_digest(_requirements(directory))[:16]}.lock.hcl"
        lock_file = directory / _LOCK_FILE
        if versions.exists() and not lock_file.exists():
            _copy_whole(versions, lock_file)
        yield
        if lock_file.exists():
            _copy_whole(lock_file, versions)


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a file whole or not at all: a part of a lock file would end every later init of its root."""
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    # It saves a download, and is not worth failing for where there is no room for it.
    with contextlib.suppress(OSError):
        try:
            shutil.copyfile(source, beside)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)


class InitStamp:
    """Whether a root was initialised for what it is now: backend, requirements, modules, Terraform."""

    def __init__(self, directory: Path, binary: TerraformBinary, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._path = directory / ".terraform" / "daft-init"
        self._runtime = f"{binary.product} {binary.version} {environment.get(PLUGIN_DIR)}"

    def is_current(self) -> bool:
        """Return whether another init would change nothing."""
        try:
            return self._path.read_text(encoding="utf-8") == self._text() and self._providers_are_there()
        except OSError:
            return False

    def write(self) -> None:
        """Remember that the root is initialised."""
        with contextlib.suppress(OSError):
            # A root with a local state and built-in providers alone has no such folder yet.
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(self._text(), encoding="utf-8")

    def _text(self) -> str:
        parts = [self._runtime, _read(self._directory / "backend.tf"), *_requirements(self._directory)]
        # What Terraform itself has noted of the backend: somebody may have initialised the root by hand since.
        parts.append(_read(self._directory / ".terraform" / "terraform.tfstate"))
        return _digest([*parts, _read(self._directory / _LOCK_FILE)])

    def _providers_are_there(self) -> bool:
        providers = self._directory / ".terraform" / "providers"
        return all(path.exists() for path in providers.glob("*/*/*/*/*"))


def _chooses_plugin_cache(environment: Mapping[str, str]) -> bool:
    if environment.get(_PLUGIN_CACHE):
        return True
    home = environment.get("HOME", str(Path.home()))
    config = Path(environment.get(_CLI_CONFIG) or Path(home) / ".terraformrc")
    return "plugin_cache_dir" in _read(config)


def _requirements(directory: Path) -> list[str]:
    """Return the texts that say which modules and providers the root needs."""
    main = re.split(
        r"^(?=provider|variable|module)", _read(directory / "main.tf"), maxsplit=1, flags=re.MULTILINE
    )[0]
    versions = sorted(directory.glob("modules/*/versions.tf"))
    return [main, *(f"{path.parent.name}: {_read(path)}" for path in versions)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
