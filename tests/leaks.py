"""A search for secrets in what the tests leave behind and in what they have sent: the secrets that they know, and what
looks like one. It looks into zips, gzip and base64 too, since plans are zips and user data is the other two.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

#: The private key that `up` makes has this place, and the token of a cluster at home that one.
_KEY, _TOKEN = "id_ed25519", "run/token"
#: What `daft dashboard` says before it shows the token for its user to paste.
SHOWN = b"when the page asks for an authentication token, paste this one and press Submit: "
_SHOWN_TOKEN = re.compile(re.escape(SHOWN) + rb"\w+")
_WRITES_SECRET = "ssm PutParameter"
_TOKEN_LENGTH = 64
_STATE_DIR, _OUTPUT, _LAB_OUTPUT = ".daft", ".output", {"out", "err"}
#: Programs of others, which hold nothing of the user's.
_NOT_OURS = {"providers", "venv", "terraform", "terraform-plugins", "node_modules"}
_DEPTH = 5
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{80,}={0,2}")
_PEM = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
# The one of AWS's own documentation is nobody's; moto answers with it when it is asked who somebody is.
_ACCESS_KEY = re.compile(rb"\b(?!AKIAIOSFODNN7EXAMPLE\b)(?:AKIA|ASIA)[0-9A-Z]{16}\b")
_ASSIGNED = re.compile(
    rb"""(?i)[a-z_]*(?:token|password|passwd|secret|api_?key|access_?key)\\?["']?\s*[:=]\s*\\?["']?"""
    rb"""([A-Za-z0-9+/_-]{20,}={0,2})"""
)
_LOOKS_RANDOM = 3.5  # bits a character: of hexadecimal digits at random it is nearly 4, of words about 3


@dataclass
class Search:
    """What is looked for, and what was looked at."""

    known: dict[bytes, str] = field(default_factory=dict)
    files: int = 0
    requests: int = 0
    bytes: int = 0
    _sent: dict[tuple[str, bytes], None] = field(default_factory=dict)

    def learn(self, name: str, secret: str) -> None:
        """Know a secret from now on."""
        self.known[secret.encode()] = name

    def learn_credentials(self, answer: str) -> None:
        """Know what AWS has given to who took a role."""
        for kind in ("SecretAccessKey", "SessionToken"):
            for secret in re.findall(rf"<{kind}>(.+?)</{kind}>", answer):
                self.learn(f"a role's {kind}", secret)

    def note(self, call: str, body: bytes) -> None:
        """Keep a request that reached AWS for the search; what a head writes into its cluster's secret is learnt."""
        self._sent[call, body] = None
        if call == _WRITES_SECRET:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.learn("Ray's token", json.loads(json.loads(body)["Value"])["token"])

    def learn_key(self, path: Path) -> None:
        """Know the private half of a key."""
        text = path.read_bytes()
        if _PEM.match(text):  # tests that read no key put any words there
            self.known[b"".join(text.splitlines()[1:-1])[-60:]] = "a private key"

    def in_files(self, base: Path) -> list[str]:
        """Return where something is found below a folder, whose keys and tokens are learnt first."""
        paths = list(files_of_users(base))
        for path in paths:
            if path.name == _KEY:
                self.learn_key(path)
            elif path.match(_TOKEN) and len(token := path.read_text().strip()) == _TOKEN_LENGTH:
                self.learn("Ray's token", token)
        return sorted({f"{path}: {leak}" for path in paths for leak in self._in_file(path)})

    def in_requests(self) -> list[str]:
        """Return the calls in whose bodies something is found; the one that writes the secret is its place."""
        elsewhere = [(call, body) for call, body in self._sent if call != _WRITES_SECRET]
        self.requests = len(elsewhere)
        return sorted({f"{call}: {leak}" for call, body in elsewhere for leak in self.in_data(body)})

    def in_data(self, data: bytes) -> set[str]:
        """Return what is found in some bytes, and in what is folded into them."""
        self.bytes += len(data)
        return {leak for layer in unfold(data) for leak in self._in_layer(layer)}

    def _in_file(self, path: Path) -> set[str]:
        if path.name == _KEY or path.match(_TOKEN):
            return set()
        self.files += 1
        with contextlib.suppress(FileNotFoundError):  # of a Terraform that ends by itself
            return self.in_data(_SHOWN_TOKEN.sub(b"", path.read_bytes()))
        return set()

    def _in_layer(self, data: bytes) -> Iterator[str]:
        flat = data.replace(b"\\n", b"").replace(b"\n", b"")
        yield from (name for secret, name in self.known.items() if secret in flat)
        if _PEM.search(data):
            yield "a private key's first line"
        if _ACCESS_KEY.search(data):
            yield "an AWS access key"
        for value in _ASSIGNED.findall(data):
            if entropy(value) > _LOOKS_RANDOM and re.search(rb"\d", value):
                yield "what is called a secret and looks random"


#: The search of this session: whoever makes a secret tells it.
SEARCH = Search()


def files_of_users(base: Path) -> Iterator[Path]:
    """Yield the files of state directories, of the program's cache and of its output, and saved plans."""
    for folder, folders, names in os.walk(base):
        here = Path(folder)
        folders[:] = [name for name in folders if name not in _NOT_OURS]
        inside = bool({_STATE_DIR, "daft-launcher"} & set(here.relative_to(base).parts))
        output = here.name.endswith(_OUTPUT) or set(names) == _LAB_OUTPUT
        for name in names:
            path = here / name
            if (inside or output or name.endswith("plan")) and path.is_file() and not path.is_symlink():
                yield path


def unfold(data: bytes, depth: int = _DEPTH) -> Iterator[bytes]:
    """Yield some bytes, and what comes out of them when they are unpacked and decoded, again and again."""
    yield data
    if depth:
        for inner in _inside(data):
            yield from unfold(inner, depth - 1)


def entropy(text: bytes) -> float:
    """Return how many bits a character of a text tells."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _inside(data: bytes) -> Iterator[bytes]:
    with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):
        if data[:2] == b"\x1f\x8b":
            yield gzip.decompress(data)
            return
    with contextlib.suppress(OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        if data[:4] == b"PK\3\4":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                yield archive.comment
                yield from map(archive.read, archive.namelist())
            return
    plain = unquote_to_bytes(data) if b"%2" in data else data
    for match in _BASE64.finditer(plain):
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4))
