"""Terraform as it is called: words, environment, files; and what becomes of what it says and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from terraform_stub import TerraformStub

from daft_launcher.errors import TerraformError
from daft_launcher.models import Plan, ResourceChange, TerraformEvent
from daft_launcher.terraform import TerraformRoot
from daft_launcher.terraform_binary import TerraformBinary
from daft_launcher.terraform_events import plan_in
from daft_launcher.terraform_init import missing_cli_config
from daft_launcher.terraform_lock import StalePlanError, StateLock, StateLockedError
from daft_launcher.terraform_process import RunningTerraform

MAIN = (
    'terraform {\n  required_version = ">= 1.11.0"\n}\n\nmodule "cluster" {\n  source = "./modules/aws"\n}\n'
)
COMMON = ["-no-color", "-input=false", "-json"]


def event(kind: str, message: str = "m", **more: object) -> str:
    return json.dumps({"type": kind, "@message": message, **more})


def problem(severity: str, summary: str, detail: str = "", **more: object) -> str:
    diagnostic = {"severity": severity, "summary": summary, "detail": detail, **more}
    return event("diagnostic", summary, diagnostic=diagnostic)


def change(action: str, address: str = "module.cluster.a.b") -> str:
    resource = {"addr": address, "resource_type": "a"}
    return event("planned_change", change={"resource": resource, "action": action})


class Bench:
    """A root, the stub that runs in it, and what it says."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "the root"
        self.home = tmp_path / "home"
        self.cache = self.home / ".cache" / "daft-launcher"
        self.stub = TerraformStub(tmp_path / "stub's folder".replace("'", ""))
        self.events: list[TerraformEvent] = []
        self.on_event: Callable[[TerraformEvent], object] = lambda event: None
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        self.home.mkdir()
        self.fill(self.root)

    def fill(self, root: Path) -> None:
        (root / "modules" / "aws").mkdir(parents=True)
        (root / "main.tf").write_text(MAIN)
        (root / "backend.tf").write_text('terraform {\n  backend "local" {\n  }\n}\n')
        (root / "modules" / "aws" / "versions.tf").write_text("# versions\n")
        (root / "modules" / "aws" / "head.tf").write_text("# head\n")

    def terraform(self, root: Path | None = None, **more: object) -> TerraformRoot:
        options = {"binary": self.stub.binary(), "environ": self.environ, "on_event": self.take, **more}
        return TerraformRoot(root or self.root, options.pop("binary"), **options)

    def take(self, event: TerraformEvent) -> None:
        self.events.append(event)
        self.on_event(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def refusal(self, run: Callable[[], object]) -> tuple[str, str | None]:
        with pytest.raises(TerraformError) as caught:
            run()
        return caught.value.message, caught.value.hint


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    monkeypatch.setenv("HOME", str(bench.home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench.home / ".cache"))
    return bench


# The words and the environment


def test_every_command_is_called_in_these_words(bench: Bench) -> None:
    bench.stub.says("show", "the plan")
    bench.stub.says("output", json.dumps({"cluster": {"value": {"name": "demo"}}, "x": {"value": 1}}))
    terraform = bench.terraform()
    plan_file = bench.root / "1.tfplan"
    terraform.init()
    terraform.plan(plan_file)
    terraform.plan(plan_file, replace=['a.b["c d"]', "e.f[0]"], lock=False)
    terraform.plan(plan_file, targets=["a.b", "c.d"])
    terraform.forget(['a.b["c d"]', "e.f"])
    terraform.forget(["a.b"], state=bench.root / "copy")
    assert terraform.show(plan_file) == "the plan\n"
    bench.stub.says("show", '{"format_version": "1.2"}')
    assert terraform.show_json(plan_file) == {"format_version": "1.2"}
    terraform.apply(plan_file)
    assert terraform.output() == {"cluster": {"name": "demo"}, "x": 1}
    terraform.start_destroy().wait()
    assert bench.stub.argvs == [
        ["init", *COMMON, "-lock-timeout=60s", "-backend=true"],
        ["plan", *COMMON, f"-out={plan_file}", "-lock=true"],
        ["plan", *COMMON, f"-out={plan_file}", '-replace=a.b["c d"]', "-replace=e.f[0]", "-lock=false"],
        ["plan", "-target=a.b", "-target=c.d", *COMMON, f"-out={plan_file}", "-lock=true"],
        ["state", "rm", "-no-color", 'a.b["c d"]', "e.f"],
        ["state", "rm", "-no-color", f"-state={bench.root / 'copy'}", "a.b"],
        ["show", "-no-color", str(plan_file)],
        ["show", "-json", str(plan_file)],
        ["apply", *COMMON, "-auto-approve=true", str(plan_file)],
        ["output", "-json"],
        ["destroy", *COMMON, "-auto-approve=true", "-refresh=false"],
    ]
    assert {call.cwd for call in bench.stub.calls} == {str(bench.root)}
    # What may hold secrets, state and plans, is for the user alone; providers in a shared cache are not.
    assert [call.umask for call in bench.stub.calls if call.argv[0] in ("plan", "apply", "destroy")] == [
        "0077"
    ] * 5


def test_init_of_another_backend_and_from_a_mirror(bench: Bench) -> None:
    bench.environ["DAFT_TERRAFORM_PLUGIN_DIR"] = "/some where"
    bench.terraform().init(reconfigure=True)
    assert bench.stub.argvs == [
        ["init", *COMMON, "-lock-timeout=60s", "-plugin-dir=/some where", "-reconfigure", "-backend=true"]
    ]
    assert "TF_PLUGIN_CACHE_DIR" not in bench.stub.calls[0].env
    assert not bench.cache.exists()


def test_the_users_environment_goes_along_without_what_would_mix_roots_up(bench: Bench) -> None:
    bench.environ |= {"AWS_PROFILE": "dev", "TF_LOG": "", "TF_DATA_DIR": "/elsewhere", "TF_VAR_x": "1"}
    bench.terraform().init()
    (call,) = bench.stub.calls
    assert {key: value for key, value in call.env.items() if key not in ("PWD", "OLDPWD", "SHLVL", "_")} == {
        **{key: value for key, value in bench.environ.items() if key != "TF_DATA_DIR"},
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "TF_PLUGIN_CACHE_DIR": str(bench.cache / "providers"),
    }


def test_nothing_is_left_in_the_temporary_folder(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    terraform = bench.terraform()
    terraform.init()
    terraform.plan(bench.root / "x.tfplan")
    terraform.apply(bench.root / "x.tfplan")
    terraform.start_destroy().wait()
    assert list(temporary.iterdir()) == []


def test_terraform_gets_no_input_and_a_session_of_its_own(bench: Bench) -> None:
    bench.stub.does(
        "apply", """read line || echo "{\\"type\\": \\"x\\", \\"@message\\": \\"$$\\"}"; sleep 0.2"""
    )
    sessions: list[int] = []
    bench.on_event = lambda event: sessions.append(os.getsid(int(event.message)) - int(event.message))
    reader, writer = os.pipe()
    os.write(writer, b"typed\n")
    before = os.dup(0)
    os.dup2(reader, 0)
    try:
        bench.terraform().apply(bench.root / "x.tfplan")
    finally:
        os.dup2(before, 0)
        for descriptor in (reader, writer, before):
            os.close(descriptor)
    assert sessions == [0]


def test_what_is_inherited_is_open_in_terraform(bench: Bench) -> None:
    reader, writer = os.pipe()
    bench.stub.does("apply", f"echo held > /dev/fd/{writer}")
    bench.terraform(lock=writer).apply(bench.root / "x.tfplan")
    os.close(writer)
    assert os.read(reader, 100) == b"held\n"
    os.close(reader)


# The shared cache of providers


def test_the_providers_of_all_roots_share_one_cache_and_its_versions(bench: Bench) -> None:
    bench.stub.does("init", '[ -e .terraform.lock.hcl ] && exit; echo "# $PWD" > .terraform.lock.hcl')
    second, other = bench.root.parent / "second", bench.root.parent / "other"
    bench.fill(second)
    bench.fill(other)
    (other / "main.tf").write_text(MAIN.replace("1.11.0", "1.12.0"))
    for root in (bench.root, second, other):
        bench.terraform(root).init()
    locks = [(root / ".terraform.lock.hcl").read_text() for root in (bench.root, second, other)]
    assert locks == [f"# {bench.root}\n", f"# {bench.root}\n", f"# {other}\n"]
    assert (bench.cache / "providers").is_dir()
    assert len(list(bench.cache.glob("providers-*.lock.hcl"))) == 2


def test_no_part_of_a_lock_file_is_kept_where_there_is_no_room_for_all(bench: Bench) -> None:
    bench.stub.does("init", '[ -e .terraform.lock.hcl ] || echo "# $PWD" > .terraform.lock.hcl')
    second = bench.root.parent / "second"
    bench.fill(second)
    bench.terraform().init()
    (kept,) = bench.cache.glob("providers-*.lock.hcl")
    kept.unlink()
    kept.with_name(f"{kept.name}.{os.getpid()}").symlink_to("/dev/full")
    bench.terraform(second).init()
    assert (second / ".terraform.lock.hcl").read_text() == f"# {second}\n"
    assert list(bench.cache.glob("providers-*")) == []


def test_a_lock_file_of_the_roots_own_is_kept(bench: Bench) -> None:
    bench.stub.does("init", '[ -e .terraform.lock.hcl ] || echo "# $PWD" > .terraform.lock.hcl')
    other = bench.root.parent / "other"
    bench.fill(other)
    bench.terraform(other).init()
    (bench.root / ".terraform.lock.hcl").write_text("# mine\n")
    bench.terraform().init()
    assert (bench.root / ".terraform.lock.hcl").read_text() == "# mine\n"


@pytest.mark.parametrize("way", ["variable", "file in HOME", "named file"])
def test_a_cache_that_the_user_chose_is_left_to_them(bench: Bench, way: str) -> None:
    if way == "variable":
        bench.environ["TF_PLUGIN_CACHE_DIR"] = "/their/cache"
    elif way == "file in HOME":
        (bench.home / ".terraformrc").write_text('plugin_cache_dir = "/their/cache"\n')
    else:
        (bench.home / "my.tfrc").write_text('plugin_cache_dir = "/their/cache"\n')
        bench.environ["TF_CLI_CONFIG_FILE"] = str(bench.home / "my.tfrc")
    bench.terraform().init()
    (call,) = bench.stub.calls
    assert call.env.get("TF_PLUGIN_CACHE_DIR") == bench.environ.get("TF_PLUGIN_CACHE_DIR")
    assert call.env.get("TF_CLI_CONFIG_FILE") == bench.environ.get("TF_CLI_CONFIG_FILE")
    assert not bench.cache.exists()


def test_a_file_of_the_users_without_a_cache_goes_with_ours(bench: Bench) -> None:
    (bench.home / "my.tfrc").write_text("disable_checkpoint = true\n")
    bench.environ["TF_CLI_CONFIG_FILE"] = str(bench.home / "my.tfrc")
    bench.terraform().init()
    (call,) = bench.stub.calls
    assert (call.env["TF_CLI_CONFIG_FILE"], call.env["TF_PLUGIN_CACHE_DIR"]) == (
        str(bench.home / "my.tfrc"),
        str(bench.cache / "providers"),
    )


def test_a_configuration_file_that_is_not_there_is_left_out(bench: Bench) -> None:
    bench.environ["TF_CLI_CONFIG_FILE"] = "/no/such.tfrc"
    bench.terraform().init()
    assert "TF_CLI_CONFIG_FILE" not in bench.stub.calls[0].env
    assert missing_cli_config(bench.environ) == "/no/such.tfrc"
    assert missing_cli_config({"TF_CLI_CONFIG_FILE": ""}) is None
    assert missing_cli_config({"TF_CLI_CONFIG_FILE": str(bench.stub.path)}) is None


def test_a_cache_that_cannot_be_written(bench: Bench) -> None:
    bench.cache.parent.mkdir()
    bench.cache.write_text("a file")
    assert bench.refusal(bench.terraform().init) == (
        f"{bench.cache}/providers cannot be written: Not a directory",
        "let XDG_CACHE_HOME or TF_PLUGIN_CACHE_DIR name a folder that can",
    )
    assert bench.stub.calls == []


# When init is needed


INIT = """
provider=.terraform/providers/registry/hashicorp/aws/5.1.0
mkdir -p $provider; ln -sfn {target} $provider/linux
"""


def initialised(bench: Bench, **more: object) -> Callable[[], bool]:
    """Initialise once; return a way to ask whether another init would run Terraform."""
    target = bench.root.parent / "provider"
    target.mkdir()
    bench.stub.does("init", INIT.format(target=f"'{target}'"))
    bench.terraform().init()
    assert len(bench.stub.calls) == 1

    def again(**changed: object) -> bool:
        before = len(bench.stub.calls)
        bench.terraform(**changed).init()
        return len(bench.stub.calls) > before

    return again


def test_nothing_new_needs_no_init(bench: Bench) -> None:
    again = initialised(bench)
    (bench.root / "main.tf").write_text(MAIN.replace("module", 'provider "aws" {\n}\n\nmodule') + "# more\n")
    (bench.root / "modules/aws/head.tf").write_text("# other\n")
    bench.environ["AWS_PROFILE"] = "other"
    assert not again()


def replace_text(name: str, before: str, after: str) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        path = bench.root / name
        text = path.read_text() if path.exists() else before
        assert before in text
        path.write_text(text.replace(before, after))

    return change


@pytest.mark.parametrize(
    "change",
    [
        replace_text("backend.tf", "local", "s3"),
        replace_text("main.tf", "1.11.0", "1.12.0"),
        replace_text("modules/aws/versions.tf", "versions", "other versions"),
        replace_text("modules/more/versions.tf", "new", "new"),
        replace_text(".terraform.lock.hcl", "new", "new"),
        replace_text(".terraform/terraform.tfstate", "by hand", "by hand"),
        lambda bench: (bench.root.parent / "provider").rmdir(),
        lambda bench: (bench.root / ".terraform/daft-init").unlink(),
        lambda bench: bench.environ.update(DAFT_TERRAFORM_PLUGIN_DIR="/mirror"),
    ],
    ids=["backend", "version", "module", "new module", "lock", "record", "lost provider", "stamp", "mirror"],
)
def test_what_changed_needs_another_init(bench: Bench, change: Callable[[Bench], object]) -> None:
    again = initialised(bench)
    (bench.root / "modules" / "more").mkdir()
    change(bench)
    assert again()
    if change.__qualname__.endswith("change"):
        assert not again()


@pytest.mark.parametrize("product", ["terraform", "tofu"])
def test_another_terraform_needs_another_init(bench: Bench, product: str) -> None:
    again = initialised(bench)
    version = "1.11.5" if product == "terraform" else "1.11.4"
    other = TerraformBinary(path=bench.stub.path, product=product, version=version)
    assert again(binary=other)
    assert not again(binary=other)
    assert again()


def test_an_init_that_failed_is_not_remembered(bench: Bench) -> None:
    again = initialised(bench)
    replace_text("backend.tf", "local", "s3")(bench)
    bench.stub.says("init", problem("error", "No way"), status=1)
    for _ in range(2):
        assert bench.refusal(bench.terraform().init) == ("Terraform could not initialise:\n  No way", None)
    bench.stub.does("init", "mkdir -p .terraform")
    assert again()
    assert not again()


# What Terraform says


def test_events_come_as_they_are_written(bench: Bench) -> None:
    go = bench.root.parent / "go"
    bench.stub.does(
        "apply",
        f"echo '{event('one')}'; until [ -e '{go}' ]; do sleep 0.02; done; printf '%s' '{event('two')}'",
    )
    seen: list[tuple[str, bool]] = []
    bench.on_event = lambda event: (seen.append((event.kind, go.exists())), go.touch())
    bench.terraform().apply(bench.root / "x.tfplan")
    assert seen == [("one", False), ("two", True)]


def test_a_plan_is_read_from_the_events(bench: Bench) -> None:
    outputs = event("outputs", outputs={"cluster": {"action": "update"}})
    bench.stub.says("plan", event("version"), change("create"), change("noop", "c.d"), outputs)
    assert bench.terraform().plan(bench.root / "x") == Plan(
        changes=(ResourceChange(address="module.cluster.a.b", resource_type="a", action="create"),),
        outputs_change=True,
    )
    assert bench.kinds() == ["version", "planned_change", "planned_change", "outputs"]


def test_what_is_no_event_does_no_harm(bench: Bench) -> None:
    noise = ["", "Warning: plain text", "{", "\x1b[31m", "é \\xff", change("delete"), "more"]
    bench.stub.says("plan", *noise)
    bench.stub.does("apply", "printf 'half \\377 a line\\n%s\\n' '" + event("one") + "'; echo warning >&2")
    terraform = bench.terraform()
    assert terraform.plan(bench.root / "x").count("delete") == 1
    terraform.apply(bench.root / "x")
    assert bench.kinds() == ["planned_change", "one"]


def test_many_events_all_arrive(bench: Bench) -> None:
    bench.stub.does("apply", f"yes '{event('x', 'é' * 2000)}' | head -n 2000")
    bench.terraform().apply(bench.root / "x")
    assert bench.kinds() == ["x"] * 2000
    assert {event.message for event in bench.events} == {"é" * 2000}


def test_a_warning_that_the_users_own_mirror_brings_is_not_passed_on(bench: Bench) -> None:
    expected = problem("warning", "Incomplete lock file information for providers")
    bench.stub.says("init", expected, problem("warning", "Something else"))
    bench.terraform().init()
    assert [event.message for event in bench.events] == ["Something else"]


def test_a_failure_is_said_whole(bench: Bench) -> None:
    place = {"filename": "modules/aws/head.tf", "start": {"line": 12}}
    bench.stub.says(
        "apply",
        problem("warning", "Deprecated"),
        problem("error", "First", "one\n\ntwo", address="module.cluster.a.b", range=place),
        "plain words",
        problem("error", "Second"),
        status=1,
    )
    message, hint = bench.refusal(lambda: bench.terraform().apply(bench.root / "x"))
    assert message.splitlines() == [
        "Terraform could not apply the plan:",
        "  First (module.cluster.a.b, modules/aws/head.tf:12)",
        "  one",
        "  two",
        "  Second",
    ]
    assert hint is None
    assert bench.kinds() == ["diagnostic"] * 3


@pytest.mark.parametrize(
    ("script", "said", "hint"),
    [
        ("echo 'panic: x'; echo; echo '  at y' >&2; exit 2", "panic: x\n    at y", None),
        ("printf 'no newline'; exit 1", "no newline", None),
        ("exit 7", "it ended with status 7", "run the command again"),
        ("kill -9 $$", "it was killed by SIGKILL", "run the command again"),
        (
            """echo '{"@message": "Initializing the backend..."}'; kill -9 $$""",
            "Initializing the backend...\n  it was killed by SIGKILL",
            "run the command again",
        ),
    ],
)
def test_a_failure_without_a_diagnostic(bench: Bench, script: str, said: str, hint: str | None) -> None:
    bench.stub.does("plan", script)
    assert bench.refusal(lambda: bench.terraform().plan(bench.root / "x")) == (
        f"Terraform could not plan:\n  {said}",
        hint,
    )


def test_the_provider_of_a_terraform_that_is_killed_ends_with_it(bench: Bench, tmp_path: Path) -> None:
    provider, started = tmp_path / "terraform-provider-aws_v5", tmp_path / "started"
    shutil.copy(shutil.which("sleep") or "", provider)
    bench.stub.does("apply", f"'{provider}' 120 & echo $! > '{started}'; kill -9 $$")
    message, _ = bench.refusal(lambda: bench.terraform().apply(bench.root / "x"))
    assert message == "Terraform could not apply the plan:\n  it was killed by SIGKILL"
    pid = int(started.read_text())
    eventually(lambda: not (state := _state_of(pid)) or state == "Z")


def _state_of(pid: int) -> str:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout[:1]


def test_an_event_that_breaks_off_says_nothing(bench: Bench) -> None:
    bench.stub.does("plan", """printf '{"@level":"info","@message":"x: Creation compl'; exit 1""")
    message, _ = bench.refusal(lambda: bench.terraform().plan(bench.root / "x"))
    assert message == "Terraform could not plan:\n  it ended with status 1"


def test_a_disk_without_room_is_named_where_terraform_could_not_say_so(bench: Bench) -> None:
    log = bench.root / "logs" / "apply.jsonl"
    log.parent.mkdir()
    log.write_text("")
    asked: list[Path] = []
    process = subprocess.Popen(["sh", "-c", "exit 1"])
    running = RunningTerraform(
        "apply the plan", process, log, bench.take, is_full=lambda path: not asked.append(path)
    )
    assert bench.refusal(running.wait) == (
        f"Terraform could not apply the plan:\n  no space left on device: {bench.root}\n  it ended with status 1",
        "make room on the disk and run the command again",
    )
    assert asked == [log.parent]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            "Failed to query available provider packages",
            "let DAFT_TERRAFORM_PLUGIN_DIR name a folder that holds the provider, set HTTPS_PROXY, or try again",
        ),
        (
            "Failed to install provider",
            "let DAFT_TERRAFORM_PLUGIN_DIR name a folder that holds the provider, set HTTPS_PROXY, or try again",
        ),
        ("write x: no space left on device", "make room on the disk and run the command again"),
        (
            "api error ExpiredToken: no",
            "log in again, for example with `aws sso login`, and run the command again",
        ),
        (
            "InsufficientInstanceCapacity: none",
            "choose another `instance_type` or `region`, or ask AWS for a higher quota",
        ),
        ("UnauthorizedOperation: you", "ask for the permission that the message names"),
        (
            "operation error S3: HeadObject, https response error StatusCode: 403, api error Forbidden: Forbidden",
            "ask for the permission that the message names, or log in again if your credentials have expired",
        ),
        (
            "api error SignatureDoesNotMatch: no",
            "check this machine's clock and the secret access key, and run the command again",
        ),
        (
            "StatusCode: 503, api error RequestLimitExceeded: slower",
            "AWS asks for fewer calls: wait a minute and run the command again",
        ),
        (
            "https response error StatusCode: 500, api error InternalError: no",
            "AWS failed: run the command again, and if it fails still, see https://health.aws.amazon.com",
        ),
        (
            "read tcp 192.0.2.1:1->192.0.2.2:443: read: connection reset by peer",
            "check the network, HTTPS_PROXY and AWS_ENDPOINT_URL, and run the command again",
        ),
        (
            "The plugin6.(*GRPCProvider).PlanResourceChange request was cancelled: did not respond",
            "run the command again",
        ),
        (
            "Provider installation was canceled by an interrupt signal.",
            "run the command again",
        ),
    ],
)
def test_a_failure_that_is_known_has_a_way_out(bench: Bench, words: str, hint: str) -> None:
    bench.stub.says("apply", problem("error", "No", f"because: {words}"), status=1)
    assert bench.refusal(lambda: bench.terraform().apply(bench.root / "x")) == (
        f"Terraform could not apply the plan:\n  No\n  because: {words}",
        hint,
    )
    bench.stub.says("state", f"because: {words}", status=1)
    assert bench.refusal(bench.terraform().pull_state) == (
        f"Terraform could not read the state in {bench.root}:\n  because: {words}",
        hint,
    )


