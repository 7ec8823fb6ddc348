"""What is said of clusters that end by themselves; it is their heads that end them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from daft_launcher.console_words import describe_span
from daft_launcher.instances import InstanceState
from daft_launcher.models import Cluster
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

_LITTLE = timedelta(minutes=30)
_WORDS = {
    "max_lifetime": "{} after its head was made",
    "idle_timeout": "after {} without a job and an SSH session",
}


def tell_limits(config: ClusterConfig, tools: Tools) -> None:
    """Say what ends a cluster that is up, and warn when its head does not know of that."""
    limits = config.limits
    if not limits:
        return
    name = config.setup.name
    nodes = tools.provider.list_instances(name)
    heads = [node for node in nodes if node.role == "head" and node.state is InstanceState.RUNNING]
    if any(head.ends is None for head in heads):
        tools.reporter.warn(
            f"the head of {name} does not obey {' and '.join(limits)}: an earlier version made it, or its "
            "iam_instance_profile lacks rights (docs/iam.md); the cluster goes on until you run `daft down`"
        )
        return
    ways = " or ".join(_WORDS[limit].format(span) for limit, span in limits.items())
    tools.reporter.note(f"{name} ends by itself: {ways}")


def warn_of_end(cluster: Cluster, tools: Tools) -> None:
    """Warn when a job may not come to its end, because its cluster does so first.

    Of its age, that is: an idle cluster is none any more once it has a job.
    """
    now = datetime.now(timezone.utc)
    for end in cluster.ends:
        if end.limit == "max_lifetime" and end.at - now < _LITTLE:
            tools.reporter.warn(
                f"{cluster.name} ends in {describe_span(end.at - now)}, at {end.at:%H:%M} UTC, and its jobs with it, "
                f"because of max_lifetime; raise that in the configuration and run `daft up` to let it live on"
            )
