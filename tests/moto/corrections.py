"""Where moto behaves otherwise than AWS, put right for as long as a MotoServer runs.

Each function takes moto's own and returns its replacement; only what Terraform trips over is here.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError, InvalidLaunchTemplateIdNotFound
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.instances import Instance
from moto.ec2.models.launch_templates import LaunchTemplateBackend, LaunchTemplateVersion
from moto.ec2.models.security_groups import SecurityGroupBackend, SecurityGroupRule
from moto.ec2.responses.spot_instances import SpotInstances
from moto.ec2.utils import parse_user_data
from moto.iam.models import IAMBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.responses import S3Response

from tests.leaks import SEARCH
from tests.moto.gone import gone_by_rule_id, gone_from_profile
from tests.moto.pricing import answering_price_list, spot_price_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.moto.server import MotoServer

DEFAULT_IMAGE = "ami-01c3c55948a949a52"


class Failure(NamedTuple):
    """An error of EC2's; the ones about its own capacity come with status 500."""

    code: str
    message: str
    status: int = 400


class GroupExistsError(AutoscalingClientError):
    """EC2 Auto Scaling's error for a name that is taken."""

    code = "AlreadyExists"


class Request(NamedTuple):
    """One call that reached the server."""

    service: str
    action: str
    region: str


@contextlib.contextmanager
def corrected(server: MotoServer) -> Iterator[None]:
    """Put moto right while the block runs."""
    with contextlib.ExitStack() as undo:
        for owner, name, replacement in (
            (BaseResponse, "call_action", _recording(BaseResponse.call_action, server)),
            (AmiBackend, "_load_amis", _with_default_image(AmiBackend._load_amis)),
            (Instance, "__init__", _slow_start(Instance.__init__, server)),
            (Instance, "prep_nics", _with_nics_that_go(Instance.prep_nics)),
            (Instance, "terminate", _slow_end(Instance.terminate, server)),
            (
                LaunchTemplateBackend,
                "delete_launch_template",
                _gone_by_id(LaunchTemplateBackend.delete_launch_template),
            ),
            (LaunchTemplateVersion, "__init__", _as_sent(LaunchTemplateVersion.__init__)),
            (LaunchTemplateVersion, "security_groups", property(_template_security_groups)),
            (SecurityGroupRule, "description", property(_rule_description)),
            (
                SecurityGroupBackend,
                "delete_security_group",
                _unless_used(SecurityGroupBackend.delete_security_group),
            ),
            *(
                (SecurityGroupBackend, name, gone_by_rule_id(getattr(SecurityGroupBackend, name)))
                for name in ("revoke_security_group_ingress", "revoke_security_group_egress")
            ),
            (
                IAMBackend,
                "remove_role_from_instance_profile",
                gone_from_profile(IAMBackend.remove_role_from_instance_profile),
            ),
            (FakeAutoScalingGroup, "update", _keeping_policy(FakeAutoScalingGroup.update)),
            (
                AutoScalingBackend,
                "create_auto_scaling_group",
                _unless_taken(AutoScalingBackend.create_auto_scaling_group),
            ),
            (AutoScalingResponse, "start_instance_refresh", _start_instance_refresh),
            (SpotInstances, "describe_spot_price_history", _spot_price_history),
            (DomainDispatcherApplication, "get_application", _with_price_list(server)),
            (S3Backend, "create_bucket", _closed_from_the_start(S3Backend.create_bucket)),
            (S3Response, "_set_action", _recording_s3(S3Response._set_action, server)),
            (FakeBucket, "get_permission", _over_tls(FakeBucket.get_permission)),
        ):
            undo.enter_context(patched(owner, name, replacement))
        yield


def _recording(
    call_action: Callable[[BaseResponse], Any], server: MotoServer
) -> Callable[[BaseResponse], Any]:
    def recorded(response: BaseResponse) -> Any:
        service, action = response.service_name or "", response._get_action()
        server.requests.append(Request(service, action, response.region))
        SEARCH.note(f"{service} {action}", _body(response, response.querystring))
        failure = server.failure_of(action, response.region)
        if service != "ec2" or failure is None:
            # Each request has a thread of its own, and what moto holds is made for one: a list that another call
            # grows meanwhile ends in a 500, and what was made before it is there when the caller tries again.
            with server.turn:
                answer = call_action(response)
            if service == "sts":
                SEARCH.learn_credentials(str(answer))
            return answer
        error = EC2ClientError(failure.code, failure.message)
        _, headers, body = response.serialized(ActionResult(error))
        return failure.status, headers, body

    return recorded


