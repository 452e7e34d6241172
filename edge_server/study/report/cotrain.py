"""Section K of the page: co-training over the network, and what was run smaller than promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_server.study.report.cotrain_kept import (
    lost_points,
    mean,
    points_apart,
    policies_of,
    step_ratios,
    won_back,
)
from edge_server.study.report.markdown import percent, table
from edge_server.study.report.sections import Found

PROMISED_ROUNDS, PROMISED_SEEDS = 300, 3
_ALIKE = ("tuning", "unrehearsed", "step")
"""Rows that no one recipe makes."""


def learned_together(files: Found) -> str:
    """Each row that was run, beside what was promised of it."""
    report = files["cotrain"]
    rows = report["rows"]
    parts = [_intro(report), "![Co-training](cotrain.png)"]
    makers = (
        ("tuning", _tuning),
        ("equality", _equality),
        ("shift", _shift),
        ("unrehearsed", _unrehearsed),
        ("average", _average),
        ("bytes", _bytes),
        ("faults", _faults),
        ("poisoner", _poisoner),
        ("step", _step),
    )
    missing = [name for name, _ in makers if name not in rows]
    usual = _recipe(_first_scale(rows))
    for name, make in makers:
        if name in rows:
            recipe = _recipe(rows[name]["scale"])
            told = "" if recipe == usual or name in _ALIKE else f"\n\n(That row was made with {recipe}.)"
            parts.append(make(rows[name]) + told)
    if "cotrain_serving" in files:
        parts.append(_serving(files["cotrain_serving"]))
    else:
        missing.append("serving meanwhile")
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _intro(report: Mapping[str, Any]) -> str:
    rows = report["rows"]
    scale = _first_scale(rows)
    seeds = {name: len(row["seeds"]) for name, row in rows.items() if "seeds" in row}
    smaller = []
    if scale["rounds"] < PROMISED_ROUNDS:
        smaller.append(f"{scale['rounds']} steps of the {PROMISED_ROUNDS} that were promised")
    fewer = [f"{name} {count}" for name, count in seeds.items() if count < PROMISED_SEEDS]
    if fewer:
        smaller.append(f"fewer than {PROMISED_SEEDS} seeds ({', '.join(fewer)})")
    return (
        f"`edge-server study cotrain`: six devices with `{report['model']}`'s bundle, each with "
        f"{scale['clips']} clips of a world that is shifted in its own way and one labelled question of each "
        f"(a tenth held out), {scale['rounds']} steps of {_recipe(scale)}; {report['channel']['model']} at "
        f"{report['channel']['snr_db']:g} dB, {report['token_length']} tokens. Devices, edge and channel are "
        "the product's own, over gRPC on one machine; features are encoded beforehand. Tested on "
        f"{scale['test_clips']} further clips in each world, scored by teacher forcing; figures are means "
        f"over seeds, {max(seeds.values(), default=1)} at most."
        + (f" **Run smaller than promised:** {'; '.join(smaller)}." if smaller else "")
    )


def _first_scale(rows: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the row was made that says the most, else whichever there is."""
    scale: Mapping[str, Any] = rows.get("shift", next(iter(rows.values())))["scale"]
    return scale


def _recipe(scale: Mapping[str, Any]) -> str:
    """How a row learned, in words; a row that is older says nothing of what was not there yet."""
    share = scale.get("rehearse_share", 0.0)
    rehearsed = (
        f"{scale['rehearse_clips']} of {scale['rehearsed_clips']} old clips rehearsed at the edge with "
        f"{share:.0%} of the weight"
        if share
        else "nothing rehearsed"
    )
    edge, heads = scale.get("keep_edge", 0.0), scale.get("keep_heads", 0.0)
    pulled = (
        f", weights at the end pulled back by {edge:.0%} (edge) and {heads:.0%} (heads)"
        if edge or heads
        else ""
    )
    align = scale.get("align", 0.0)
    begun = f", own heads begun {align:.0%} aligned to what their device sees" if align else ""
    return (
        f"{scale['clips_a_step']} clips a device, peak rate {scale['learning_rate']:g}, heads "
        f"{scale.get('head_rate', 1.0):g} times that{begun}, {rehearsed}{pulled}"
    )