def test_a_state_that_somebody_has_locked(bench: Bench) -> None:
    info = "Lock Info:\n  ID:        abc\n  Path:      x/y\n  Operation: OperationTypePlan\n  Who:       ann@laptop\n"
    bench.stub.says("plan", problem("error", "Error acquiring the state lock", info), status=1)
    bench.stub.says("taint", "Error acquiring the state lock", info, status=1)
    terraform = bench.terraform()
    for run in (lambda: terraform.plan(bench.root / "x"), terraform.try_lock):
        with pytest.raises(StateLockedError) as caught:
            run()
        assert caught.value.message == "Terraform's state x/y is locked by ann@laptop (plan)"
    bench.stub.says("apply", problem("error", "Saved plan is stale", "It is."), status=1)
    with pytest.raises(StalePlanError):
        terraform.apply(bench.root / "x")


NOTED = (
    "2026-11-27T22:01:34.448Z [INFO]  backend-s3: Attempting to lock remote state (S3 Native only)...: "
    'tf_backend.lock.id={} tf_backend.lock.info="" tf_backend.lock.who=ann@laptop tf_backend.operation=Lock\n'
)
UNLOCKED = "backend-s3: Attempting to unlock remote state (S3 Native only)...: tf_backend.lock.id=theirs\n"


