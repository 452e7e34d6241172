"""Section K of the page: co-training over the network, and what was run smaller than promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_server.study.report.markdown import percent, table
from edge_server.study.report.sections import Found


def learned_together(files: Found) -> str:
    """Each row that was run, beside what was promised of it."""
    report = files["cotrain"]
    rows = report["rows"]
    parts = [_intro(report), "![Co-training](cotrain.png)"]
    makers = (
        ("equality", _equality),
        ("shift", _shift),
        ("bytes", _bytes),
        ("faults", _faults),
        ("poisoner", _poisoner),
        ("step", _step),
    )
    missing = [name for name, _ in makers if name not in rows]
    parts += [make(rows[name]) for name, make in makers if name in rows]
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _intro(report: Mapping[str, Any]) -> str:
    scale = next(iter(report["rows"].values()))["scale"]
    return (
        f"`edge-server study cotrain`: six devices with `{report['model']}`'s bundle, each with "
        f"{scale['clips']} "
        "clips of a world that is shifted in its own way and one labelled question of each (a tenth held "
        "out), "
        f"{scale['rounds']} steps of {scale['clips_a_step']} clips a device, {report['channel']['model']} at "
        f"{report['channel']['snr_db']:g} dB, {report['token_length']} tokens. Devices, edge and channel "
        "are the "
        "product's own, over gRPC on one machine; features are encoded beforehand. Tested on "
        f"{scale['test_clips']} further clips in each world, scored by teacher forcing."
    )


def _mean(seeds: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([each[key] for each in seeds]))


def _equality(row: Mapping[str, Any]) -> str:
    grpc, one = row["over_grpc"], row["in_one_process"]
    points = 100 * abs(grpc["shifted"] - one["shifted"])
    return (
        "**The same as in one process** (asked: accuracy within 0.5 points, curves on top of each other): "
        f"{percent(grpc['shifted'])} over gRPC, {percent(one['shifted'])} with torch alone, {points:.2f} "
        "points "
        f"apart; losses differ by {row['mean_loss_difference']:.1e} in the mean, "
        f"{row['largest_loss_difference']:.1e} at most."
    )


def _shift(row: Mapping[str, Any]) -> str:
    before = row["before"]
    cost = before["unshifted"] - before["shifted"]
    rows = [("before", percent(before["shifted"]), "", percent(before["unshifted"]), "", "")]
    for policy, seeds in row["policies"].items():
        shifted = _mean(seeds, "shifted")
        won = (shifted - before["shifted"]) / cost if cost > 0 else float("nan")
        rows.append(
            (
                policy,
                percent(shifted),
                percent(won),
                percent(_mean(seeds, "unshifted")),
                percent(_mean(seeds, "unshifted_with_first_head")),
                str(len(seeds)),
            )
        )
    head = (
        "policy",
        "shifted",
        "of the cost won back",
        "unshifted, own head",
        "unshifted, first head",
        "seeds",
    )
    return (
        "**Domain shift** (asked: half of the cost won back, at most 1 point lost on unshifted clips). "
        "The shift "
        f"costs {100 * cost:.1f} points, over {before['questions']} questions a world.\n\n"
        + table(head, rows)
    )


def _bytes(row: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            f"{each['up_bytes_per_step']:.0f}",
            f"{each['down_bytes_per_step']:.0f}",
            percent(each["shifted"]),
            f"{each['bytes'] / 1e6:.1f} MB",
        )
        for name, each in row["rows"].items()
    ]
    return (
        "**Bytes** of a device and step (asked: int8 within 0.5 points at about a quarter), both ways in "
        "the same "
        "type; the last row ends where its bytes are int8's.\n\n"
        + table(("type", "up", "down", "shifted", "in all"), rows)
    )


def _faults(row: Mapping[str, Any]) -> str:
    twice = row["devices_with_a_step_applied_twice"]
    points = 100 * (row["with"]["shifted"] - row["without"]["shifted"])
    faults = row["faults"]
    return (
        f"**Faults** ({faults['killed']:.0%} of devices killed and back, {faults['lost']:.0%} of "
        "gradients lost, "
        f"one device late by {faults['straggler_s']:.1f} s a step; asked: finishes, within 1 point, no "
        "step twice): "
        f"{row['steps']} steps made, {percent(row['with']['shifted'])} against "
        f"{percent(row['without']['shifted'])} without ({points:+.1f} points); steps applied twice on "
        f"{len(twice)} devices."
    )


def _poisoner(row: Mapping[str, Any]) -> str:
    named = ", ".join(f"{device} ({how})" for device, how in row["named"].items()) or "nobody"
    points = 100 * (row["others_poisoned"]["shifted"] - row["others_clean"]["shifted"])
    return (
        f"**A poisoner** ({row['poisoner']!r} learns wrong answers; asked: named, the others lose at most 1 "
        f"point): named: {named}; the others {percent(row['others_poisoned']['shifted'])} against "
        f"{percent(row['others_clean']['shifted'])} ({points:+.1f} points)."
    )


def _step(row: Mapping[str, Any]) -> str:
    ours, torchs = row["onnx"], row["torch"]
    return (
        "**A step on a device** (asked: at most 1.5 times torch's time at a third of its memory): "
        f"{1e3 * ours['step_s']:.1f} ms and {ours['peak_bytes'] / 2**20:.0f} MiB with ONNX Runtime and "
        "numpy, "
        f"{1e3 * torchs['step_s']:.1f} ms and {torchs['peak_bytes'] / 2**20:.0f} MiB with torch: "
        f"{ours['step_s'] / torchs['step_s']:.2f} times the time, "
        f"{ours['peak_bytes'] / torchs['peak_bytes']:.2f} of the memory."
    )
