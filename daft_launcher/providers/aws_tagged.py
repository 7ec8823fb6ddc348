"""What carries a cluster's tags, asked of each service itself: AWS's own index of tags lags minutes behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from daft_launcher.models import TaggedResource
from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_instances import (
    GENERATION_TAG,
    ROLE_TAG,
    STATUS_TAG,
    cluster_filters,
    cluster_tags,
    describe_instances,
    read_tags,
)

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef
    from mypy_boto3_autoscaling.type_defs import FilterTypeDef as GroupFilterTypeDef
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, SecurityGroupRuleTypeDef
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_ssm.type_defs import ParameterStringFilterTypeDef

# The path that terraform/aws/iam.tf gives to roles and instance profiles.
IAM_PATH = "/daft/"
ENDING = {"shutting-down", "terminated"}
INGRESS_RULE, EGRESS_RULE = "aws_vpc_security_group_ingress_rule", "aws_vpc_security_group_egress_rule"
PARAMETER = "aws_ssm_parameter"
# What Auto Scaling writes on each instance that it launches
# (docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html).
_GROUP_TAG = "aws:autoscaling:groupName"
_MODULE = "module.cluster."
_SSH_PORT = 22


def find_tagged(access: AWSAccess, region: str, cluster: str) -> list[TaggedResource]:
    """Return what still carries the cluster's tags; terminated instances are no more."""
    what = f"look for what is left of `{cluster}`"
    with access.asking("autoscaling", region, what) as autoscaling:
        groups = _describe_groups(autoscaling, cluster)
    with access.asking("ec2", region, what) as ec2:
        found = [*_instances(ec2, cluster, groups), *_other_ec2(ec2, cluster)]
    found += map(_to_group, groups)
    with access.asking("ssm", region, what) as ssm:
        found += _parameters(ssm, cluster)
    with access.asking("iam", region, what) as iam:
        found += [*_roles(iam, cluster, region), *_profiles(iam, cluster, region)]
    return found


def find_parts(
    access: AWSAccess, region: str, cluster: str, found: Sequence[TaggedResource]
) -> list[TaggedResource]:
    """Return what Terraform keeps by itself of the things that were found: rules of groups, policies of roles."""
    what = f"look for the parts of `{cluster}`"
    with access.asking("ec2", region, what) as ec2:
        groups = [group.id for group in found if group.type == "aws_security_group"]
        parts = list(_rules(ec2, cluster, groups)) if groups else []
    with access.asking("iam", region, what) as iam:
        for role in found:
            if role.type == "aws_iam_role":
                parts += _policies(iam, role.id)
    return parts


def is_all_shutting_down(access: AWSAccess, region: str, cluster: str) -> bool:
    """Return whether every instance is on its way out and none can follow.

    The groups come first: one that is on its way out itself starts nothing after the instances were read.
    """
    what = f"see whether `{cluster}` is shutting down"
    with access.asking("autoscaling", region, what) as autoscaling:
        if any(_may_launch(group) for group in _describe_groups(autoscaling, cluster)):
            return False
    with access.asking("ec2", region, what) as ec2:
        instances = describe_instances(ec2, cluster_filters(cluster))
    return all(instance["State"]["Name"] in ENDING for instance in instances)


def remove_strays(access: AWSAccess, region: str, strays: Sequence[TaggedResource]) -> None:
    """Delete parameters and rules of groups; a parameter that is gone already is as it should be."""
    for parameter in (stray for stray in strays if stray.type == PARAMETER):
        with access.asking("ssm", region, f"delete {parameter.name}") as ssm:
            _delete_parameter(ssm, parameter.id)
    for rule in (stray for stray in strays if stray.type == INGRESS_RULE):
        with access.asking("ec2", region, f"close a port: {rule.name}") as ec2:
            ec2.revoke_security_group_ingress(
                GroupId=rule.traits["security_group_id"], SecurityGroupRuleIds=[rule.id]
            )
    for rule in (stray for stray in strays if stray.type == EGRESS_RULE):
        with access.asking("ec2", region, f"remove {rule.name}") as ec2:
            ec2.revoke_security_group_egress(
                GroupId=rule.traits["security_group_id"], SecurityGroupRuleIds=[rule.id]
            )


def _delete_parameter(ssm: SSMClient, name: str) -> None:
    with contextlib.suppress(ssm.exceptions.ParameterNotFound):
        ssm.delete_parameter(Name=name)


def _may_launch(group: AutoScalingGroupTypeDef) -> bool:
    # A group has a status only while it is being deleted.
    return not group.get("Status") and group["MaxSize"] > 0


