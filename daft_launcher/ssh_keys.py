"""Private key files: made, found, checked and read. Only the public half ever leaves this program."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from daft_launcher.errors import StateError, TunnelError
from daft_launcher.state_dir import PRIVATE_KEY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey

GENERATED_KEY = PRIVATE_KEY

_MAX_BYTES = 1 << 16
_OPENSSH_HEADER = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_OPENSSH_MAGIC = b"openssh-key-v1\0"


def make_key_pair(path: Path) -> str:
    """Return the public line of the private key at `path`; the key is made, ed25519, unless it is there."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return public_key_of(path)
    except OSError as error:
        raise StateError(f"cannot write the key `{path}`: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
    except OSError as error:
        path.unlink()  # a key cut short would be taken for the user's own from now on
        raise StateError(f"cannot write the key `{path}`: {error.strerror}") from error
    return public_key_of(path)


def public_key_of(path: Path) -> str:
    """Return the public half of a private key file as `TYPE BASE64`; a comment might name its owner.

    A passphrase is no obstacle to OpenSSH's own format, which keeps the public half readable. For a PEM file
    with one the `.pub` beside it is believed.
    """
    from cryptography.hazmat.primitives import serialization

    key = load_private_key(path)
    if key is None:
        return _readable_public_half(path) or _public_file_beside(path)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode("ascii")


def find_identity(*, explicit: Path | None, directory: Path, ssh_key_name: str | None) -> Path | None:
    """Return the private key file to log in with; None stands for the SSH agent.

    `explicit` is what the user named. Without it the key that `up` made in the cluster's `directory` comes
    first, then `ssh_key_name` in ~/.ssh.
    """
    if explicit is not None:
        return explicit.expanduser()
    candidates = [directory / GENERATED_KEY]
    if ssh_key_name and Path(ssh_key_name).name == ssh_key_name:
        home = Path("~/.ssh").expanduser()
        candidates += [home / ssh_key_name, home / f"{ssh_key_name}.pem"]
    return next((path for path in candidates if path.is_file()), None)


def load_private_key(path: Path) -> PrivateKey | None:
    """Return the key of a file, None when a passphrase protects it. Raises TunnelError when it is no key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    data = _read(path)
    openssh = _OPENSSH_HEADER in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError:  # this is how cryptography asks for a passphrase
        return None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey)):
        raise TunnelError(
            f"`{path}` is damaged or of a kind that cannot be used here",
            hint="Ed25519, ECDSA and RSA keys in OpenSSH's format or PEM can",
        )
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise TunnelError(f"cannot read the private key `{path}`: {error.strerror}") from error
    if b"PRIVATE KEY-----" not in data:
        hint = "the private half has the same name without `.pub`" if path.suffix == ".pub" else None
        raise TunnelError(f"`{path}` is not a private key", hint=hint)
    if mode & 0o077:
        raise TunnelError(
            f"the private key `{path}` can be read or changed by other users (mode {mode:04o})",
            hint=f"`chmod 600 {path}`",
        )
    return data


def _readable_public_half(path: Path) -> str | None:
    data = _read(path)
    if _OPENSSH_HEADER not in data:
        return None
    blob = base64.b64decode(b"".join(line for line in data.splitlines() if not line.startswith(b"--")))
    # PROTOCOL.key: magic, cipher, kdf, kdf's options, number of keys, and then the public half of each.
    rest = blob[len(_OPENSSH_MAGIC) :]
    for _ in range(3):
        _, rest = _take_string(rest)
    public, _ = _take_string(rest[4:])
    kind, _ = _take_string(public)
    return f"{kind.decode('ascii')} {base64.b64encode(public).decode('ascii')}"


def _take_string(data: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _public_file_beside(path: Path) -> str:
    try:
        kind, public, *_ = path.with_name(f"{path.name}.pub").read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise TunnelError(
            f"the public half of `{path}` cannot be read without its passphrase",
            hint=f"`ssh-keygen -y -f {path} > {path}.pub`",
        ) from error
    return f"{kind} {public}"
