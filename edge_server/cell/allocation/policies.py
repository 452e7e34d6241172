"""All policies, by the names that settings and figures use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edge_server.cell.allocation.closed_forms import Equal, Fixed, MaxMin, ProportionalFair, WaterFilling
from edge_server.cell.allocation.greedy import Greedy
from edge_server.cell.allocation.joint import Joint
from edge_server.cell.allocation.policy import Policy

#: Every policy, made with its defaults.
POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {policy.name: policy for policy in (Equal, Fixed, ProportionalFair, MaxMin, WaterFilling, Greedy, Joint)}
)


def make_policy(name: str) -> Policy:
    """The policy of this name, with its defaults.

    Raises:
        ValueError: there is none; names those that are.
    """
    if name not in POLICIES:
        raise ValueError(f"policy: {', '.join(POLICIES)}, not {name!r}")
    return POLICIES[name]()