def _instances(
    ec2: EC2Client, cluster: str, groups: Iterable[AutoScalingGroupTypeDef]
) -> Iterator[TaggedResource]:
    kept = {group["AutoScalingGroupName"] for group in groups}
    described = describe_instances(ec2, cluster_filters(cluster))
    head = _choose_head(described)
    for instance in described:
        state, tags = instance["State"]["Name"], read_tags(instance.get("Tags"))
        if state == "terminated":
            continue
        stays = state not in ENDING and tags.get(_GROUP_TAG) not in kept
        yield TaggedResource(
            name=f"instance {instance['InstanceId']} ({state})",
            type="aws_instance" if stays else None,
            id=instance["InstanceId"],
            address=f"{_MODULE}aws_instance.head" if instance is head else None,
            traits=_traits(instance) if instance is head else {},
        )


def _choose_head(described: Iterable[InstanceTypeDef]) -> InstanceTypeDef | None:
    """Return the head that a cluster is to go on with: one that is ready before others, then the youngest."""

    def rank(instance: InstanceTypeDef) -> tuple[bool, float]:
        launched = instance.get("LaunchTime")
        ready = read_tags(instance.get("Tags")).get(STATUS_TAG) == "ready"
        return ready, launched.timestamp() if launched else 0

    heads = [
        instance
        for instance in described
        if read_tags(instance.get("Tags")).get(ROLE_TAG) == "head"
        if instance["State"]["Name"] not in ENDING
    ]
    return max(heads, key=rank, default=None)


def _traits(head: InstanceTypeDef) -> dict[str, str]:
    """Return what a head was made from that another day might choose differently."""
    traits = {
        "image_id": head.get("ImageId", ""),
        "root_device_name": head.get("RootDeviceName", ""),
        "instance_type": str(head.get("InstanceType", "")),
        "vpc_id": head.get("VpcId", ""),
        "subnet_id": head.get("SubnetId", ""),
    }
    generation = read_tags(head.get("Tags")).get(GENERATION_TAG)
    return traits | ({"generation": generation} if generation else {})


def _other_ec2(ec2: EC2Client, cluster: str) -> Iterator[TaggedResource]:
    filters = cluster_filters(cluster)
    for templates in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):
        for template in templates["LaunchTemplates"]:
            key, name = template["LaunchTemplateId"], template["LaunchTemplateName"]
            yield _resource(f"launch template {key} ({name})", "aws_launch_template.worker", key)
    for groups in ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in groups["SecurityGroups"]:
            key, name = group["GroupId"], group["GroupName"]
            yield _resource(f"security group {key} ({name})", "aws_security_group.nodes", key)
    for pair in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]:
        name = pair["KeyName"]
        yield _resource(f"key pair {pair['KeyPairId']} ({name})", "aws_key_pair.cluster[0]", name)
    for volumes in ec2.get_paginator("describe_volumes").paginate(Filters=filters):
        for volume in volumes["Volumes"]:
            # One that is in use goes with its instance.
            kind = "aws_ebs_volume" if volume["State"] == "available" else None
            name = f"volume {volume['VolumeId']} ({volume['Size']} GiB)"
            yield TaggedResource(name=name, type=kind, id=volume["VolumeId"])


def _resource(name: str, place: str, key: str) -> TaggedResource:
    return TaggedResource(name=name, type=place.partition(".")[0], id=key, address=f"{_MODULE}{place}")


def _to_group(group: AutoScalingGroupTypeDef) -> TaggedResource:
    key = group["AutoScalingGroupName"]
    name = f"Auto Scaling group {key}"
    if group.get("Status"):
        return TaggedResource(name=name)
    return _resource(name, "aws_autoscaling_group.workers", key)


def _describe_groups(autoscaling: AutoScalingClient, cluster: str) -> list[AutoScalingGroupTypeDef]:
    filters: list[GroupFilterTypeDef] = [
        {"Name": f"tag:{key}", "Values": [value]} for key, value in cluster_tags(cluster).items()
    ]
    pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters)
    return [group for page in pages for group in page["AutoScalingGroups"]]


def _parameters(ssm: SSMClient, cluster: str) -> Iterator[TaggedResource]:
    filters: list[ParameterStringFilterTypeDef] = [
        {"Key": f"tag:{key}", "Option": "Equals", "Values": [value]}
        for key, value in cluster_tags(cluster).items()
    ]
    for page in ssm.get_paginator("describe_parameters").paginate(ParameterFilters=filters):
        for parameter in page["Parameters"]:
            name = parameter.get("Name", "")
            # Without an address: importing it would bring its value into the state.
            yield TaggedResource(name=f"SSM parameter {name}", type=PARAMETER, id=name)


