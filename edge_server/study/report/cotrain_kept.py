"""What was promised of co-training beside what the study found, as rows for the table of promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
MOST_POINTS = 0.5
MOST_LOST_POINTS = 1.0
LEAST_WON = 0.5
MOST_TIMES, MOST_MEMORY = 1.5, 1 / 3
MOST_LOSS_APART = 0.05
"""Mean distance of two loss curves that lie on top of each other [nats]."""
MOST_BYTES = 0.3
"""About a quarter."""


def kept(rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """The promises that these rows settle."""
    found = []
    for name, makers in _MAKERS.items():
        if name in rows:
            found += [make(rows[name]) for make in makers]
        if name == "shift" and name in rows:
            several = [rows[each] for each in ("shift", "unrehearsed") if each in rows]
            found.append(_policies(max(several, key=lambda row: len(policies_of(row)))))
    return found


def mean(seeds: Sequence[Row], *path: str) -> float:
    """Mean of what lies at a path over the seeds that have it."""
    found = []
    for each in (seed for seed in seeds if path[0] in seed):
        value: Any = each
        for name in path:
            value = value[name]
        found.append(float(value))
    return float(np.mean(found))


def points_apart(seeds: Sequence[Row], first: str, second: str, kind: str = "shifted") -> float:
    """First minus second, mean over seeds, in points."""
    return 100 * (mean(seeds, first, kind) - mean(seeds, second, kind))


def policies_of(row: Row) -> list[str]:
    """Policies that were tried with any seed."""
    return list(
        dict.fromkeys(name for each in row["seeds"] for name in each if isinstance(each[name], Mapping))
    )


def won_back(row: Row, policy: str) -> float:
    """Share of what the shift cost that a policy won back, mean over seeds."""
    before = row["before"]
    cost = before["unshifted"] - before["shifted"]
    return (mean(row["seeds"], policy, "shifted") - before["shifted"]) / cost if cost > 0 else float("nan")


def lost_points(row: Row, policy: str) -> dict[str, float]:
    """Points lost on unshifted clips, mean over seeds: with devices' own heads, and with the first head."""
    before = 100 * row["before"]["unshifted"]
    return {
        "own head": before - 100 * mean(row["seeds"], policy, "unshifted"),
        "first head": before - 100 * mean(row["seeds"], policy, "unshifted_with_first_head"),
    }


def _equality(row: Row) -> dict[str, Any]:
    points = points_apart(row["seeds"], "over_grpc", "in_one_process")
    apart = mean(row["seeds"], "mean_loss_difference")
    return _promise(
        row,
        "Co-trained through gRPC minus the same recipe in one process, no faults",
        points,
        abs(points) <= MOST_POINTS and apart <= MOST_LOSS_APART,
        unit="points",
    )


def _shift(row: Row) -> dict[str, Any]:
    won, lost = won_back(row, "personal heads"), lost_points(row, "personal heads")
    worst = max(lost.values())
    return _promise(
        row,
        "Domain shift, 6 devices of 6 kinds, 100 examples each, 300 rounds: part of the loss won back; "
        "lost on unshifted clips",
        f"{100 * won:.1f}% won back; lost: "
        + ", ".join(f"{points:.1f} points with {whose}" for whose, points in lost.items()),
        won >= LEAST_WON and worst <= MOST_LOST_POINTS,
    )


def _policies(row: Row) -> dict[str, Any]:
    names = policies_of(row)
    told = ", ".join(f"{name} {100 * mean(row['seeds'], name, 'shifted'):.1f}%" for name in names)
    what = "Personal heads, shared heads, edge only, heads only, beside one another"
    return _promise(row, what, told, len(names) == 4)


def _bytes(row: Row) -> dict[str, Any]:
    points = points_apart(row["seeds"], "int8", "float32")
    share = mean(row["seeds"], "int8", "bytes") / mean(row["seeds"], "float32", "bytes")
    what = "Bytes per step with float32, float16, int8: int8 at about a quarter"
    told = f"{points:+.2f} points at {share:.3f} of the bytes"
    return _promise(row, what, told, abs(points) <= MOST_POINTS and share <= MOST_BYTES)


def _faults(row: Row) -> dict[str, Any]:
    seeds = row["seeds"]
    points = points_apart(seeds, "with", "without")
    finished = all(each["steps"] == row["scale"]["rounds"] for each in seeds)
    twice = sum(len(steps) for each in seeds for steps in each["applied_twice"].values())
    named = sum(len(each["named"]) for each in seeds)
    return _promise(
        row,
        "Faults: 30% of devices killed and back, 20% of gradients lost, one straggler 10 times slower",
        f"{'finishes' if finished else 'does not finish'}, {points:+.1f} points, {twice} steps applied twice"
        + (f", {named} honest devices named" if named else ""),
        finished and abs(points) <= MOST_LOST_POINTS and not twice and not named,
    )


def _poisoner(row: Row) -> dict[str, Any]:
    seeds = row["seeds"]
    right = sum(list(each["named"]) == [each["poisoner"]] for each in seeds)
    points = points_apart(seeds, "others_poisoned", "others_clean")
    return _promise(
        row,
        "One poisoner of six",
        f"it alone named with {right} of {len(seeds)} seeds; the others {points:+.1f} points",
        right == len(seeds) and points >= -MOST_LOST_POINTS,
    )


def _step(row: Row) -> dict[str, Any]:
    times, memory = step_ratios(row)
    return _promise(
        row,
        "A step on the device over the same step in torch: time; memory",
        f"{times:.2f} times the time; {memory:.2f} of the memory",
        times <= MOST_TIMES and memory <= MOST_MEMORY,
    )


def step_ratios(row: Row) -> tuple[float, float]:
    """Time and memory of a step on the device, over torch's."""
    ours, torchs = row["onnx"], row["torch"]
    return ours["step_s"] / torchs["step_s"], ours["peak_bytes"] / torchs["peak_bytes"]


def _average(row: Row) -> dict[str, Any]:
    before = row["before"]
    shifted = mean(row["seeds"], "shifted")
    won = (shifted - before["shifted"]) / (before["unshifted"] - before["shifted"])
    what = "FedAvg of whole heads with no learning at the edge, same data"
    return _promise(row, what, f"{100 * shifted:.1f}% of shifted questions, {100 * won:.1f}% won back", True)


_MAKERS: Mapping[str, Sequence[Callable[[Row], dict[str, Any]]]] = {
    "equality": (_equality,),
    "shift": (_shift,),
    "bytes": (_bytes,),
    "faults": (_faults,),
    "poisoner": (_poisoner,),
    "average": (_average,),
    "step": (_step,),
}


def _promise(row: Row, what: str, measured: float | str, met: bool, unit: str = "") -> dict[str, Any]:
    return {"what": what, "measured": measured, "met": met, "unit": unit, "commit": row["commit"]}
