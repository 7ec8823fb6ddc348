"""`make lab-shell`: a shell on a computer whose AWS is the lab, in a folder of its own. The lab ends with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.lab import index
from tests.lab.lab import Lab

_TOML = """\
[setup]
name = "demo"
provider = "aws"
python_version = "{python}"
package_index = "{index}"
"""


def main() -> None:
    # Inside, /run is in memory and nobody else's: it goes with the lab.
    home = Path("/run/home")
    home.mkdir()
    with Lab(Path("/run/machines")) as lab:
        (home / ".daft.toml").write_text(_TOML.format(python=index.python_version(), index=lab.packages.url))
        print(
            f"AWS is {lab.cloud.url}, machines keep their logs in {lab.folder}: try `daft up`; `exit` ends it all"
        )
        environ = lab.environment(os.environ) | {"HOME": str(home), "PS1": r"lab:\w\$ "}
        subprocess.run(["bash", "--norc"], cwd=home, env=environ, check=False)


if __name__ == "__main__":
    main()