def lock(lock_id: str) -> StateLock:
    return StateLock(lock_id=lock_id, path="x/y", who="ann@laptop", operation="plan", created=None)


def test_of_a_state_in_a_bucket_terraform_notes_its_locks_down_and_they_alone_break(bench: Bench) -> None:
    (bench.root / "backend.tf").write_text('terraform {\n  backend "s3" {\n  }\n}\n')
    bench.stub.does("plan", f"printf '%s' '{NOTED.format('ours')}{UNLOCKED}more\n' >> \"$TF_LOG_PATH\"")
    trail = bench.root / "logs" / "locks.log"
    terraform = bench.terraform()
    terraform.plan(bench.root / "x")
    (call,) = bench.stub.calls
    assert (call.env["TF_LOG_CORE"], call.env["TF_LOG_PATH"]) == ("INFO", str(trail))
    assert [terraform.break_own_lock(lock(name)) for name in ("theirs", "our", "ours")] == [
        False,
        False,
        True,
    ]
    assert bench.stub.argvs[1:] == [["force-unlock", "-force", "-no-color", "ours"]]
    assert (trail.read_text(), trail.stat().st_mode & 0o777) == (NOTED.format("ours"), 0o600)
    # Also in a later command: whoever took it has ended, or this one would not have come so far.
    assert bench.terraform().break_own_lock(lock("ours"))


