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
            f"{point['channel_uses']:.0f}",
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
        "channel uses",
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
        "`edge-server study progressive`: a device sends few tokens, and the server asks for more only while "
        "the answer's calibrated confidence is below a threshold (`--progressive`). "
        f"{_price(report)}The shipped model is not nested, so each round sends the whole block. Lengths "
        "and threshold are chosen for "
        f"each channel and SNR on {asked['val']} validation questions, so that nothing is lost there to "
        f"{full} tokens at once; judged on {asked['test']} test questions, seeds {report['seeds']}. Block "
        "fading, perfect CSI; each round meets a gain of its own, and all modalities are asked for. The last "
        "column is what is simplest: the shortest length at once that loses at most "
        f"{report['may_lose']:.1%} on the validation questions."
    )
    picture = "![Tokens over SNR](progressive.png)"
    parts = [intro, picture, table(head, rows), f"In the mean over SNR: {told}."]
    if "calibration" in report:
        parts.append(_calibration(report["calibration"]))
    if "asking" in report:
        parts.append(_asking(report["asking"]))
    if "nested" in report:
        parts.append(_nested(report["nested"]))
    return "\n\n".join(parts)


def _price(report: Mapping[str, Any]) -> str:
    full, asked = f"{report['full_uses']:.0f}", report["rounds_commit"][:7]
    uses = report["request_uses"]
    return f"A request takes {uses} channel uses, all tokens at once {full} (asked at {asked}). "


def _calibration(found: Mapping[str, Any]) -> str:
    told = "; ".join(
        f"{name}: {each['expected_error']:.3f} ({each['answers']} answers; by length "
        + ", ".join(f"{length}: {error:.3f}" for length, error in each["of_lengths"].items())
        + ")"
        for name, each in found["splits"].items()
    )
    plan = found["plan"]
    return (
        "Expected calibration error of the confidence that stops, over both channels and all SNRs "
        f"({plan['questions']} questions of each split, seed {plan['seed']}): {told}."
    )


def _asking(found: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{row['channel']}, {row['snr_db']:g} dB" + (", lost blocks again" if row["repeats"] else ""),
            row["rule"],
            f"{row['until']:.2f}",
            f"{row['channel_uses']:.0f}",
            f"{row['rounds']:.2f}",
            f"{row['accuracy']:.1%}",
            f"{row['full_accuracy']:.1%}",
        )
        for row in found["rows"]
    ]
    plan, again = found["plan"], max(row["repeats"] for row in found["rows"])
    intro = (
        f"Whom the server asks for more, over {' then '.join(map(str, found['ladder']))} tokens: all "
        "modalities together, or the one whose measured loss falls fastest with what it takes (the served "
        f"rule, `edge_server/cell/rounds`). {plan['questions']} questions of each, seed {plan['seed']}; "
        f"thresholds as above. *Lost blocks again*: what arrives below outage comes again, up to {again} "
        "times, and receptions are combined by maximum ratio; their channel uses and requests are counted."
    )
    head = ("channel", "asked for", "until", "channel uses", "rounds", "right", "right, all at once")
    return f"{intro}\n\n{table(head, rows)}"


def _nested(found: Mapping[str, Any]) -> str:
    first = str(found["ladder"][0])
    rows = [
        (
            f"{each['system']}, seed {each['seed']}",
            f"{sum(p['of_length'][first] for p in each['points']) / len(each['points']):.1%}",
            f"{each['accuracy']:.1%}",
            f"{each['full_accuracy']:.1%}",
            f"{each['saved']:.1%}",
            f"{each['calibration_error']:.3f}",
            f"{each['trained_cpu_s']:.0f}",
        )
        for each in found["systems"]
    ]
    plan = found["plan"]
    intro = (
        "What nested tokens are worth: two systems, trained alike on the shipped model's encoders and "
        f"foundation ({found['clips']} clips, {plan['budget']['alignment_steps']} steps of alignment, "
        f"{plan['budget']['rounds']} rounds of fine-tuning), over "
        f"{' then '.join(map(str, found['ladder']))} tokens. The nested one sends in each round only what is "
        "new, the other the whole block. AWGN and Rayleigh block fading at "
        f"{', '.join(f'{snr:g}' for snr in plan['snrs_db'])} dB, {plan['questions']} test questions; each is "
        "held to its own full length at once. They have had far fewer clips and steps than the shipped model."
    )
    head = (
        "system",
        f"right, {first} at once",
        "right, in rounds",
        f"right, {found['ladder'][-1]} at once",
        "saved",
        "calibration",
        "CPU-s",
    )
    return f"{intro}\n\n{table(head, rows)}"