def _tuning(row: Mapping[str, Any]) -> str:
    before, rows = row["before"], []
    for each in row["candidates"]:
        told = each["settings"]
        lost = [
            100 * (before["unshifted"] - each[name]) for name in ("unshifted", "unshifted_with_first_head")
        ]
        rows.append(
            (
                f"{told['rehearse_share']:g}",
                f"{told['learning_rate']:g}",
                f"{told['head_rate']:g}",
                str(told["clips"]),
                f"{told.get('align', 0.0):g}",
                f"{told['keep_edge']:g}, {told['keep_heads']:g}",
                percent(_won(before, each["shifted"])),
                *(f"{points:+.1f}" for points in lost),
                "chosen" if told == row["chosen"] else "",
            )
        )
    head = (
        "rehearsed",
        "rate",
        "heads",
        "clips",
        "aligned",
        "pulled back: edge, heads",
        "won back",
        "lost, own head",
        "lost, first head",
        "",
    )
    return (
        f"**Settings**, chosen on {row['scale']['tuning_clips']} validation clips ({before['questions']} "
        f"questions a world), seed {row['seed']}, in one process: {row['rule']}.\n\n" + table(head, rows)
    )


def _won(before: Mapping[str, Any], shifted: float) -> float:
    return (shifted - float(before["shifted"])) / (float(before["unshifted"]) - float(before["shifted"]))


def _equality(row: Mapping[str, Any]) -> str:
    seeds = row["seeds"]
    points = points_apart(seeds, "over_grpc", "in_one_process")
    largest = max(each["largest_loss_difference"] for each in seeds)
    return (
        "**The same as in one process** (asked: accuracy within 0.5 points, curves on top of each other): "
        f"{percent(mean(seeds, 'over_grpc', 'shifted'))} over gRPC, "
        f"{percent(mean(seeds, 'in_one_process', 'shifted'))} with torch alone, {points:+.2f} points; "
        f"a device's losses differ by {mean(seeds, 'mean_loss_difference'):.1e} in the mean, {largest:.1e} "
        "at most."
    )


def _shift(row: Mapping[str, Any]) -> str:
    before = row["before"]
    cost = before["unshifted"] - before["shifted"]
    named = sum(
        len(each[policy]["named"]) for each in row["seeds"] for policy in policies_of(row) if policy in each
    )
    return (
        "**Domain shift** (asked: half of the cost won back, at most 1 point lost on unshifted clips). "
        f"The shift costs {100 * cost:.1f} points, over {before['questions']} questions a world. With the "
        "first head: a device that took no part asks the edge that learned. Honest devices that were named "
        f"as poisoners: {named}.\n\n" + _table_of_policies(row)
    )


def _unrehearsed(row: Mapping[str, Any]) -> str:
    return "**The same without anything that keeps old knowledge.**\n\n" + _table_of_policies(row)


def _table_of_policies(row: Mapping[str, Any]) -> str:
    before, seeds = row["before"], row["seeds"]
    policies = policies_of(row)
    rows = [("before", "", percent(before["shifted"]), "", percent(before["unshifted"]), "", "")]
    for policy in policies:
        lost = lost_points(row, policy)
        rows.append(
            (
                policy,
                str(sum(policy in each for each in seeds)),
                percent(mean(seeds, policy, "shifted")),
                percent(won_back(row, policy)),
                percent(mean(seeds, policy, "unshifted")),
                percent(mean(seeds, policy, "unshifted_with_first_head")),
                f"{max(lost.values()):+.1f}",
            )
        )
    head = (
        "policy",
        "seeds",
        "shifted",
        "of the cost won back",
        "unshifted, own head",
        "unshifted, first head",
        "points lost, the worse of both",
    )
    return table(head, rows)


def _average(row: Mapping[str, Any]) -> str:
    return (
        "**Whole heads averaged, nothing learned at the edge** (FedAvg as a baseline; this program's own, as "
        "Flower's package asks for another protobuf than this one): "
        f"{percent(mean(row['seeds'], 'shifted'))} of shifted questions, "
        f"{percent(mean(row['seeds'], 'unshifted'))} of unshifted ones."
    )


