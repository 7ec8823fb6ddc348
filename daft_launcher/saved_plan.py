"""A plan on disk: Terraform's own file, and at its end what it was made from, which has to hold when it is applied.

What it was made from stands in the comment of the zip that a plan file is. So there is one file to hand on, which
`terraform show` reads too, and Terraform's own bytes can be had back. The format:
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, section 4.3.16
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daft_launcher.errors import StateError

LOCK_FILE = ".terraform.lock.hcl"
_TITLE = "daft-launcher plan "
_FORMAT = "1"
_LONGEST_COMMENT = 0xFFFF
# The end of a zip without a comment: a record of 22 bytes, of which the last two are the comment's length.
_END, _END_BYTES, _LENGTH_BYTES = b"PK\5\6", 22, 2
_PLAN, _STATE = "tfplan", "tfstate"


@dataclass(frozen=True, kw_only=True)
class StateVersion:
    """Which of its versions a Terraform state is in; without a state, serial 0 of no lineage."""

    lineage: str = ""
    serial: int = 0


class SavedPlanError(StateError):
    """A saved plan is not what its time of applying needs any more; the message says in which respect."""

    def __init__(self, path: Path, reason: str, *, hint: str | None = None) -> None:
        again = f"make a new one with `daft up --plan --out {path}`"
        super().__init__(f"{path} is not applied: {reason}", hint=hint or again)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a plan was made from: all of it has to be the same when the plan is applied.

    `account` is the provider's own; `files` are the SHA-256 of the rendered files by path; `operator` are the
    Terraform variables of the machine that planned, which stay the plan's. `own_key` is True when the key that
    they let in was made for this plan alone.
    """

    name: str
    provider: str
    region: str
    account: str
    files: Mapping[str, str]
    operator: Mapping[str, object]
    terraform: str
    launcher: str
    own_key: bool


@dataclass(frozen=True, kw_only=True)
class SavedPlan:
    """A plan as it was read from `path`: Terraform's bytes, and where they come from.

    `state` is the version of the state that it was made on, `lock` the text of Terraform's lock file.
    """

    path: Path
    origin: Origin
    terraform_plan: bytes
    state: StateVersion
    lock: str


def digest_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of rendered files, by path."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}


def version_of(state: Mapping[str, Any]) -> StateVersion:
    """Return the version of a state as Terraform keeps it, which is empty where there is none."""
    return StateVersion(lineage=str(state.get("lineage", "")), serial=int(state.get("serial", 0)))


def provider_versions(lock: str) -> dict[str, str]:
    """Return the versions that the text of Terraform's lock file selects, by provider."""
    return {name: version for name, (version, _) in read_lock(lock).items()}


def read_lock(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the version of each provider in the text of Terraform's lock file, and the checksums it may have."""
    blocks = re.findall(r'^provider "([^"]+)" \{$(.*?)^\}$', lock, re.MULTILINE | re.DOTALL)
    versions = {name: re.search(r'^\s*version\s*=\s*"([^"]+)"', body, re.MULTILINE) for name, body in blocks}
    hashes = {name: frozenset(re.findall(r'"((?:h1|zh):[^"]+)"', body)) for name, body in blocks}
    return {name: (version[1], hashes[name]) for name, version in versions.items() if version}


def check_target(path: Path) -> None:
    """Raise StateError unless a plan may be saved there: in a folder that is, over nothing or over a plan of ours."""
    if path.is_symlink() or (path.exists() and not _is_ours(path)):
        raise StateError(
            f"{path} is in the way: it is no saved plan, and is never overwritten",
            hint="move it away, or name another file with `--out`",
        )
    if not path.parent.is_dir():
        raise StateError(f"{path} cannot be written: there is no folder {path.parent}")


def write_saved_plan(path: Path, terraform_plan: bytes, origin: Origin) -> None:
    """Put a plan in its place in one step, for the user alone from its first byte on. Raises StateError."""
    content = _join(terraform_plan, origin)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateError(
            f"{path} cannot be written: {error.strerror}", hint="name another file with `--out`"
        ) from None


def read_saved_plan(path: Path) -> SavedPlan:
    """Return a plan that was saved whole. Raises StateError, with the reason, for any other file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror}", hint="make it with `daft up --plan --out FILE`"
        ) from None
    plan, comment = _split(path, content)
    title, _, text = comment.partition(b"\n")
    saved_as, _, seal = title.decode(errors="replace").removeprefix(_TITLE).partition(" ")
    if saved_as != _FORMAT:
        raise SavedPlanError(path, "another version of daft-launcher has saved it")
    if seal != _seal(plan, text):
        raise _damaged(path)
    import zipfile  # slow to load, and most runs of `up` read no plan

    try:
        origin = Origin(**json.loads(text))
        with zipfile.ZipFile(io.BytesIO(plan)) as parts:
            state = version_of(json.loads(parts.read(_STATE)))
            lock = parts.read(LOCK_FILE).decode() if LOCK_FILE in parts.namelist() else ""
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile):
        raise _damaged(path) from None
    return SavedPlan(path=path, origin=origin, terraform_plan=plan, state=state, lock=lock)


def _join(plan: bytes, origin: Origin) -> bytes:
    text = json.dumps(asdict(origin), sort_keys=True, separators=(",", ":")).encode()
    comment = f"{_TITLE}{_FORMAT} {_seal(plan, text)}\n".encode() + text
    if plan[-_END_BYTES:][: len(_END)] != _END or len(comment) > _LONGEST_COMMENT:
        raise StateError("Terraform's plan cannot be saved: it is not a file of the kind that is known")
    return plan[:-_LENGTH_BYTES] + _length(comment) + comment


def _split(path: Path, content: bytes) -> tuple[bytes, bytes]:
    """Return Terraform's own bytes and what we have added. Raises StateError when nothing of ours is there."""
    hint = "make one with `daft up --plan --out FILE`"
    if not content.startswith(b"PK"):
        raise StateError(f"{path} is not a saved plan", hint=hint)
    end = content.rfind(_END) + _END_BYTES
    comment = content[end:]
    if end < _END_BYTES or content[end - _LENGTH_BYTES : end] != _length(comment):
        raise _damaged(path)
    if comment.startswith(_TITLE.encode()):
        return content[: end - _LENGTH_BYTES] + _length(b""), comment
    if _PLAN.encode() in content:
        hint = f"apply it with `terraform apply`, or {hint}"
        raise StateError(f"{path} is a plan of Terraform's own, which `daft up` did not save", hint=hint)
    raise StateError(f"{path} is not a saved plan", hint=hint)


def _length(comment: bytes) -> bytes:
    return len(comment).to_bytes(_LENGTH_BYTES, "little")


def _seal(plan: bytes, text: bytes) -> str:
    return hashlib.sha256(plan + text).hexdigest()


def _damaged(path: Path) -> StateError:
    return StateError(
        f"{path} is cut short or damaged",
        hint=f"copy it again, or make a new one with `daft up --plan --out {path}`",
    )


def _is_ours(path: Path) -> bool:
    """Return whether a file is a plan that we have saved, whatever became of it."""
    with contextlib.suppress(OSError):
        if path.is_file():
            content = path.read_bytes()
            return content.startswith(b"PK") and _END in content and _TITLE.encode() in content
    return False
