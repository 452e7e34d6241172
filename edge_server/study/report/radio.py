"""The section of the page on the radio: beside Sionna, over delay lines, and what else spoils a link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge_server.study.report.markdown import percent, table
from edge_server.study.report.sections import Found


def believed(files: Found) -> str:
    """Bit errors beside Sionna's; accuracy over delay lines; what is told; other faults; training."""
    report = files["radio"]
    parts = [_beside_sionna(report), _tapped(report), _told(report), _spoiled(report), _trained(report)]
    return "\n\n".join(part for part in parts if part)


def _beside_sionna(report: Mapping[str, Any]) -> str:
    rows = [
        (
            row["model"].replace("_", "-").upper(),
            f"{row['speed_kmh']:g} km/h",
            row["csi"],
            "; ".join(f"{a:.4f} / {b:.4f}" for a, b in zip(row["ours"], row["sionna"], strict=True)),
            ", ".join(f"{gap:+.2f}" for gap in row["more_db"]),
        )
        for row in report["bit_errors"]
    ]
    snrs = ", ".join(f"{snr_db:g}" for snr_db in report["bit_errors"][0]["snrs_db"])
    head = (
        "channel",
        "speed",
        "gains",
        f"bit error rate, ours / Sionna's, at {snrs} dB",
        "ours needs more, dB",
    )
    intro = (
        "`edge-server study radio`: QPSK over the device's emulated OFDM beside Sionna's with the same "
        "profile, delay spread 300 ns, 67 subcarriers of 15 kHz, a pilot on every sixth, least squares and a "
        "line between pilots."
    )
    return f"{intro}\n\n{table(head, rows)}"


def _tapped(report: Mapping[str, Any]) -> str:
    rows = [row for row in report["answers"] if row["part"] == "tapped"]
    columns = list(dict.fromkeys(_channel(row) for row in rows))
    snrs_db = list(dict.fromkeys(row["snr_db"] for row in rows))
    right = {(row["snr_db"], _channel(row)): row["accuracy"] for row in rows}
    lines = [(f"{snr_db:g}", *(percent(right[snr_db, channel]) for channel in columns)) for snr_db in snrs_db]
    intro = (
        f"{report['model']} over tapped delay lines (TDL-C, 300 ns, 1 MHz at 3.5 GHz; {rows[0]['questions']} "
        f"test questions, {report['token_length']} tokens per modality), right answers:"
    )
    return "\n\n".join(
        (intro, "![Accuracy over delay lines](radio.png)", table(("SNR, dB", *columns), lines))
    )


def _channel(row: Mapping[str, Any]) -> str:
    if row["model"] == "awgn":
        return "AWGN"
    known = "known" if row["csi"] == "perfect" else "estimated"
    return f"{row['speed_kmh']:g} km/h, {known}"


def _told(report: Mapping[str, Any]) -> str:
    if "told" not in report:
        return ""
    told = report["told"]
    columns: dict[str, list[Mapping[str, Any]]] = {}
    for who, name in (("shipped", "as shipped"), ("learned", "learned on")):
        for way, rows in told.get(who, {}).items():
            columns[f"{name}, told per {way}"] = rows
    settings = next(iter(columns.values()))
    lines = [
        (
            f"{setting['snr_db']:g} dB, {_channel(setting)}",
            *(percent(found[i]["accuracy"]) for found in columns.values()),
        )
        for i, setting in enumerate(settings)
    ]
    intro = (
        "What the receiver is told: one SNR of each block, or that of each token too (`--snr-per token`; the "
        "mean error of its symbols, in steps of 0.5 dB, a byte each). Over TDL-C tokens lie "
        f"{told['spread_db']:.1f} dB around the mean of their block. The same clips and noise; "
        f"token minus block, of the shipped model, which was never told so: {_points(told['gained'])}."
    )
    if "learned_gained" in told:
        tuning = told["tuning"]
        tried = "; ".join(
            f"per {row['snr_per']} at {row['learning_rate']:g}: {percent(row['validation'])}"
            for row in told["tried"]
        )
        intro += (
            f" Receivers that learned on alone ({tuning['steps']} steps of {tuning['batch_size']} clips, "
            f"half of them through delay lines, seed {tuning['seed']}; each way takes its best rate, right "
            f"on {tuning['validation_clips']} validation clips: {tried}): {_points(told['learned_gained'])}."
        )
    why = "".join(
        f"\n\nWhy so little: {row['why']}."
        for row in report["promises"]
        if "told the SNR of each token" in row["what"] and row.get("why")
    )
    return f"{intro}\n\n{table(('channel', *columns), lines)}{why}"


def _points(gained: Mapping[str, float]) -> str:
    return (
        f"{gained['points']:+.2f} ± {gained['standard_error']:.2f} points in the mean of the settings, "
        f"{gained['least']:+.1f} to {gained['most']:+.1f}"
    )


def _spoiled(report: Mapping[str, Any]) -> str:
    def told(part: str, name: str, unit: str) -> Iterable[tuple[str, str]]:
        for row in report["answers"]:
            if row["part"] == part:
                value = "never" if row[name] is None else f"{row[name]:g} {unit}"
                if part == "clipped":
                    yield f"amplifier saturates above the mean power by: {value}", percent(row["accuracy"])
                elif part == "aged":
                    speed = f"{row['speed_kmh']:g} km/h"
                    yield f"estimates older than the tokens by {value}, {speed}", percent(row["accuracy"])
                else:
                    kind = "AWGN" if row["model"] == "awgn" else "Rayleigh, block"
                    yield f"a neighbour, SIR {value}, {kind}", percent(row["accuracy"])

    rows = [
        *told("aged", "csi_age_ms", "ms"),
        *told("clipped", "clip_db", "dB"),
        *told("shared", "sir_db", "dB"),
    ]
    peaks = report["peaks"]
    intro = (
        "What else spoils a link. Estimates and amplifier: TDL-C at 10 dB, estimated gains, 3 km/h unless "
        "said; neighbours: 20 dB of SNR. Peak over average power of the model's own codewords, median and "
        f"what one OFDM symbol in a hundred is above: {_peaks(peaks['as_they_are'])}; scrambled, as the "
        f"amplifier has them: {_peaks(peaks['scrambled'])}."
    )
    return f"{intro}\n\n{table(('what', 'right'), rows)}"


def _peaks(found: Mapping[str, float]) -> str:
    return f"{found['median_db']:.1f} and {found['one_in_a_hundred_db']:.1f} dB"


def _trained(report: Mapping[str, Any]) -> str:
    if "gains" not in report:
        return ""
    tuning = report["tuning"]
    rows = [(_channel(row), f"{row['snr_db']:g}", f"{row['points']:+.1f}") for row in report["gains"]]
    intro = (
        f"Stage 2 once more from the shipped weights, {tuning['steps']} steps of {tuning['batch_size']} "
        f"clips at {tuning['learning_rate']:g}, seed {tuning['seed']}: with half of the steps through "
        "TDL-A, B and C, minus the same with the usual channels (points):"
    )
    why = "".join(
        f"\n\n{row['why']}."
        for row in report["promises"]
        if "trained with and without it" in row["what"] and row.get("why")
    )
    return f"{intro}\n\n{table(('channel', 'SNR, dB', 'points'), rows)}{why}"
