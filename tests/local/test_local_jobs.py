"""Jobs on a real cluster of this machine: submit, follow, list, stop."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from localkit import Project, Seen, failed

pytestmark = pytest.mark.real

QUERY = Path(__file__).parents[2] / "examples/demo/job"
WORDS = [
    "a b",
    'it\'s "quoted"',
    "$HOME $(id) `id` ${x}",
    "two\nlines",
    "back\\slash",
    "",
    "*",
    "~",
    "日本 😀",
    "--flag",
    "#",
    "!",
    "%{ if }",
]


def test_the_demos_query_is_computed_on_several_nodes(demo: Project):
    seen = demo.daft("submit", "-w", str(QUERY), "--env", "DAFT_PROGRESS_BAR=0", "--", "python", "query.py")
    # Ray's own words on the way, each with its time, are the job's output too.
    lines = [line for line in seen.out.splitlines() if not line.startswith("TIME,")]
    assert (seen.status, seen.err, lines[0]) == (0, "", "daft-ID")
    rows = [
        [cell.strip() for cell in line.split("┆")] for line in lines if "┆" in line and line.startswith("│")
    ]
    assert [row[0].strip("│ ") for row in rows] == [
        "district",
        "---",
        "String",
        "Centre",
        "Harbour",
        "North",
        "Old Town",
        "South",
    ]
    assert [row[1] for row in rows[3:]] == ["200000"] * 5
    nodes = re.fullmatch(r"computed on ([23]) Ray nodes", lines[-1])
    assert nodes, lines


def test_words_and_environment_arrive_intact(demo: Project):
    value = "é $ `id`\n'\" = %"
    seen = demo.submit("python", "main.py", *WORDS, options=("--env", f"GREETING={value}"))
    assert seen == Seen(0, f"daft-ID\n{json.dumps({'argv': WORDS, 'greeting': value})}\n")


def test_the_files_command_runs_when_none_is_given(demo: Project):
    expected = json.dumps({"argv": ["from the file"], "greeting": None})
    assert demo.submit() == Seen(0, f"daft-ID\n{expected}\n")


def test_main_py_runs_when_the_file_has_no_command(demo: Project):
    config = demo.root / "plain.toml"
    config.write_text('[setup]\nname = "demo"\nprovider = "local"\n')
    expected = json.dumps({"argv": [], "greeting": None})
    assert demo.submit(options=("-c", "plain.toml")) == Seen(0, f"daft-ID\n{expected}\n")


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [("echo before; exit 7", 7, "before\n"), ("kill -9 $$", 137, "Killed\n"), ("exec kill -TERM 0", 143, "")],
    ids=["exit 7", "killed inside", "killed itself"],
)
def test_the_jobs_end_is_the_commands_end(demo: Project, script: str, status: int, output: str):
    assert demo.submit("sh", "-c", script) == Seen(status, f"daft-ID\n{output}")


def test_secrets_of_the_folder_stay_here(demo: Project):
    folder = demo.root / "secretive"
    shutil.copytree(demo.root / "job", folder)
    (folder / "deep").mkdir()
    for name in (".env", "id_ed25519", "deep/server.pem", "deep/data.txt"):
        (folder / name).write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    seen = demo.daft("submit", "-w", "secretive", "--", "python", "files.py")
    assert (seen.status, seen.out) == (
        0,
        "daft-ID\n. ['files.py', 'main.py', 'slow.py']\n./deep ['data.txt']\n",
    )
    assert [line.split(":")[:2] for line in seen.err.splitlines()] == [
        ["warning", " .env is not sent"],
        ["warning", " deep/server.pem is not sent"],
        ["warning", " id_ed25519 is not sent"],
    ]


def test_a_job_that_nobody_waits_for(demo: Project):
    started = demo.submit("python", "slow.py", options=("--no-wait", "--job-id", "mine"))
    assert started == Seen(0, "mine\n")
    again = demo.submit("python", "main.py", options=("--no-wait", "--job-id", "mine"))
    assert again == failed(
        "Ray at http://127.0.0.1:PORT already has a job `mine`",
        "choose another --job-id, or follow that job with `daft logs mine`",
    )
    follower = demo.start("logs", "mine")
    follower.await_words("line 1")
    assert demo.jobs()[0] == ("mine", "RUNNING")
    assert demo.daft("stop-job", "mine") == Seen(0, "", "asked mine to stop\n")
    assert follower.end() == Seen(130, "line 1\n")
    assert demo.jobs()[0] == ("mine", "STOPPED")
    assert demo.daft("logs", "mine") == Seen(130, "line 1\n")
    assert demo.daft("stop-job", "mine") == failed("job `mine` has ended already", "`daft jobs` shows how")


def test_jobs_as_a_document(demo: Project):
    job_id = demo.daft("submit", "-w", "job", "--no-wait", "--", "python", "main.py", "x y").out.strip()
    assert job_id == "daft-ID"
    document = json.loads(demo.daft("jobs", "--json").out)
    assert {"submission_id", "status", "entrypoint", "started_at"} <= set(document[0])
    assert document[0]["entrypoint"] == "python main.py 'x y'"


def test_ctrl_c_leaves_the_job_running(demo: Project):
    running = demo.start("submit", "-w", "job", "--", "python", "slow.py")
    running.await_words("line 1")
    job_id = running.out.split()[0]
    assert running.interrupt() == failed(
        "no longer following `daft-ID`; the job goes on",
        "follow it with `daft logs daft-ID`, stop it with `daft stop-job daft-ID`",
        status=130,
        out="daft-ID\nline 1\n",
    )
    jobs = json.loads(demo.start("jobs", "--json").end().out)
    assert jobs[0]["status"] == "RUNNING"
    assert demo.start("stop-job", job_id).end() == Seen(0, "", "asked daft-ID to stop\n")
    assert demo.start("logs", job_id).end() == Seen(130, "line 1\n")


@contextlib.contextmanager
def no_room_for_packages(demo: Project) -> Iterator[None]:
    """Let the head's Ray be unable to unpack a job's folder, as on a full disk."""
    session = Path(demo.nodes()["head"]["temp_dir"], "ray/session_latest").resolve()
    folder = session / "runtime_resources/working_dir_files"
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink(missing_ok=True)
        aside.rename(folder)


def test_a_job_that_fails_before_it_starts(demo: Project):
    folder = demo.root / "unlucky"
    folder.mkdir()
    (folder / "main.py").write_text("print('never')\n")
    with no_room_for_packages(demo):
        seen = demo.daft("submit", "-w", "unlucky", "--", "python", "main.py")
    assert (seen.status, seen.out) == (1, "daft-ID\n")
    assert seen.err.startswith("warning: the job failed before it started: runtime_env setup failed: ")
    assert "Not a directory" in seen.err or "File exists" in seen.err


@pytest.mark.parametrize("command", ["logs", "stop-job"])
def test_a_job_that_is_not_there(demo: Project, command: str):
    assert demo.daft(command, "nobody") == failed(
        "Ray at http://127.0.0.1:PORT has no job `nobody`",
        "`daft jobs` lists the jobs; a cluster forgets them when its head is replaced",
    )
