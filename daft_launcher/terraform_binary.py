"""Which Terraform runs: the user's own, else one on PATH, else the pinned release, fetched and checked."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from daft_launcher.errors import Interrupted, TerraformError
from daft_launcher.terraform_version import Product, read_version

if TYPE_CHECKING:
    import requests

RELEASES_URL = "https://releases.hashicorp.com"
CHOSEN_HINT = "let DAFT_TERRAFORM name a Terraform or OpenTofu 1.11 or newer, or unset it"
WAYS_OUT = (
    "install Terraform 1.11 or newer (https://developer.hashicorp.com/terraform/install), or let"
    " DAFT_TERRAFORM name one; a mirror of the release site can be named in DAFT_TERRAFORM_RELEASES_URL,"
    " a proxy in HTTPS_PROXY"
)

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TerraformBinary:
    """A Terraform or OpenTofu that is there, runs and is new enough; `path` is absolute."""

    path: Path
    product: Product
    version: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release of Terraform, the SHA-256 of its zip by platform, and the bounds of its download."""

    version: str
    sha256: Mapping[str, str]
    read_timeout: float = 30.0
    deadline: float = 900.0
    max_bytes: int = 256 << 20


PINNED = Release(
    version="1.11.4",
    sha256={
        "linux_amd64": "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc",
        "linux_arm64": "a43d1d0da9b9bab214a8305a39db0e40869572594ccf50c416a7756499143633",
        "darwin_amd64": "a56d5002b9f7647291faccc3dd1a70350e60fb61e4c45037629508b8fdc2575b",
        "darwin_arm64": "867e0808fa971217043e25b7a792b10720c79b1546f8a68479b74f138be73e18",
    },
)


def find_terraform(
    *,
    progress: Progress,
    environ: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    release: Release = PINNED,
    platform: str | None = None,
    probe_timeout: float = 15.0,
) -> TerraformBinary:
    """Return the Terraform to run, fetching the pinned release if this machine has none that is new enough.

    `progress` gets one line at a time, and only when something is fetched. Proxies and REQUESTS_CA_BUNDLE
    are those of the process. Raises TerraformError when there is none to run, Interrupted on Ctrl-C.
    """
    if chosen := environ.get("DAFT_TERRAFORM"):
        return _chosen(chosen, environ=environ, timeout=probe_timeout)
    passed_over: list[str] = []
    for name in ("terraform", "tofu"):
        if binary := _on_path(name, passed_over, environ=environ, timeout=probe_timeout):
            return binary
    from platformdirs import user_cache_path

    platform = platform or _this_platform()
    root = cache or user_cache_path("daft-launcher")
    target = root / "terraform" / release.version / platform / "terraform"
    if not shutil.which(target):
        try:
            _check_downloads(environ)
            url = _zip_url(release, platform, environ)
            for trouble in passed_over:
                progress(f"passed over: {trouble}")
            _fetch(url, target, sha256=release.sha256[platform], release=release, progress=progress)
        except TerraformError as error:
            raise TerraformError("; ".join([error.message, *passed_over]), hint=WAYS_OUT) from error
    return TerraformBinary(path=target, product="terraform", version=release.version)


def _chosen(chosen: str, *, environ: Mapping[str, str], timeout: float) -> TerraformBinary:
    """Return the binary that DAFT_TERRAFORM names. Raises TerraformError unless it will do."""
    wanted = str(Path(chosen).expanduser()) if os.sep in chosen else chosen
    found = shutil.which(wanted, path=environ.get("PATH", os.defpath))
    if found is None:
        trouble = "is not on PATH"
        if os.sep in chosen:
            trouble = "is not an executable file" if os.access(wanted, os.F_OK) else "does not exist"
        raise TerraformError(f"DAFT_TERRAFORM names `{chosen}`, which {trouble}", hint=CHOSEN_HINT)
    try:
        return _inspect(Path(found).absolute(), environ=environ, timeout=timeout)
    except TerraformError as error:
        raise TerraformError(f"DAFT_TERRAFORM: {error.message}", hint=CHOSEN_HINT) from error


def _on_path(
    name: str, passed_over: list[str], *, environ: Mapping[str, str], timeout: float
) -> TerraformBinary | None:
    """Return the first binary of that name on PATH if it will do; else say in `passed_over` why not."""
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    if found is None:
        return None
    try:
        return _inspect(Path(found).absolute(), environ=environ, timeout=timeout)
    except TerraformError as error:
        passed_over.append(error.message)
        return None


def _inspect(path: Path, *, environ: Mapping[str, str], timeout: float) -> TerraformBinary:
    """Return the binary at an absolute path. Raises TerraformError unless it runs and is new enough."""
    product, version = read_version(path, environ=environ, timeout=timeout)
    return TerraformBinary(path=path, product=product, version=version)


def _this_platform() -> str:
    """Return this machine's platform as Terraform's releases name it."""
    import platform

    machine = platform.machine().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}_{machine}"


def _check_downloads(environ: Mapping[str, str]) -> None:
    """Raise TerraformError when the user has forbidden downloads."""
    setting = environ.get("DAFT_TERRAFORM_DOWNLOAD", "")
    if setting.lower() == "never":
        raise TerraformError("no Terraform 1.11 or newer was found, and DAFT_TERRAFORM_DOWNLOAD is `never`")
    if setting:
        raise TerraformError(f"DAFT_TERRAFORM_DOWNLOAD is `{setting}`, and the one value it takes is `never`")


