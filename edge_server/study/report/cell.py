"""Section H of the page: what joint allocation gains, and where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.report.markdown import percent, percent_spread, table
from edge_server.study.report.sections import Found

_SAVED = "joint_saves"
_BY_FIT, _OPTIMUM = "joint_by_fit", "optimum"


def shared_out(files: Found) -> str:
    """Joint beside every other policy, over bandwidth, power and users; live, where that was measured."""
    report = files["cell"]
    parts = [_intro(report), "![Cost per user](cell.png)", _sweeps(report), _exhaustive(report)]
    if "cell_live" in files:
        parts.append(_live(files["cell_live"]))
    if "allocation_load" in files:
        parts.append(_load(files["allocation_load"]))
    return "\n\n".join(parts)


def _intro(report: Mapping[str, Any]) -> str:
    fit, objective, geometry = report["loss"], report["objective"], report["geometry"]
    return (
        f"`edge-server study cell`: {report['drops']} drops of users over a cell of "
        f"{geometry['radius_m']:g} m (3GPP TR 36.814, case 3: path loss, {geometry['shadowing_db']:g} dB "
        f"shadowing, {geometry['wall_db']:g} dB through the wall), the loss that was measured of "
        f"`{report['model']}` ({report['mix']}), which policies reckon with and are judged by. A user's "
        f"cost: {objective['latency_weight']:g} times airtime over {objective['reference_s']:g} s, and "
        f"{1 - objective['latency_weight']:g} times loss. `joint_by_fit` is joint allocation that reckons "
        f"with the fit alone, {fit['a']:.3f} + {fit['b']:.3f} L^-{fit['p']:.2f} + {fit['c']:.4f} "
        f"gamma^-{fit['d']:.2f} (off by {fit['rms_error']:.3f} in the mean square, {fit['max_error']:.3f} "
        "at most). How much less joint allocation costs than the others:"
    )


def _sweeps(report: Mapping[str, Any]) -> str:
    points = report["points"]
    others = [name for name in points[0]["policies"] if name not in ("joint", _OPTIMUM)]
    rows = [
        (
            f"{point['users']} users, {point['bandwidth_hz'] / 1e6:g} MHz, {point['power_dbm']:g} dBm",
            f"{point['policies']['joint']['token_length']['mean']:.1f}",
            *(percent_spread(point["policies"][name][_SAVED]) for name in others),
            f"{-point['policies'][_OPTIMUM][_SAVED]['mean']:.2%}",
        )
        for point in points
    ]
    worst = max(point["policies"][name]["worst_drop"] for point in points for name in others)
    return (
        table(("cell", "tokens, joint", *(f"than {name}" for name in others), "above the optimum"), rows)
        + f"\n\nJoint is at most {worst:.6f} times as dear as any of these in any drop. `equal` has the best "
        "length that is the same for all; `fixed` 16 tokens for all. The optimum is that of all ways to "
        "share 600 parts of the bandwidth out; a negative number says that the grid is too coarse."
    )


def _exhaustive(report: Mapping[str, Any]) -> str:
    rows = [
        (row["users"], row["drops"], f"{row['mean_ratio']:.5f}", f"{row['worst_ratio']:.5f}")
        for row in report["exhaustive"]
    ]
    return "Joint over the exhaustive optimum, where the loss is the fit:\n\n" + table(
        ("users", "drops", "mean", "worst drop"), rows
    )


def _live(report: Mapping[str, Any]) -> str:
    rows = [
        (
            row["policy"],
            f"{row['cost']:.4f} / {row['predicted_cost']:.4f}",
            percent(row["accuracy"]),
            f"{row['right_per_s_of_airtime']:.1f} / {row['predicted_right_per_s_of_airtime']:.1f}",
            f"{1e3 * row['airtime_p95_s']:.2f} / {1e3 * row['predicted_airtime_p95_s']:.2f} ms",
            f"{row['tokens_mean']:.1f}",
        )
        for row in report["policies"]
    ]
    walk = report["walk"]
    lags = ", ".join(
        f"{step['snr_db']:g} dB " + ("the same grant" if step["lag_s"] is None else f"{step['lag_s']:.2f} s")
        for step in walk["steps"]
    )
    head = (
        "policy",
        "cost of a question",
        "right",
        "right answers per second of airtime",
        "airtime, p95",
        "tokens",
    )
    return (
        f"Live, {report['users']} agents over gRPC at one server, measured / predicted "
        f"(`{report['command']}`):\n\n{table(head, rows)}\n\nOne that walks, asking all the time: how long "
        f"after each step its grant followed: {lags}; {walk['lost']} of {walk['questions']} questions lost."
    )


def _load(report: Mapping[str, Any]) -> str:
    hz, of_turns = report["median_hz"], report["ratio_of_turns"]
    return (
        f"What it costs the server (`{report['command']}`): {report['users']} users as fast as they are "
        f"answered, {hz['joint']:.0f} answers a second with joint allocation, {hz['off']:.0f} without; turn "
        f"by turn {of_turns['least']:.3f} to {of_turns['most']:.3f} of it."
    )