def test_of_the_locks_that_were_taken_here_the_last_hundred_are_kept(bench: Bench) -> None:
    (bench.root / "backend.tf").write_text('terraform {\n  backend "s3" {\n  }\n}\n')
    trail = bench.root / "logs" / "locks.log"
    trail.parent.mkdir()
    trail.write_text("".join(NOTED.format(number) for number in range(101)))
    bench.terraform().try_lock()
    assert trail.read_text() == "".join(NOTED.format(number) for number in range(1, 101))


@pytest.mark.parametrize("variable", ["TF_LOG", "TF_LOG_CORE", "TF_LOG_PATH"])
def test_a_log_that_the_user_asks_for_is_left_to_them(bench: Bench, variable: str) -> None:
    (bench.root / "backend.tf").write_text('terraform {\n  backend "s3" {\n  }\n}\n')
    bench.environ[variable] = "trace"
    terraform = bench.terraform()
    terraform.try_lock()
    names = {name: value for name, value in bench.stub.calls[0].env.items() if name.startswith("TF_LOG")}
    assert (names, terraform.break_own_lock(lock("ours"))) == ({variable: "trace"}, False)


def test_a_state_as_it_lies(bench: Bench) -> None:
    bench.stub.does("state", "[ $2 = pull ] && echo '{\"serial\": 3}'; exit 0")
    terraform = bench.terraform()
    assert terraform.pull_state() == {"serial": 3}
    terraform.push_state(bench.root / "a")
    terraform.push_state(bench.root / "a", force=True)
    terraform.try_lock()
    assert bench.stub.argvs == [
        ["state", "pull", "-no-color"],
        ["state", "push", "-no-color", f"{bench.root}/a"],
        ["state", "push", "-force", "-no-color", f"{bench.root}/a"],
        ["taint", "-allow-missing", "-no-color", "terraform_data.none"],
    ]
    assert [call.umask for call in bench.stub.calls][1:] == ["0077"] * 3
    bench.stub.does("state", "exit 0")
    assert terraform.pull_state() == {}
    bench.stub.does("state", "echo '{'")
    assert bench.refusal(terraform.pull_state) == (f"Terraform's state in {bench.root} cannot be read", None)
    bench.stub.does("state", "echo 'cannot import state with serial 1 over newer state' >&2; exit 1")
    assert bench.refusal(lambda: terraform.push_state(bench.root / "a")) == (
        f"Terraform could not write the state in {bench.root}:\n  cannot import state with serial 1 over newer state",
        None,
    )


