#!/usr/bin/env python3
"""Stands in for uv, python, ray, systemctl and shutdown on a node: writes down how it was called, then does little."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
root = Path(os.environ["DAFT_ROOT"])
with (root / "calls").open("a") as calls:
    calls.write(json.dumps({"name": name, "argv": arguments, "env": dict(os.environ)}) + "\n")

answers = json.loads((root / "answers").read_text())
if (name, arguments) == ("uv", ["--version"]):
    print("uv 0.13.9 (x86_64-unknown-linux-gnu)")
elif (name, arguments[:1]) == ("uv", ["venv"]):
    binaries = Path(arguments[-1], "bin")
    binaries.mkdir(parents=True, exist_ok=True)
    for stub in ("python", "ray"):
        shutil.copy(__file__, binaries / stub)  # with its mode
elif (name, arguments[:1], arguments[-1:]) == ("systemctl", ["start"], ["daft-ray.service"]):
    node = subprocess.Popen(
        ["bash", f"{root}/opt/daft/bootstrap.sh", "run"], start_new_session=True, stderr=subprocess.DEVNULL
    )
    (root / "run.pid").write_text(str(node.pid))
elif name == "ray" and (root / "crash").exists():
    (root / "crash").rename(root / "crashed")
    print("Ray lost its head", flush=True)
    sys.exit(3)
elif name == "ray":
    signal.pause()
if arguments[:1] and arguments[0] in answers.get(name, {}):
    text, code = answers[name][arguments[0]]
    print(text, file=sys.stderr, flush=True)
    sys.exit(code)
