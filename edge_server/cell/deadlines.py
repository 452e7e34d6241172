"""Deadlines of single devices, as far as a cell can keep them together.

Devices tell their deadlines, and are believed; but whatever one tells leaves every other device half of what
an equal split would give that one, and what that one's own deadline needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_server.cell.allocation import Problem
from edge_server.cell.allocation.cost import bandwidth_floor
from edge_server.cell.elsewhere import Reckonable

#: Of an equal part of the bandwidth, what everybody's deadlines leave to each device.
_LEFT = 0.5


def uplink_within_s(session: Reckonable, share: float) -> float:
    """What making and sending tokens may take of the deadline of a session's last question [s].

    Args:
        session: that tells it.
        share: of the deadline; 0: deadlines are not reckoned.

    Returns:
        Infinite where none is told, or reckoned.
    """
    return (share * session.deadline_s) or math.inf


def airtime_left_s(session: Reckonable, share: float) -> float:
    """Of that, what making the tokens leaves for sending them [s]; 0: nothing."""
    return max(uplink_within_s(session, share) - session.encode_s, 0.0)


def with_deadlines(problem: Problem, within_K: Sequence[float]) -> tuple[Problem, int]:
    """A problem whose users keep their own deadlines too, and how many of these cannot be kept.

    Those that need most bandwidth are left out first, which leaves out the fewest.

    Args:
        problem: with the bounds that hold for everybody.
        within_K: deadline of each user [s]; infinite: none.
    """
    plain, bandwidth_hz = problem.users, problem.budget.bandwidth_hz
    if all(math.isinf(within_s) for within_s in within_K):
        return problem, 0
    bound = [
        user if math.isinf(within_s) else replace(user, deadline_s=min(user.deadline_s or math.inf, within_s))
        for user, within_s in zip(plain, within_K, strict=True)
    ]
    need_K = bandwidth_floor(replace(problem, users=tuple(bound)))
    least_K = np.maximum(bandwidth_floor(problem), _LEFT * bandwidth_hz / len(plain))
    held_K, unkept = np.maximum(need_K, least_K), set[int]()
    for k in map(int, np.argsort(-need_K)):
        if held_K.sum() > bandwidth_hz and need_K[k] > least_K[k]:
            held_K[k] = least_K[k]
            unkept.add(k)
    users = tuple(plain[k] if k in unkept else user for k, user in enumerate(bound))
    return replace(problem, users=users), len(unkept)
