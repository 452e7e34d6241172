"""The section of the page on the progressive uplink: what rounds save, beside what sending less does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_server.study.report.markdown import percent_spread, table
from edge_server.study.report.sections import Found


def in_rounds(files: Found) -> str:
    """Tokens and accuracy of ladders over SNR, beside one-shot."""
    report = files["progressive"]
    asked, full = report["questions"], report["full"]
    rows = [
        (
            f"{point['channel']}, {point['snr_db']:g} dB",
            " then ".join(map(str, point["ladder"]["lengths"])),
            f"{point['ladder']['until']:.2f}",
            f"{point['tokens']['mean']:.1f}",
            percent_spread(point["accuracy"]),
            percent_spread(point["full_accuracy"]),
            f"{point['shortest']}: {percent_spread(point['shortest_accuracy'])}",
        )
        for point in report["points"]
    ]
    head = (
        "channel",
        "rounds",
        "until",
        "tokens, mean",
        "right",
        f"right, {full} at once",
        "shortest at once",
    )
    told = "; ".join(
        f"over {channel} {mean['saved']:.1%} fewer channel uses than {full} tokens at once, "
        f"{100 * mean['lost']:+.2f} points lost (the shortest length at once: {mean['shortest_saved']:.1%})"
        for channel, mean in report["mean"].items()
    )
    intro = (
        "`edge-server study progressive`: a device sends few tokens, and more only while the answer's "
        "calibrated confidence is below a threshold (`--progressive`). Lengths and threshold are chosen for "
        f"each channel and SNR on {asked['val']} validation questions, so that nothing is lost there to "
        f"{full} tokens at once; judged on {asked['test']} test questions, seeds {report['seeds']}. Block "
        "fading, perfect CSI; each round meets a gain of its own, and rounds are not combined. The last "
        "column is what is simplest: the shortest length at once that loses at most "
        f"{report['may_lose']:.1%} on the validation questions."
    )
    picture = "![Tokens over SNR](progressive.png)"
    parts = [intro, picture, table(head, rows), f"In the mean over SNR: {told}."]
    if "calibration" in report:
        parts.append(_calibration(report["calibration"]))
    return "\n\n".join(parts)


def _calibration(found: Mapping[str, Mapping[str, Any]]) -> str:
    told = "; ".join(
        f"{name}: {each['expected_error']:.3f} ({each['answers']} answers; by length "
        + ", ".join(f"{length}: {error:.3f}" for length, error in each["of_lengths"].items())
        + ")"
        for name, each in found.items()
    )
    return f"Expected calibration error of the confidence that stops, over all channels and SNRs: {told}."