def _body(response: BaseResponse, fields: dict[str, Any]) -> bytes:
    # Of what came as a form, moto keeps the fields alone.
    body = response.body or json.dumps(fields)
    return body if isinstance(body, bytes) else str(body).encode()


def _with_price_list(server: MotoServer) -> Callable[..., Any]:
    def record(service: str, action: str, region: str) -> Failure | None:
        server.requests.append(Request(service, action, region))
        return server.failure_of(action, region)

    return answering_price_list(DomainDispatcherApplication.get_application, record)


def _spot_price_history(response: Any) -> ActionResult:
    # moto's costs a thousandth of a cent in every zone, since 2006.
    return ActionResult(spot_price_history(response))


#: What IAM calls the requests that moto takes for others, by the word in their query.
_S3_ACTIONS = {"encryption": "EncryptionConfiguration", "publicAccessBlock": "BucketPublicAccessBlock"}


def _recording_s3(set_action: Callable[..., None], server: MotoServer) -> Callable[..., None]:
    # moto's S3 finds its way without call_action.
    def recorded(response: S3Response, kind: str, method: str, query: dict[str, Any]) -> None:
        set_action(response, kind, method, query)
        named = [f"{method.title()}{name}" for word, name in _S3_ACTIONS.items() if word in query]
        server.requests.append(Request("s3", named[0] if named else response.data["Action"], response.region))
        # Not `querystring`: where there is none, moto puts the headers there, and the token of who asks is one.
        SEARCH.note(f"s3 {response.data['Action']}", _body(response, query))

    return recorded


def _with_default_image(load_amis: Callable[[AmiBackend], None]) -> Callable[[AmiBackend], None]:
    def load(backend: Any) -> None:
        load_amis(backend)
        if backend.region_name == "us-west-2":
            backend.amis[DEFAULT_IMAGE] = Ami(
                backend,
                DEFAULT_IMAGE,
                name="al2023-ami-kernel-6.1-arm64",
                architecture="arm64",
                root_device_name="/dev/xvda",
                virtualization_type="hvm",
                owner_id="137112412989",
                owner_alias="amazon",
                public=True,
            )

    return load


def _slow_start(init: Callable[..., None], server: MotoServer) -> Callable[..., None]:
    def start(instance: Instance, *args: Any, **kwargs: Any) -> None:
        init(instance, *args, **kwargs)
        if server.pending:
            _set_state(instance, "pending", 0)
            _later(
                server.pending, lambda: instance.state == "pending" and _set_state(instance, "running", 16)
            )

    return start


def _slow_end(terminate: Callable[[Instance], Any], server: MotoServer) -> Callable[[Instance], Any]:
    def end(instance: Instance) -> Any:
        if instance.state in {"shutting-down", "terminated"}:
            return instance._state
        if not server.shutting_down:
            return terminate(instance)
        _later(server.shutting_down, lambda: terminate(instance))
        return _set_state(instance, "shutting-down", 32)

    return end


def _with_nics_that_go(prep_nics: Callable[..., None]) -> Callable[..., None]:
    # moto keeps the interfaces of a terminated instance, and does not show an interface's groups on its instance.
    def prepare(instance: Instance, nic_spec: list[dict[str, Any]], *args: Any, **kwargs: Any) -> None:
        prep_nics(instance, nic_spec, *args, **kwargs)
        brought_along = {nic.get("NetworkInterfaceId") for nic in nic_spec}
        for nic in instance.nics.values():
            nic.delete_on_termination = nic.id not in brought_along
        instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)

    return prepare


def _as_sent(init: Callable[..., None]) -> Callable[..., None]:
    # moto mixes the template's own tags into its data, and leaves the user data of later versions unparsed.
    def prepare(version: Any, template: Any, number: int, data: dict[str, Any], description: str) -> None:
        data = dict(data)
        if isinstance(data.get("UserData"), str):
            data["UserData"] = parse_user_data(data["UserData"])
        if specs := data.pop("TagSpecifications", []):
            data["TagSpecifications"] = [s for s in specs if s["ResourceType"] != "launch-template"]
        init(version, template, number, data, description)

    return prepare