def _rules(ec2: EC2Client, cluster: str, groups: Sequence[str]) -> Iterator[TaggedResource]:
    of_groups: list[FilterTypeDef] = [{"Name": "group-id", "Values": groups}]
    pages = ec2.get_paginator("describe_security_group_rules").paginate(Filters=of_groups)
    for rule in (rule for page in pages for rule in page["SecurityGroupRules"]):
        came_with_group = _came_with_group(rule)
        if not (_is_ours(read_tags(rule.get("Tags")), cluster) or came_with_group):
            continue
        key, place = rule["SecurityGroupRuleId"], _place_of_rule(rule)
        source = rule.get("CidrIpv4") or rule.get("CidrIpv6") or "the group itself"
        yield TaggedResource(
            name=f"security group rule {key} ({source})",
            type=place.partition(".")[0],
            id=key,
            # It has to go, as the provider would have had it: to change it takes another right.
            address=None if came_with_group else f"{_MODULE}{place}",
            traits={"security_group_id": rule["GroupId"]},
        )


def _came_with_group(rule: SecurityGroupRuleTypeDef) -> bool:
    """Return whether EC2 made a rule with its group. A provider that is killed then has not removed it yet."""
    everywhere = rule.get("CidrIpv4") == "0.0.0.0/0" or rule.get("CidrIpv6") == "::/0"
    return rule["IsEgress"] and rule.get("IpProtocol") == "-1" and everywhere and not rule.get("Tags")


def _place_of_rule(rule: SecurityGroupRuleTypeDef) -> str:
    """Return what terraform/aws/security.tf calls a rule of this kind."""
    ipv4, ipv6 = rule.get("CidrIpv4"), rule.get("CidrIpv6")
    if rule["IsEgress"]:
        return f"{EGRESS_RULE}.{'ipv6' if ipv6 else 'ipv4'}"
    if rule.get("FromPort") == _SSH_PORT and (ipv4 or ipv6):
        return f'{INGRESS_RULE}.ssh["{ipv4 or ipv6}"]'
    return f"{INGRESS_RULE}.between_nodes"


def _roles(iam: IAMClient, cluster: str, region: str) -> Iterator[TaggedResource]:
    pages = iam.get_paginator("list_roles").paginate(PathPrefix=IAM_PATH)
    for name in (role["RoleName"] for page in pages for role in page["Roles"]):
        if name.startswith(_prefix(cluster, region)):
            yield from _of_node("IAM role", "aws_iam_role", name, _role_tags(iam, name), cluster)


def _profiles(iam: IAMClient, cluster: str, region: str) -> Iterator[TaggedResource]:
    pages = iam.get_paginator("list_instance_profiles").paginate(PathPrefix=IAM_PATH)
    for name in (one["InstanceProfileName"] for page in pages for one in page["InstanceProfiles"]):
        if name.startswith(_prefix(cluster, region)):
            tags = _profile_tags(iam, name)
            yield from _of_node("IAM instance profile", "aws_iam_instance_profile", name, tags, cluster)


def _of_node(
    kind: str, terraform_type: str, name: str, tags: dict[str, str], cluster: str
) -> Iterator[TaggedResource]:
    """Yield what IAM keeps for the nodes of one role, if its tags are the cluster's."""
    if _is_ours(tags, cluster):
        yield _resource(f"{kind} {name}", f'{terraform_type}.node["{tags.get(ROLE_TAG)}"]', name)


def _policies(iam: IAMClient, role: str) -> Iterator[TaggedResource]:
    """Yield what hangs on a role and keeps it from being deleted; to make it once more changes nothing."""
    for inline in iam.get_paginator("list_role_policies").paginate(RoleName=role):
        for name in inline["PolicyNames"]:
            yield TaggedResource(
                name=f"policy {name} of IAM role {role}", type="aws_iam_role_policy", id=f"{role}:{name}"
            )
    for attached in iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
        for policy in attached["AttachedPolicies"]:
            arn = policy.get("PolicyArn", "")
            yield TaggedResource(
                name=f"policy {arn} of IAM role {role}",
                type="aws_iam_role_policy_attachment",
                id=f"{role}/{arn}",
            )


def _prefix(cluster: str, region: str) -> str:
    """Return how names in IAM begin, which knows no regions, so that namesakes in two regions differ."""
    return f"{cluster}-{region}-"


def _is_ours(tags: dict[str, str], cluster: str) -> bool:
    return cluster_tags(cluster).items() <= tags.items()


def _role_tags(iam: IAMClient, name: str) -> dict[str, str]:
    """Return a role's tags; none when it has gone since it was listed."""
    try:
        return read_tags(iam.list_role_tags(RoleName=name)["Tags"])
    except iam.exceptions.NoSuchEntityException:
        return {}


def _profile_tags(iam: IAMClient, name: str) -> dict[str, str]:
    try:
        return read_tags(iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"].get("Tags"))
    except iam.exceptions.NoSuchEntityException:
        return {}
