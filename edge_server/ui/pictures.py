"""Token blocks as pictures: heatmaps as PNG, symbols as SVG. Each stands alone: no file, no request.

Shapes: T token_length, C channel_dim.
"""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

FULL_SCALE = 2.0
"""Values of this size and above have the strongest colour; one standard deviation is sqrt(0.5)."""
_STOPS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_COLOURS = np.array(
    [[26, 77, 156], [121, 170, 222], [243, 244, 246], [240, 155, 106], [168, 45, 20]], np.float64
)
_AXIS = 2.5
_MAX_POINTS = 1024


def heatmap(x_TC: npt.NDArray[np.float32]) -> str:
    """A token per row, a real per column; blue below zero, orange above. A PNG as a data URL."""
    scaled = np.clip(x_TC.astype(np.float64) / FULL_SCALE, -1.0, 1.0)
    rgb = np.stack([np.interp(scaled, _STOPS, _COLOURS[:, part]) for part in range(3)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.rint(rgb).astype(np.uint8), "RGB").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def constellation(sent_TC: npt.NDArray[np.float32], received_TC: npt.NDArray[np.float32], label: str) -> str:
    """Symbols as the device sent them and as they arrived, in the complex plane. SVG.

    Args:
        sent_TC: float32, [T, C]; the first half of C holds real parts, the second half imaginary ones.
        received_TC: likewise.
        label: tells those who cannot see it what it shows; plain words, no markup.
    """
    side = 2 * _AXIS
    return (
        f'<svg class="tl-symbols" role="img" aria-label="{label}" viewBox="{-_AXIS} {-_AXIS} {side} {side}">'
        f'<path class="axis" d="M{-_AXIS} 0H{_AXIS}M0 {-_AXIS}V{_AXIS}"/><circle class="axis" r="1"/>'
        f'<path class="received" d="{_dots(received_TC)}"/><path class="sent" d="{_dots(sent_TC)}"/></svg>'
    )


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
        f'<svg class="tl-spark" role="img" aria-label="{label}" viewBox="0 0 {len(counts)} 20" '
        f'preserveAspectRatio="none"><path class="axis" d="M0 20H{len(counts)}"/>{bars}</svg>'
    )


def _dots(x_TC: npt.NDArray[np.float32]) -> str:
    """Each symbol as a line of no length; round caps make dots of them. The plane's y axis points up."""
    half = x_TC.shape[1] // 2
    real, imaginary = x_TC[:, :half].ravel(), x_TC[:, half:].ravel()
    points = np.clip(np.stack([real, -imaginary], axis=1)[:_MAX_POINTS], -_AXIS, _AXIS)
    return "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points)
