"""What `make scan` makes of checkov's report; that checkov says so of our roots, it shows itself."""

from __future__ import annotations

from typing import Any

from tests.terraform.policy_scan import ACCEPTED, Finding, judge, load_accepted, missing_roots

HEAD, SECRET = Finding("CKV_AWS_8", "aws_instance.head"), Finding("CKV_AWS_337", "aws_ssm_parameter.ray")


def failure(finding: Finding, case: str) -> dict[str, Any]:
    return {
        "check_id": finding.check,
        "check_name": "Ensure something",
        "file_path": f"/{case}/modules/aws/head.tf",
        "file_line_range": [22, 66],
        "resource": f"module.cluster.{finding.resource}",
    }


def report(*failed: dict[str, Any], errors: int = 0) -> dict[str, Any]:
    results = {"passed_checks": [], "failed_checks": list(failed), "parsing_errors": ["/x.tf"] * errors}
    return {"results": results, "summary": {"parsing_errors": errors}}


def test_what_is_accepted_is_no_problem() -> None:
    found = report(failure(HEAD, "one"), failure(HEAD, "two"), failure(SECRET, "one"))
    assert list(judge(found, {HEAD: "a reason", SECRET: "another"})) == []


def test_what_is_found_and_not_accepted_is_named_with_its_place() -> None:
    found = report(failure(HEAD, "one"), failure(SECRET, "two"))
    where = "two/modules/aws/head.tf:22: module.cluster.aws_ssm_parameter.ray: CKV_AWS_337: Ensure something"
    assert list(judge(found, {HEAD: "a reason"})) == [where]


def test_what_is_accepted_and_not_found_has_to_go() -> None:
    gone = "checkov.toml: CKV_AWS_337 on aws_ssm_parameter.ray is not found any more"
    assert list(judge(report(failure(HEAD, "one")), {HEAD: "a reason", SECRET: "another"})) == [gone]


def test_what_is_accepted_has_a_reason() -> None:
    none = "checkov.toml: CKV_AWS_8 on aws_instance.head has no reason"
    assert list(judge(report(failure(HEAD, "one")), {HEAD: " "})) == [none]
    assert all(load_accepted(ACCEPTED.read_text()).values())


def test_what_cannot_be_read_does_not_pass() -> None:
    assert list(judge(report(errors=1), {})) == ["checkov could not read 1 files: ['/x.tf']"]


def test_a_root_whose_module_was_not_looked_at_does_not_pass() -> None:
    unseen = "two: checkov has not seen the head node that this root calls for"
    assert list(missing_roots(report(failure(HEAD, "one")), ["one", "two"])) == [unseen]