def test_words_that_are_captured(bench: Bench) -> None:
    bench.stub.says("show", "x")
    bench.stub.does("output", "echo '{'")
    terraform = bench.terraform()
    assert bench.refusal(terraform.output) == (
        f"Terraform's outputs in {bench.root} cannot be read",
        "run `daft up` again",
    )
    bench.stub.does("output", "echo '{}'")
    assert terraform.output() == {}
    for script in ("echo out; echo wrong >&2; exit 1", "echo wrong; exit 1"):
        bench.stub.does("show", script)
        for show in (terraform.show, terraform.show_json):
            assert bench.refusal(lambda show=show: show(bench.root / "x")) == (
                f"Terraform could not show the plan in {bench.root}:\n  wrong",
                None,
            )


@pytest.mark.parametrize("words", ["", "{", "[]", "null"])
def test_a_plan_that_is_no_json(bench: Bench, words: str) -> None:
    bench.stub.says("show", words)
    assert bench.refusal(lambda: bench.terraform().show_json(bench.root / "x")) == (
        f"Terraform's plan in {bench.root} cannot be read",
        "run the command again",
    )


def test_a_binary_that_is_gone(bench: Bench) -> None:
    terraform = bench.terraform()
    bench.stub.path.unlink()
    said = (f"{bench.stub.path} cannot be run: No such file or directory", None)
    assert [bench.refusal(terraform.init), bench.refusal(terraform.output)] == [said, said]


