"""The lab's network: a router with one cable to each machine, and security groups that it enforces.

Routed, not bridged, as in a VPC: machines share no link. A machine holds its public address
itself, where AWS translates.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

VPC = "10.77.0.0/16"
ROUTER = "10.77.0.1"  # the first address of a subnet is the VPC's router
METADATA = "169.254.169.254"
#: From where the tests come; 198.51.100.0/24 is nobody's (RFC 5737).
OPERATOR = "198.51.100.1"
STRANGER = "198.51.100.2"


@dataclass(frozen=True)
class Rule:
    """What may come in: `ports` is empty for every port, `protocol` "-1" for every protocol."""

    protocol: str
    ports: tuple[int, int] | None
    sources: tuple[str, ...]

    def __str__(self) -> str:
        protocol = "" if self.protocol == "-1" else f"meta l4proto {self.protocol} "
        ports = f"{self.protocol} dport {self.ports[0]}-{self.ports[1]} " if self.ports else ""
        return f"ip saddr {{ {', '.join(self.sources)} }} {protocol}{ports}accept"


@dataclass(frozen=True)
class Firewall:
    """The way in to one machine."""

    name: str
    addresses: tuple[str, ...]
    rules: tuple[Rule, ...]


def open_router() -> None:
    """Give the router its addresses, and let nothing pass."""
    _batch("", [f"addr replace {address}/32 dev lo" for address in (ROUTER, OPERATOR, METADATA)])
    close_all_but([])


def plug_in(name: str, *, private: str | None, public: str | None) -> None:
    """Make a network namespace, and a cable to it."""
    ours = [f"link add {name} type veth peer name eth0 netns {name}", f"link set {name} up"]
    theirs = ["link set lo up", "link set eth0 up"]
    for address, router in ((private, ROUTER), (public, OPERATOR)):
        if address:
            ours.append(f"route add {address}/32 dev {name} src {router}")
            theirs.append(f"addr add {address}/32 dev eth0")
    theirs.append(f"route add default via {ROUTER} dev eth0 onlink src {private or public}")
    subprocess.run(["ip", "netns", "add", name], check=True)
    _batch("", ours)
    _batch(name, theirs)


def unplug(name: str) -> None:
    """Take a cable and its namespace away."""
    subprocess.run(["ip", "link", "del", name], check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)


def close_all_but(firewalls: Iterable[Firewall]) -> None:
    """Let into each machine what its rules allow, and answers; nothing into any other."""
    lines = ["table inet lab {}", "delete table inet lab", "table inet lab {"]
    for firewall in firewalls:
        lines += [f"chain {firewall.name} {{", *map(str, firewall.rules), "drop", "}"]
    lines += ["chain in {", "ct state established,related accept"]
    for firewall in firewalls:
        lines += [f"ip daddr {address} jump {firewall.name}" for address in firewall.addresses]
    lines += ["}", "chain forward {", "type filter hook forward priority 0; policy drop;", "jump in", "}"]
    lines += ["chain output {", "type filter hook output priority 0; policy accept;", "jump in", "}", "}"]
    subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True)


def _batch(namespace: str, commands: list[str]) -> None:
    option = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *option, "-batch", "-"], input="\n".join(commands), text=True, check=True)
