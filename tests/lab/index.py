"""A package index as a company has one (PEP 503), from wheels that were fetched before the lab closed.

The same server tells a client its address, as checkip.amazonaws.com does.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

#: The machines' Python is that of this system: the only one that every image has.
PYTHON = "/usr/bin/python3"
_BOOTSTRAP = Path(__file__).parents[2] / "terraform" / "aws" / "bootstrap.sh"
_REQUIREMENTS = ("daft[ray]>=0.7", "ray[default]>=2.54", "humanize", "boto3")


def collect() -> Path:
    """Return a folder with wheels for the machines, fetched unless that was done before."""
    requirements = [*_REQUIREMENTS, f"uv=={uv_version()}"]
    key = hashlib.sha256(
        repr((requirements, python_version(), sysconfig.get_platform())).encode()
    ).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "daft-launcher-lab")
    folder = Path(os.environ.get("DAFT_TEST_LAB_CACHE") or cache) / key[:16]
    if not folder.exists():
        print(f"fetching packages for the lab into {folder}", file=sys.stderr)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        _download(partial, requirements)
        partial.rename(folder)
    return folder


def uv_version() -> str:
    """Return the version of uv that the bootstrap script insists on."""
    return str(re.findall(r'^UV = "([0-9.]+)"$', _BOOTSTRAP.read_text(), re.MULTILINE)[0])


@functools.cache
def python_version() -> str:
    """Return the version of the machines' Python, as `python_version` takes it."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _download(folder: Path, requirements: list[str]) -> None:
    # By a pip that runs in the machines' Python, because it is that Python which it chooses for.
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "uv"
    pip = [uv, "run", "--quiet", "--no-project", "--isolated", "--python", PYTHON, "--with", "pip", "pip"]
    fetch = [*pip, "download", "--only-binary=:all:", "--dest", str(folder), *requirements]
    done = subprocess.run(fetch, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f"the lab's packages cannot be fetched:\n{done.stderr}")


class PackageIndex(ThreadingHTTPServer):
    """Serves a folder of wheels for the length of a `with` block."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__((address, 0), functools.partial(_Handler, directory=str(folder)))
        self.origin = f"http://{address}:{self.server_port}"
        self.url = f"{self.origin}/simple/"
        self.checkip_url = f"{self.origin}/checkip"
        self.wheels: dict[str, list[str]] = {}
        for wheel in sorted(folder.glob("*.whl")):
            self.wheels.setdefault(_normal(wheel.name.split("-")[0]), []).append(wheel.name)
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> PackageIndex:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing: uv hangs up when it has read as much of a wheel as it needs."""


class _Handler(SimpleHTTPRequestHandler):
    server: PackageIndex
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        project = re.fullmatch(r"/simple/([^/]+)/", self.path)
        if self.path == "/checkip":
            self._answer(f"{self.client_address[0]}\n")
        elif project and (wheels := self.server.wheels.get(_normal(project[1]))):
            self._answer("".join(f'<a href="../../{name}">{name}</a>\n' for name in wheels))
        else:
            super().do_GET()

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