# The log


def test_the_log_is_for_the_user_alone_and_holds_what_was_said(bench: Bench) -> None:
    bench.stub.says("apply", event("one"), "words")
    terraform = bench.terraform()
    (bench.root / "logs").mkdir()
    (bench.root / "logs/apply.jsonl").write_text("what an earlier apply said\n" * 1000)
    (bench.root / "logs/apply.jsonl").unlink()
    terraform.apply(bench.root / "x")
    terraform.apply(bench.root / "x")
    log = bench.root / "logs" / "apply.jsonl"
    assert (log.read_text(), log.stat().st_mode & 0o777) == (f"{event('one')}\nwords\n", 0o600)
    assert bench.kinds() == ["one", "one"]


def test_a_log_that_cannot_be_written(bench: Bench) -> None:
    (bench.root / "logs").write_text("a file")
    assert bench.refusal(lambda: bench.terraform().apply(bench.root / "x")) == (
        f"{bench.root}/logs/apply.jsonl cannot be written: File exists",
        None,
    )
    assert bench.stub.calls == []


# Ctrl-C, and going on alone


STUBBORN = """
trap 'echo INT >> {notes}; echo "$event"' INT
event='{got}'
echo '{started}'
while [ ! -e {go} ]; do sleep 0.05; done
echo saved >> {notes}
exit {status}
"""


