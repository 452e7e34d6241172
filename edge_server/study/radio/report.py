"""What the study of the radio found, as JSON: what training brings, and the promises that it settles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_server.study.radio.bit_errors import WITHIN_DB
from edge_server.study.radio.tuned import TAPPED, USUAL

COMMAND = "edge-server study radio"
MEASURES = ("device_agent/channel", "edge_server/study/radio", "edge_server/training/radio.py")

Row = Mapping[str, Any]


def gains(tuned: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Of each setting, what training through delay lines brings: in points, beside the usual channels."""
    return [
        {key: with_it[key] for key in ("model", "snr_db", "speed_kmh", "csi")}
        | {"points": 100.0 * (with_it["accuracy"] - without["accuracy"])}
        for with_it, without in zip(tuned[TAPPED], tuned[USUAL], strict=True)
    ]


def kept(report: Row) -> list[dict[str, Any]]:
    """The promises that a report settles, as rows for the table of promises; each of its part's commit."""
    parts = {
        "bit_errors": _beside_sionna(report.get("bit_errors", [])),
        "tuned": _trained(report.get("gains", [])),
        "told": _told(report["told"]) if "told" in report else [],
    }
    commits = report.get("commits", {})
    return [
        {**row, "commit": commits[part]} if part in commits else row
        for part, rows in parts.items()
        for row in rows
    ]


def _beside_sionna(bit_errors: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    estimated = [gap for row in bit_errors if row["csi"] == "estimated" for gap in row["more_db"]]
    if estimated:
        worst = max(estimated, key=abs)
        found.append(
            {
                "what": "Bit error rate of QPSK through tapped delay lines, least squares: more SNR than "
                "Sionna's needs",
                "measured": f"{min(estimated):+.2f} to {max(estimated):+.2f} dB in {len(estimated)} points",
                "met": abs(worst) <= WITHIN_DB,
            }
        )
    return found


def _trained(gained: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    tapped = [row["points"] for row in gained if row["model"] == "tdl_c"]
    if tapped:
        mean = sum(tapped) / len(tapped)
        found.append(
            {
                "what": "TDL-C 300 ns, 3 and 60 km/h, trained with and without it",
                "measured": f"{mean:+.1f} points in the mean, {min(tapped):+.1f} to {max(tapped):+.1f}",
                "met": True,
                "why": None if mean > 0 else _WHY,
            }
        )
    return found


def _told(told: Row) -> list[dict[str, Any]]:
    """As it is learned, where it was; else of the shipped model."""
    shipped = told["gained"]
    gained = told.get("learned_gained", shipped)
    measured = f"{gained['points']:+.2f} ± {gained['standard_error']:.2f} points"
    if gained is not shipped:
        measured += (
            f" learned ({told['tuning']['steps']} steps, receivers alone); "
            f"{shipped['points']:+.2f} ± {shipped['standard_error']:.2f} as shipped"
        )
    row = {
        "what": "Over TDL-C 300 ns the receiver is told the SNR of each token, against that of the block",
        "measured": measured,
        "met": True,
        "why": None if gained["points"] > 2.0 * gained["standard_error"] else _WHY_NOT_TOLD,
    }
    return [row]


_WHY_NOT_TOLD = (
    "a token goes over neighbouring subcarriers and a block over few fades, so that SNRs differ little "
    "within a block, and each symbol comes with its own already: MMSE draws it towards zero by it"
)
_WHY = (
    "a codeword of 16 tokens takes 4 OFDM symbols of 66 subcarriers: its gain differs from subcarrier to "
    "subcarrier as under the fast fading, and from codeword to codeword as under the block fading, that "
    "the shipped model was trained with"
)
