"""A decoded frame's pixels as a viewer shows them: colours, what shines through, size, orientation.

Colours are converted by the matrix and range that the frame is tagged with; without tags as FFmpeg's scaler
takes them (BT.601, limited). Transparent parts of a picture show white, the colour of the pages on which
browsers and documents show it; those of a video show black, as players do.

Shapes: H height, W width.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from device_agent.media.orientation import Turn, turned

Frames = npt.NDArray[np.uint8]

WHITE, BLACK = 255, 0

SHRINKING = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Area averaging; colours at each pixel, which FFmpeg's scaler halves across unless it is told."""
GROWING = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Of pictures whose pixels are not square."""
_ROWS = 256
"""Of a large picture that are blended at once: the products take four times the memory."""


def rgb_pixels(frame: Any, size: tuple[int, int], background: int, turn: Turn) -> Frames:
    """A decoded ``av.VideoFrame`` as RGB, [H, W, 3].

    Args:
        frame: decoded.
        size: width and height that it is scaled to, before it is turned [pixels].
        background: seen through transparent parts, 0 (black) to 255 (white).
        turn: how it is shown; see :mod:`device_agent.media.orientation`.
    """
    if frame.format.has_palette or any(part.is_alpha for part in frame.format.components):
        frame = _blended(frame, background)
    scaled = {}
    if size != (frame.width, frame.height):
        grows = size[0] >= frame.width and size[1] >= frame.height
        scaled = {"width": size[0], "height": size[1], "interpolation": GROWING if grows else SHRINKING}
    return turned(frame.reformat(format="rgb24", **scaled).to_ndarray(), turn)


def cropped(frame: Any, crop: tuple[int, int, int, int]) -> Any:
    """What is at left, top, of width, height [pixels] of a frame; all of it, if it has no such part."""
    left, top, width, height = crop
    if (
        left + width > frame.width
        or top + height > frame.height
        or (width, height) == (frame.width, frame.height)
    ):
        return frame
    rgb_HW3 = frame.reformat(format="rgb24").to_ndarray()[top : top + height, left : left + width]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HW3), format="rgb24")


def _blended(frame: Any, background: int) -> Any:
    rgba_HW4 = frame.reformat(format="rgba").to_ndarray()
    rgb_HW3 = np.empty((*rgba_HW4.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba_HW4), _ROWS):
        rows = rgba_HW4[top : top + _ROWS].astype(np.uint32)
        alpha = rows[..., 3:]
        rgb_HW3[top : top + _ROWS] = (rows[..., :3] * alpha + background * (255 - alpha) + 127) // 255
    return av.VideoFrame.from_ndarray(rgb_HW3, format="rgb24")