def stubborn(bench: Bench, status: int) -> tuple[Path, Path]:
    """Let apply and destroy note each interrupt, and go on until they may stop."""
    notes, go = bench.root.parent / "notes", bench.root.parent / "go"
    script = STUBBORN.format(
        notes=f"'{notes}'", go=f"'{go}'", got=event("got it"), started=event("started"), status=status
    )
    for verb in ("apply", "destroy"):
        bench.stub.does(verb, script)
    return notes, go


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.mark.parametrize("status", [0, 1])
def test_ctrl_c_is_passed_on_once_and_terraform_waited_for(bench: Bench, status: int) -> None:
    notes, go = stubborn(bench, status)

    def react(event: TerraformEvent) -> None:
        if event.kind == "started":
            signal.raise_signal(signal.SIGINT)
        if event.kind == "got it":
            go.touch()

    bench.on_event = react
    with pytest.raises(KeyboardInterrupt):
        bench.terraform().apply(bench.root / "x")
    assert notes.read_text() == "INT\nsaved\n"
    assert [(event.kind, event.message) for event in bench.events] == [
        ("started", "m"),
        ("interrupted", "Waiting for Terraform to stop in order"),
        ("got it", "m"),
    ]


def test_ctrl_c_that_comes_while_terraform_starts_reaches_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, go = stubborn(bench, 1)

    def interrupted(what: str, *rest: Any) -> RunningTerraform:
        log = bench.root / "logs" / "apply.jsonl"
        eventually(lambda: "started" in log.read_text())
        signal.raise_signal(signal.SIGINT)
        return RunningTerraform(what, *rest)

    bench.on_event = lambda event: go.touch() if event.kind == "got it" else None
    monkeypatch.setattr("daft_launcher.terraform.RunningTerraform", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.terraform().apply(bench.root / "x")
    assert notes.read_text() == "INT\nsaved\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("at", [("started", "got it"), ("started", "started")], ids=["later", "at once"])
def test_a_second_ctrl_c_leaves_terraform_to_itself(bench: Bench, at: Sequence[str]) -> None:
    notes, go = stubborn(bench, 0)

    def react(event: TerraformEvent) -> None:
        for _ in range(at.count(event.kind)):
            signal.raise_signal(signal.SIGINT)

    bench.on_event = react
    with pytest.raises(KeyboardInterrupt):
        bench.terraform().apply(bench.root / "x")
    eventually(lambda: notes.exists() and notes.read_text() == "INT\n")
    go.touch()
    eventually(lambda: notes.read_text() == "INT\nsaved\n")


def test_a_destroy_goes_on_by_itself(bench: Bench) -> None:
    notes, go = stubborn(bench, 0)
    running = bench.terraform().start_destroy()
    eventually(lambda: running.running and bench.kinds() == ["started"])
    assert running.log == bench.root / "logs" / "destroy.jsonl"
    go.touch()
    eventually(lambda: notes.exists() and notes.read_text() == "saved\n")


def test_a_destroy_that_fails(bench: Bench) -> None:
    bench.stub.says("destroy", problem("error", "Still in use"), status=1)
    running = bench.terraform().start_destroy()
    eventually(lambda: not running.running)
    assert bench.refusal(running.wait) == ("Terraform could not destroy:\n  Still in use", None)


def test_it_can_be_stopped_from_elsewhere_and_starts_no_more(bench: Bench) -> None:
    notes, go = stubborn(bench, 1)
    terraform = bench.terraform()

    def react(event: TerraformEvent) -> None:
        if event.kind == "started":
            terraform.stop()
        if event.kind == "got it":
            go.touch()

    bench.on_event = react
    message, _ = bench.refusal(lambda: terraform.apply(bench.root / "x"))
    assert message == "Terraform could not apply the plan:\n  it ended with status 1"
    assert notes.read_text() == "INT\nsaved\n"
    assert bench.refusal(lambda: terraform.plan(bench.root / "x")) == (
        "Terraform was stopped before it could plan",
        None,
    )
    assert [call.argv[0] for call in bench.stub.calls] == ["apply"]


# Saved plans, and the state that they were made on


def test_a_plan_on_a_copy_of_the_state(bench: Bench) -> None:
    bench.terraform().plan(bench.root / "1.tfplan", lock=False, state=bench.root / "a copy.tfstate")
    (argv,) = bench.stub.argvs
    assert argv == [
        "plan",
        f"-state={bench.root}/a copy.tfstate",
        *COMMON,
        f"-out={bench.root}/1.tfplan",
        "-lock=false",
    ]


def test_a_saved_plan_is_read(bench: Bench) -> None:
    bench.stub.says("show", '{"format_version": "1.2"}')
    assert bench.terraform().show_json(bench.root / "1.tfplan") == {"format_version": "1.2"}
    assert bench.stub.argvs == [["show", "-json", f"{bench.root}/1.tfplan"]]
    for said in ("{", "[]", ""):
        bench.stub.says("show", said)
        assert bench.refusal(lambda: bench.terraform().show_json(bench.root / "1.tfplan")) == (
            f"Terraform's plan in {bench.root} cannot be read",
            "run the command again",
        )


@pytest.mark.parametrize(("said", "state"), [((), {}), (('{"serial": 7}',), {"serial": 7})])
def test_the_state_is_pulled(bench: Bench, said: tuple[str, ...], state: object) -> None:
    bench.stub.says("state", *said)
    assert bench.terraform().pull_state() == state
    assert bench.stub.argvs == [["state", "pull", "-no-color"]]
    bench.stub.says("state", "{")
    assert bench.refusal(bench.terraform().pull_state) == (
        f"Terraform's state in {bench.root} cannot be read",
        None,
    )


@pytest.mark.parametrize(("product", "title"), [("terraform", "Terraform"), ("tofu", "OpenTofu")])
def test_its_version_in_words(bench: Bench, product: str, title: str) -> None:
    binary = TerraformBinary(path=bench.stub.path, product=product, version="1.12.0")
    assert bench.terraform(binary=binary).version == f"{title} 1.12.0"


# The real one, on what it can do without a provider


REAL = """
terraform {{
  required_version = ">= 1.11.0"
}}

variable "number" {{
  type = number
}}

resource "terraform_data" "one" {{
  input = var.number

  provisioner "local-exec" {{
    command = <<-EOT
      {command}
    EOT
  }}
}}

output "cluster" {{
  value = {{ number = terraform_data.one.output }}
}}
"""
ONE = {"address": "terraform_data.one", "resource_type": "terraform_data"}


class RealRoot:
    """A root that only needs Terraform itself."""

    def __init__(self, folder: Path, binary: TerraformBinary, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.events: list[TerraformEvent] = []
        self.terraform = TerraformRoot(folder, binary, environ=environ, on_event=self.events.append)
        self.plan_file = folder / "1.tfplan"

    def write(self, *, command: str = "echo said", number: int = 1) -> None:
        (self.folder / "main.tf").write_text(REAL.format(command=command))
        (self.folder / "x.auto.tfvars.json").write_text(json.dumps({"number": number}))

    def state(self) -> list[str]:
        resources = json.loads((self.folder / "terraform.tfstate").read_text())["resources"]
        return [f"{resource['type']}.{resource['name']}" for resource in resources]


@pytest.fixture
def real(tmp_path: Path, real_terraform: TerraformBinary) -> RealRoot:
    return RealRoot(tmp_path, real_terraform, os.environ)


@pytest.mark.real
def test_a_real_root_from_its_beginning_to_its_end(real: RealRoot) -> None:
    real.write()
    terraform = real.terraform
    terraform.init()
    assert terraform.output() == {}
    assert terraform.plan(real.plan_file) == Plan(
        changes=(ResourceChange(action="create", **ONE),), outputs_change=True
    )
    assert "terraform_data.one will be created" in terraform.show(real.plan_file)
    assert terraform.pull_state() == {}
    (change,) = terraform.show_json(real.plan_file)["resource_changes"]
    assert (change["address"], change["change"]["actions"]) == ("terraform_data.one", ["create"])
    assert real.plan_file.stat().st_mode & 0o777 == 0o600
    terraform.apply(real.plan_file)
    assert terraform.output() == {"cluster": {"number": 1}}
    assert (real.folder / "terraform.tfstate").stat().st_mode & 0o777 == 0o600
    assert [event.message for event in real.events if event.kind == "provision_progress"][-1] == "said"

    assert terraform.pull_state()["serial"] == 2

    assert terraform.plan(real.plan_file).empty
    assert plan_in(terraform.show_json(real.plan_file)) == Plan()
    real.write(number=2)
    assert terraform.plan(real.plan_file) == Plan(
        changes=(ResourceChange(action="update", **ONE),), outputs_change=True
    )
    replacing = terraform.plan(real.plan_file, replace=["terraform_data.one"])
    assert (replacing.count("replace"), plan_in(terraform.show_json(real.plan_file))) == (1, replacing)
    (real.folder / "main.tf").write_text("")
    removing = terraform.plan(real.plan_file)
    assert (removing.count("delete"), plan_in(terraform.show_json(real.plan_file))) == (1, removing)
    real.write(number=2)

    before = len(real.events)
    terraform.init()  # nothing it needs has changed
    assert len(real.events) == before
    terraform.start_destroy().wait()
    assert (real.state(), terraform.output()) == ([], {})


@pytest.mark.real
def test_a_real_failure(real: RealRoot) -> None:
    real.write(command="echo on the way; exit 3")
    real.terraform.init()
    real.terraform.plan(real.plan_file)
    with pytest.raises(TerraformError) as caught:
        real.terraform.apply(real.plan_file)
    replacing = real.terraform.plan(real.plan_file)
    assert (replacing.tainted, plan_in(real.terraform.show_json(real.plan_file))) == (
        ("terraform_data.one",),
        replacing,
    )
    first, second, *rest = caught.value.message.splitlines()
    assert first == "Terraform could not apply the plan:"
    assert second == "  local-exec provisioner error (terraform_data.one, main.tf:13)"
    assert "exit status 3" in "".join(rest)
    (real.folder / "more.tf").write_text("nonsense\n")
    with pytest.raises(TerraformError) as caught:
        real.terraform.plan(real.plan_file)
    assert caught.value.message.splitlines()[:2] == [
        "Terraform could not plan:",
        "  Argument or block definition required (more.tf:1)",
    ]


@pytest.mark.real
def test_a_real_apply_that_is_interrupted_saves_its_state(real: RealRoot) -> None:
    real.write(command="sleep 1")
    real.terraform.init()
    real.terraform.plan(real.plan_file)
    took = real.events.append

    def react(event: TerraformEvent) -> None:
        took(event)
        if event.kind == "provision_start":
            signal.raise_signal(signal.SIGINT)

    terraform = TerraformRoot(real.folder, real.terraform._binary, environ=os.environ, on_event=react)
    with pytest.raises(KeyboardInterrupt):
        terraform.apply(real.plan_file)
    assert real.state() == ["terraform_data.one"]
    terraform.start_destroy().wait()
    assert real.state() == []