def _bytes(row: Mapping[str, Any]) -> str:
    seeds: Sequence[Mapping[str, Any]] = row["seeds"]
    names = [name for name in seeds[0] if isinstance(seeds[0][name], Mapping)]
    rows = [
        (
            name,
            f"{mean(seeds, name, 'rounds'):.0f}",
            f"{mean(seeds, name, 'up_bytes_per_step'):.0f}",
            f"{mean(seeds, name, 'down_bytes_per_step'):.0f}",
            f"{mean(seeds, name, 'bytes') / 1e6:.1f} MB",
            percent(mean(seeds, name, "shifted")),
        )
        for name in names
    ]
    return (
        "**Bytes** of a device and step (asked: int8 within 0.5 points at about a quarter), both ways in the "
        f"same type: int8 {points_apart(seeds, 'int8', 'float32'):+.2f} points at "
        f"{mean(seeds, 'int8', 'bytes') / mean(seeds, 'float32', 'bytes'):.3f} of float32's bytes.\n\n"
        + table(("type", "steps", "up", "down", "in all", "shifted"), rows)
    )


def _faults(row: Mapping[str, Any]) -> str:
    seeds = row["seeds"]
    twice = sum(len(steps) for each in seeds for steps in each["applied_twice"].values())
    counters = [one for each in seeds for one in each["counters"].values()]
    faults = seeds[0]["faults"]
    missed, late, joins = (sum(each[name] for each in counters) for name in ("missed", "late", "joins"))
    return (
        f"**Faults** ({faults['killed']:.0%} of devices killed and back, {faults['lost']:.0%} of gradients "
        f"lost, one device late by ten steps' time; asked: finishes, within 1 point, no step twice): "
        f"{min(each['steps'] for each in seeds)} steps made, "
        f"{percent(mean(seeds, 'with', 'shifted'))} against {percent(mean(seeds, 'without', 'shifted'))} "
        f"without ({points_apart(seeds, 'with', 'without'):+.1f} points); {twice} steps applied twice; "
        f"{missed} batches missed, {late} late, {joins - len(counters)} rejoined."
    )


def _poisoner(row: Mapping[str, Any]) -> str:
    seeds = row["seeds"]
    told = []
    for each in seeds:
        named = ", ".join(f"{device}: {how}" for device, how in each["named"].items()) or "nobody"
        told.append(f"seed {each['seed']}, after {each['steps_with_it']} steps: {named}")
    return (
        f"**A poisoner** ({seeds[0]['poisoner']!r} learns wrong answers; asked: named, the others lose at "
        f"most 1 point): {'; '.join(told)}. The others "
        f"{percent(mean(seeds, 'others_poisoned', 'shifted'))} against "
        f"{percent(mean(seeds, 'others_clean', 'shifted'))} "
        f"({points_apart(seeds, 'others_poisoned', 'others_clean'):+.1f} points)."
    )


def _step(row: Mapping[str, Any]) -> str:
    ours, torchs = row["onnx"], row["torch"]
    times, memory = step_ratios(row)
    return (
        "**A step on a device** (asked: at most 1.5 times torch's time at a third of its memory): "
        f"{1e3 * ours['step_s']:.1f} ms and {ours['peak_bytes'] / 2**20:.0f} MiB with ONNX Runtime and "
        f"numpy, {1e3 * torchs['step_s']:.1f} ms and {torchs['peak_bytes'] / 2**20:.0f} MiB with torch: "
        f"{times:.2f} times the time, {memory:.2f} of the memory."
    )


def _serving(report: Mapping[str, Any]) -> str:
    return (
        f"**Serving meanwhile** (`{report['command']}`, {report['rate_hz']:g} questions a second; asked: p99 "
        f"at most 1.3 times): {1e3 * report['beside_p99_s']['median']:.1f} ms beside a round that learns, "
        f"{1e3 * report['alone_p99_s']['median']:.1f} ms alone, {report['p99_ratio']['median']:.2f} times "
        f"(quartiles {report['p99_ratio']['lower']:.2f} to {report['p99_ratio']['upper']:.2f}, "
        f"{len(report['p99_ratio']['values'])} turns); {report['steps']} steps were made meanwhile."
    )