def _zip_url(release: Release, platform: str, environ: Mapping[str, str]) -> str:
    """Return where the release's zip is. Raises TerraformError when there is none for the platform."""
    if platform not in release.sha256:
        known = ", ".join(release.sha256)
        raise TerraformError(
            f"no Terraform was found, and there is none to fetch for {platform}, only for {known}"
        )
    base = environ.get("DAFT_TERRAFORM_RELEASES_URL") or RELEASES_URL
    try:
        parts = urlsplit(base)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # The value is not shown: it may hold a password.
        raise TerraformError("DAFT_TERRAFORM_RELEASES_URL is not a web address like `https://host/path`")
    return f"{base.rstrip('/')}/terraform/{release.version}/terraform_{release.version}_{platform}.zip"


def _fetch(url: str, target: Path, *, sha256: str, release: Release, progress: Progress) -> None:
    """Download, check and install the release. Raises TerraformError or Interrupted and keeps nothing."""
    title = f"Terraform {release.version}"
    place = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()
    try:
        nearest = next(folder for folder in target.parents if os.access(folder, os.F_OK))
        with _kept_in(target.parent, title), tempfile.TemporaryFile(dir=nearest):
            pass  # to learn of a read-only cache before the download, not after it
        progress(f"fetching {title} from {place}, once, into `{target.parent}`")
        transfer = _Transfer(url=url, release=release)
        _watch(transfer, progress)
        if transfer.trouble:
            raise TerraformError(f"{title} could not be fetched from {place}: {transfer.trouble}")
        actual = hashlib.sha256(transfer.body).hexdigest()
        if actual != sha256:
            raise TerraformError(f"{title} from {place} is not used: its SHA-256 is {actual}, not {sha256}")
        with _kept_in(target.parent, title):
            _install(transfer.body, target)
    except KeyboardInterrupt:
        hint = "nothing of it is kept; the next run starts it again"
        raise Interrupted(f"the download of {title} was interrupted", hint=hint) from None


@contextmanager
def _kept_in(directory: Path, title: str) -> Iterator[None]:
    """Raise a TerraformError that names the directory for what goes wrong in writing there."""
    try:
        yield
    except (zipfile.BadZipFile, KeyError):
        raise TerraformError(f"{title} is not used: it is no zip with a `terraform` in it") from None
    except OSError as error:
        raise TerraformError(f"{title} cannot be kept in `{directory}`: {error.strerror}") from error


@dataclass(kw_only=True)
class _Transfer:
    """A download into memory: no kill can leave a file behind, and its owner may stop waiting for it."""

    url: str
    release: Release
    body: bytearray = field(default_factory=bytearray)
    total: int | None = None
    trouble: str | None = None

    def run(self) -> None:
        """Download, and set `trouble` when that fails."""
        import requests

        timeout = (10, self.release.read_timeout)
        plain = {"Accept-Encoding": "identity"}
        try:
            with requests.get(self.url, stream=True, timeout=timeout, headers=plain) as response:
                self.trouble = self._receive(response)
        except Exception as error:  # whatever it is, it would otherwise end with the thread, unseen
            self.trouble = _reason(error)

    def _receive(self, response: requests.Response) -> str | None:
        if not response.ok:
            return f"the server answered {response.status_code} {response.reason}".strip()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            return "the server answered with a web page, as the login page of a network does"
        length = response.headers.get("Content-Length", "")
        self.total = int(length) if length.isdecimal() else None
        for piece in response.iter_content(64 << 10):
            self.body += piece
            if len(self.body) > self.release.max_bytes:
                return f"the server sends more than {self.release.max_bytes} bytes"
        return "the connection closed early" if len(self.body) < (self.total or 0) else None


def _watch(transfer: _Transfer, progress: Progress) -> None:
    """Run a transfer and report each tenth of it, until it ends or its deadline passes."""
    # In a thread, because neither a name server nor a server that trickles heeds the timeouts of requests.
    thread = threading.Thread(target=transfer.run, daemon=True)
    thread.start()
    deadline, shown = time.monotonic() + transfer.release.deadline, 0
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.1)
        done, total = len(transfer.body), transfer.total or 0
        if total and done * 10 // total > shown:
            shown = done * 10 // total
            progress(f"Terraform {transfer.release.version}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
    if thread.is_alive():
        transfer.trouble = f"it was not there after {transfer.release.deadline:g} seconds"


def _reason(error: BaseException) -> str:
    """Say in a few words why a request failed."""
    import requests

    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    if any(isinstance(cause, (TimeoutError, requests.Timeout)) for cause in causes):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection closed early"
    if isinstance(error, ValueError) and not isinstance(error, requests.exceptions.InvalidSchema):
        # Its own text may quote the address, and with it a password.
        return "the address of the server or of the proxy is not a valid one"
    deepest = next((cause for cause in reversed(causes) if isinstance(cause, OSError)), error)
    text = getattr(deepest, "strerror", None) or str(deepest)
    return f"proxy: {text}" if isinstance(error, requests.exceptions.ProxyError) else text


def _install(archive: bytearray, target: Path) -> None:
    """Put the zip's binary in place in one step. Raises OSError, BadZipFile or KeyError."""
    with zipfile.ZipFile(io.BytesIO(archive)) as contents, contents.open("terraform") as binary:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".terraform-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(binary, file, 1 << 20)
                file.flush()
                os.fsync(descriptor)  # a power cut must not leave an empty file under the final name
            Path(name).chmod(0o755)
            if not os.access(name, os.X_OK):
                raise PermissionError(errno.EACCES, "no program may be run from there")
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
