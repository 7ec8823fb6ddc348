"""Where a head answers, and how long each step of the way to it and to its Ray may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Ports and a path on a head of AWS's, and every deadline between this machine and Ray, in seconds.

    Whoever runs the command line inside a program of their own may hand another one to it as click's `obj`.
    """

    ssh_port: int = 22
    ray_port: int = 8265
    token_path: str = "/etc/daft/ray-token"  # noqa: S105 - a path on the head, no secret
    # To connect, to agree on encryption, to log in, to be answered: each.
    ssh_timeout: float = 20
    # How often a tunnel is asked whether it still leads to the head.
    tunnel_check: float = 2
    ray_connect: float = 10
    # A whole answer of Ray's, from the request on. The log of a job that has ended may take this for each 64 KiB.
    ray_answer: float = 60
    ray_upload: float = 300
    # How long a job is followed while nothing answers, and how often its status is asked while its log is silent.
    ray_reconnect: float = 60
    ray_poll: float = 1


USUAL_REACH = Reach()
