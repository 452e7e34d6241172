"""Figure E: bytes and channel uses of a question, as tokens and as media, at equal accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from edge_server.model.config import TOKEN_LENGTHS
from edge_server.model.modality import SLOTS
from edge_server.study.digital.codes import capacity_bits
from edge_server.study.figures.answers import Answers, spread
from edge_server.study.figures.token_length import SNRS_DB
from edge_server.study.study import channel_uses

#: System whose tokens are compared.
SYSTEM = "two-stage"


def build(answers: Answers, sizes: Iterable[dict[str, Any]], channel_dim: int) -> dict[str, Any]:
    """The figure's data.

    Args:
        answers: what trained systems answered.
        sizes: lines of :mod:`edge_server.study.media_sizes` with their training seed.
        channel_dim: reals per token of the two-stage system.
    """
    sizes = list(sizes)
    media = [{"training_seed": line["training_seed"], **_point(line)} for line in sizes]
    tokens, equal = [], []
    for snr_db in SNRS_DB:
        for token_length in TOKEN_LENGTHS:
            where = {"channel": "awgn", "snr_db": snr_db, "token_length": token_length}
            scores = answers.scores(SYSTEM, **where)
            if not scores:
                continue
            uses = channel_uses(token_length, channel_dim)
            tokens.append(
                {
                    "snr_db": snr_db,
                    "token_length": token_length,
                    "channel_uses": uses,
                    "bytes_int8": len(SLOTS) * token_length * channel_dim,
                    "accuracy": spread([score["accuracy"] for score in scores.values()]),
                }
            )
            for kind in dict.fromkeys(point["kind"] for point in media):
                needed = []
                for seed, score in scores.items():
                    points = [p for p in media if p["kind"] == kind and p["training_seed"] == seed]
                    if points:
                        needed.append(_needed(points, score["accuracy"]))
                equal.append(_equal(kind, token_length, snr_db, uses, needed))
    return {"channel_dim": channel_dim, "tokens": tokens, "media": media, "equal_accuracy": equal}


def least_bits(points: Sequence[dict[str, Any]], accuracy: float) -> float | None:
    """Fewest bits at which media are answered at least as well, interpolated; None where they never are."""
    before: dict[str, Any] | None = None
    for point in sorted(points, key=lambda p: p["bits"]):
        if point["accuracy"] >= accuracy:
            if before is None:
                return float(point["bits"])
            share = (accuracy - before["accuracy"]) / (point["accuracy"] - before["accuracy"])
            return float(before["bits"] + share * (point["bits"] - before["bits"]))
        if before is None or point["accuracy"] > before["accuracy"]:
            before = point
    return None


def _needed(points: Sequence[dict[str, Any]], accuracy: float) -> tuple[float, bool]:
    """Bits at equal accuracy, or at the media's best where that is less (in their favour), and whether so."""
    best = max(point["accuracy"] for point in points)
    bits = least_bits(points, min(accuracy, best))
    assert bits is not None  # noqa: S101 - the best is reached
    return bits, best < accuracy


def _point(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": line["kind"],
        "steps": line["steps"],
        "bits": line["bits"],
        "bytes": line["bits"] / 8,
        "accuracy": line["score"]["accuracy"],
        "questions": line["score"]["questions"],
    }


def _equal(
    kind: str, token_length: int, snr_db: float, uses: int, needed: Sequence[tuple[float, bool]]
) -> dict[str, Any]:
    """Tokens against media that are answered as well, sent with an ideal code at the same SNR."""
    row: dict[str, Any] = {
        "kind": kind,
        "token_length": token_length,
        "snr_db": snr_db,
        "token_channel_uses": uses,
        "seeds": len(needed),
    }
    if needed:
        bits = statistics.fmean(bits for bits, _ in needed)
        media_uses = bits / float(capacity_bits(1, snr_db))
        row |= {
            "never_as_good": sum(short for _, short in needed),
            "media_bytes": bits / 8,
            "media_channel_uses": media_uses,
            # Media that are never as good have no channel uses of equal accuracy, so no ratio either.
            "share": None if any(short for _, short in needed) else uses / media_uses,
        }
    return row
