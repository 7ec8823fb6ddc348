"""What is left of a cluster, asked of each service itself: AWS's own index of tags lags minutes behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from daft_launcher.providers.aws_access import AWSAccess
from daft_launcher.providers.aws_instances import (
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
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_ssm.type_defs import ParameterStringFilterTypeDef

# The path that terraform/aws/iam.tf gives to roles and instance profiles.
IAM_PATH = "/daft/"
ENDING = {"shutting-down", "terminated"}


def find_leftovers(access: AWSAccess, region: str, cluster: str) -> list[str]:
    """Return what still carries the cluster's tags, each as a kind and a name to look it up by."""
    what = f"look for what is left of `{cluster}`"
    with access.asking("ec2", region, what) as ec2:
        found = [*_instances(ec2, cluster), *_other_ec2(ec2, cluster)]
    with access.asking("autoscaling", region, what) as autoscaling:
        found += _groups(autoscaling, cluster)
    with access.asking("ssm", region, what) as ssm:
        found += _parameters(ssm, cluster)
    with access.asking("iam", region, what) as iam:
        found += [*_roles(iam, cluster, region), *_profiles(iam, cluster, region)]
    return found


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


def _may_launch(group: AutoScalingGroupTypeDef) -> bool:
    # A group has a status only while it is being deleted.
    return not group.get("Status") and group["MaxSize"] > 0


def _instances(ec2: EC2Client, cluster: str) -> Iterator[str]:
    for instance in describe_instances(ec2, cluster_filters(cluster)):
        state = instance["State"]["Name"]
        if state != "terminated":
            yield f"instance {instance['InstanceId']} ({state})"


def _other_ec2(ec2: EC2Client, cluster: str) -> Iterator[str]:
    filters = cluster_filters(cluster)
    for templates in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):
        for template in templates["LaunchTemplates"]:
            yield f"launch template {template['LaunchTemplateId']} ({template['LaunchTemplateName']})"
    for groups in ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in groups["SecurityGroups"]:
            yield f"security group {group['GroupId']} ({group['GroupName']})"
    for key in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]:
        yield f"key pair {key['KeyPairId']} ({key['KeyName']})"
    for volumes in ec2.get_paginator("describe_volumes").paginate(Filters=filters):
        for volume in volumes["Volumes"]:
            yield f"volume {volume['VolumeId']} ({volume['Size']} GiB)"


def _groups(autoscaling: AutoScalingClient, cluster: str) -> Iterator[str]:
    for group in _describe_groups(autoscaling, cluster):
        yield f"Auto Scaling group {group['AutoScalingGroupName']}"


def _describe_groups(autoscaling: AutoScalingClient, cluster: str) -> list[AutoScalingGroupTypeDef]:
    filters: list[GroupFilterTypeDef] = [
        {"Name": f"tag:{key}", "Values": [value]} for key, value in cluster_tags(cluster).items()
    ]
    pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters)
    return [group for page in pages for group in page["AutoScalingGroups"]]


def _parameters(ssm: SSMClient, cluster: str) -> Iterator[str]:
    filters: list[ParameterStringFilterTypeDef] = [
        {"Key": f"tag:{key}", "Option": "Equals", "Values": [value]}
        for key, value in cluster_tags(cluster).items()
    ]
    for page in ssm.get_paginator("describe_parameters").paginate(ParameterFilters=filters):
        for parameter in page["Parameters"]:
            yield f"SSM parameter {parameter['Name']}"


def _roles(iam: IAMClient, cluster: str, region: str) -> Iterator[str]:
    for page in iam.get_paginator("list_roles").paginate(PathPrefix=IAM_PATH):
        for role in page["Roles"]:
            name = role["RoleName"]
            if name.startswith(_prefix(cluster, region)) and _is_ours(_role_tags(iam, name), cluster):
                yield f"IAM role {name}"


def _profiles(iam: IAMClient, cluster: str, region: str) -> Iterator[str]:
    for page in iam.get_paginator("list_instance_profiles").paginate(PathPrefix=IAM_PATH):
        for profile in page["InstanceProfiles"]:
            name = profile["InstanceProfileName"]
            if name.startswith(_prefix(cluster, region)) and _is_ours(_profile_tags(iam, name), cluster):
                yield f"IAM instance profile {name}"


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
