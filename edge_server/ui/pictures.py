"""Token blocks as pictures: heatmaps as PNG, symbols as SVG. Each stands alone: no file, no request.

Shapes: T token_length, C channel_dim.
"""

from __future__ import annotations

import base64
import io
import itertools
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image

FULL_SCALE = 2.0
"""Values of this size and above have the strongest colour; one standard deviation is sqrt(0.5)."""
_BELOW_ZERO = np.array([38, 112, 209, 0], np.float64)
_ABOVE_ZERO = np.array([219, 84, 20, 0], np.float64)
_OPAQUE = np.array([0, 0, 0, 255], np.float64)
_GAMMA = 0.7
"""Opacity over size: below 1 shows small values, too."""
_AXIS = 2.5
_MAX_POINTS = 1024
_BAND_PARTS = 5
DEEPEST_DB = 30.0
"""Errors of a subcarrier this much below its symbols have no bar."""


def heatmap(x_TC: npt.NDArray[np.float32]) -> str:
    """A token per row, a real per column; blue below zero, orange above. A PNG as a data URL.

    Zero is transparent: on a light page it is light, on a dark one dark.
    """
    scaled = np.clip(x_TC.astype(np.float64) / FULL_SCALE, -1.0, 1.0)[..., None]
    rgba = np.where(scaled < 0, _BELOW_ZERO, _ABOVE_ZERO) + np.abs(scaled) ** _GAMMA * _OPAQUE
    file = io.BytesIO()
    Image.fromarray(np.rint(rgba).astype(np.uint8), "RGBA").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def constellation(
    sent_TC: npt.NDArray[np.float32],
    received_TC: npt.NDArray[np.float32],
    label: str,
    subcarrier_TS: npt.NDArray[np.int64] | None = None,
) -> str:
    """Symbols as the device sent them and as they arrived, in the complex plane. SVG.

    Args:
        sent_TC: float32, [T, C]; the first half of C holds real parts, the second half imaginary ones.
        received_TC: likewise.
        label: tells those who cannot see it what it shows; plain words, no markup.
        subcarrier_TS: that each symbol went over, [T, C/2]: of each part of the band they have a colour;
            None: all have one.
    """
    side = 2 * _AXIS
    received = f'<path class="received" d="{_dots(received_TC)}"/>'
    if subcarrier_TS is not None:
        shown = ((subcarrier_TS >= a) & (subcarrier_TS <= b) for a, b in band_parts(subcarrier_TS))
        received = "".join(
            f'<path class="received band{part}" d="{_dots(received_TC, shown_TS)}"/>'
            for part, shown_TS in enumerate(shown)
        )
    return (
        f'<svg class="tl-symbols" role="img" aria-label="{escape(label)}" '
        f'viewBox="{-_AXIS} {-_AXIS} {side} {side}">'
        f'<path class="axis" d="M{-_AXIS} 0H{_AXIS}M0 {-_AXIS}V{_AXIS}"/><circle class="axis" r="1"/>'
        f'{received}<path class="sent" d="{_dots(sent_TC)}"/>'
        f'<text x="{_AXIS - 0.1}" y="-.12" text-anchor="end">real part</text>'
        f'<text x=".12" y="{0.3 - _AXIS}">imaginary part</text><text x="1.06" y=".28">1</text></svg>'
    )


def band_parts(subcarrier_TS: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last subcarrier of each part of the band that has a colour of its own; at most so many."""
    edges = np.unique(np.linspace(0, int(subcarrier_TS.max()) + 1, _BAND_PARTS + 1).astype(int))
    return [(int(a), int(b) - 1) for a, b in itertools.pairwise(edges)]


def over_subcarriers(
    sent_TC: npt.NDArray[np.float32],
    received_TC: npt.NDArray[np.float32],
    subcarrier_TS: npt.NDArray[np.int64],
    label: str,
) -> str:
    """What was added to the symbols of each subcarrier, over what was sent: a bar each, up to 0 dB. SVG.

    Args:
        sent_TC, received_TC: as with :func:`constellation`.
        subcarrier_TS: that each symbol went over, [T, C/2].
        label: as with :func:`constellation`.
    """
    added = _energy(received_TC - sent_TC)
    subcarriers = int(subcarrier_TS.max()) + 1
    error_K, power_K = (
        np.bincount(subcarrier_TS.ravel(), each.ravel(), subcarriers) for each in (added, _energy(sent_TC))
    )
    ratio_db = 10.0 * np.log10(np.maximum(error_K, 1e-9) / np.maximum(power_K, 1e-9))
    bars = "".join(
        f'<rect x="{index + 0.1:.1f}" y="{20 - height:.2f}" width="0.8" height="{height:.2f}"/>'
        for index, error_db in enumerate(ratio_db)
        if power_K[index] > 0 and (height := 20.0 * np.clip(1.0 + error_db / DEEPEST_DB, 0.0, 1.0)) > 0
    )
    return (
        f'<svg class="tl-spark tl-subcarriers" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {subcarriers} 20" preserveAspectRatio="none">'
        f'<path class="axis" d="M0 20H{subcarriers}"/>{bars}</svg>'
    )


def _energy(x_TC: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Of each symbol, [T, C/2]."""
    half = x_TC.shape[1] // 2
    squared: npt.NDArray[np.float64] = np.square(x_TC, dtype=np.float64)
    return squared[:, :half] + squared[:, half:]


def sparkline(counts: list[int], label: str) -> str:
    """Counts over time as bars, the present one at the right. SVG.

    Args:
        counts: one per unit of time.
        label: as with :func:`constellation`.
    """
    tallest = max([*counts, 1])
    bars = "".join(
        f'<rect x="{index + 0.1:.1f}" y="{20 - height:.2f}" width="0.8" height="{height:.2f}"/>'
        for index, count in enumerate(counts)
        if (height := 20.0 * count / tallest) > 0
    )
    return (
        f'<svg class="tl-spark" role="img" aria-label="{escape(label)}" viewBox="0 0 {len(counts)} 20" '
        f'preserveAspectRatio="none"><path class="axis" d="M0 20H{len(counts)}"/>{bars}</svg>'
    )


def _dots(x_TC: npt.NDArray[np.float32], shown_TS: npt.NDArray[np.bool_] | None = None) -> str:
    """Each symbol as a line of no length; round caps make dots of them. The plane's y axis points up."""
    half = x_TC.shape[1] // 2
    real, imaginary = x_TC[:, :half].ravel(), x_TC[:, half:].ravel()
    points = np.clip(np.stack([real, -imaginary], axis=1)[:_MAX_POINTS], -_AXIS, _AXIS)
    if shown_TS is not None:
        points = points[shown_TS.ravel()[:_MAX_POINTS]]
    return "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points)