def _template_security_groups(version: LaunchTemplateVersion) -> list[str]:
    on_interfaces = [
        group for nic in version.data.get("NetworkInterfaces", []) for group in nic.get("Groups", [])
    ]
    return on_interfaces or version.data.get("SecurityGroups", [])


def _gone_by_id(delete: Callable[..., Any]) -> Callable[..., Any]:
    # moto answers with the error for a name. Terraform takes the one for an id as done: a call whose answer was lost
    # is made again.
    def checked(backend: LaunchTemplateBackend, name: str | None, tid: str | None) -> Any:
        if not name and tid and tid not in backend.launch_templates:
            raise InvalidLaunchTemplateIdNotFound(tid)
        return delete(backend, name, tid)

    return checked


def _rule_description(rule: SecurityGroupRule) -> str | None:
    return rule.ip_range.get("Description") or rule.source_group.get("Description")


def _unless_used(delete: Callable[..., None]) -> Callable[..., None]:
    def checked(backend: Any, name: str | None = None, group_id: str | None = None) -> None:
        if any(group.id == group_id for nic in backend.enis.values() for group in nic.group_set):
            raise DependencyViolationError(f"resource {group_id} has a dependent object")
        delete(backend, name, group_id)

    return checked


def _keeping_policy(update: Callable[..., None]) -> Callable[..., None]:
    # moto drops the group's mixed instances policy on an update that does not speak of it.
    def kept(group: FakeAutoScalingGroup, *args: Any, **changes: Any) -> None:
        if not changes["mixed_instances_policy"] and group.mixed_instances_policy:
            policy = copy.deepcopy(group.mixed_instances_policy)
            # moto adds the template's name to its id, and then takes only one of the two.
            policy["LaunchTemplate"]["LaunchTemplateSpecification"].pop("LaunchTemplateName", None)
            changes["mixed_instances_policy"] = policy
        update(group, *args, **changes)

    return kept


def _unless_taken(create: Callable[..., Any]) -> Callable[..., Any]:
    # moto makes a second group in the place of the first, whose instances live on.
    def created(backend: AutoScalingBackend, name: str, *args: Any, **kwargs: Any) -> Any:
        if name in backend.autoscaling_groups:
            raise GroupExistsError(f"A group with the name {name} already exists")
        return create(backend, name, *args, **kwargs)

    return created


def _start_instance_refresh(response: AutoScalingResponse) -> ActionResult:
    # moto has none. AWS replaces the instances over minutes; here they are replaced at once.
    group = response.autoscaling_backend.autoscaling_groups[response._get_param("AutoScalingGroupName")]
    wanted = group.desired_capacity
    group.set_desired_capacity(0)
    group.set_desired_capacity(wanted)
    return ActionResult({"InstanceRefreshId": "08b91cf7-8fa6-48af-b6a6-d227f40f1b9b"})


def _closed_from_the_start(create: Callable[..., FakeBucket]) -> Callable[..., FakeBucket]:
    # As AWS does since 2023 where nobody asks: https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html
    def created(backend: S3Backend, name: str, *args: Any, **kwargs: Any) -> FakeBucket:
        bucket = create(backend, name, *args, **kwargs)
        every = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        backend.put_public_access_block(name, dict.fromkeys(every, "true"))
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        backend.put_bucket_encryption(name, {"Rule": rule})
        return bucket

    return created


def _over_tls(get_permission: Callable[..., Any]) -> Callable[..., Any]:
    # moto reads no conditions, and would deny all where whoever comes without TLS is denied.
    def permission(bucket: FakeBucket, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return get_permission(bucket, action, resource)
        policy = json.loads(bucket.policy)
        without_tls = {"Bool": {"aws:SecureTransport": "false"}}
        kept = [one for one in policy["Statement"] if one.get("Condition") != without_tls]
        seen = copy.copy(bucket)
        seen.policy = json.dumps({**policy, "Statement": kept}).encode() if kept else None
        return get_permission(seen, action, resource)

    return permission


def _set_state(instance: Instance, name: str, code: int) -> Any:
    before = instance._state
    instance._state = type(before)(name, code)
    return before


def _later(seconds: float, action: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def patched(owner: type, name: str, replacement: object) -> Iterator[None]:
    """Put something in the place of a class's attribute while the block runs."""
    missing = object()
    original = owner.__dict__.get(name, missing)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if original is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
