"""A HEIF picture out of the frames of its items: tiles beside each other, cropped, blended, turned.

Phones store a photo of 12 or 48 megapixels in tiles of 512 pixels a side. Each is shrunk as it comes, by a
whole number that leaves the picture twice as large as needed, so memory does not depend on the photo.

Shapes: H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import MediaSpec
from device_agent.media.heif import HeifPicture
from device_agent.media.limits import MediaLimits
from device_agent.media.pixels import SHRINKING, WHITE, Frames, rgb_pixels


def decode_picture(
    container: Any, picture: HeifPicture, field: str, spec: MediaSpec, limits: MediaLimits
) -> Frames:
    """Decode the items of a picture.

    Args:
        container: open, a track for each coded item.
        picture: which of them it is made of.
        field: what to call it in errors.
        spec: how large it may stay.
        limits: what decoding may cost.

    Returns:
        The picture as it is shown, [1, H, W, 3].

    Raises:
        MediaError: a tile is missing or damaged.
        MediaLimitError: more pixels than allowed.
    """
    streams: dict[int, Any] = {}
    for stream in container.streams.video:
        # Of a file with a film in it too, the items come first.
        streams.setdefault(stream.id, stream)
    wanted = (*picture.tiles, *picture.alpha)
    if not all(item in streams and streams[item].codec_context is not None for item in wanted):
        raise MediaError(field, "is a HEIF picture of which a part is missing")
    layers = [_Layer(picture.tiles, picture.columns, "rgb24", streams, field, spec)]
    if picture.alpha:
        layers.append(_Layer(picture.alpha, picture.alpha_columns, "gray", streams, field, spec))
    _check(layers[0].whole, picture, field, limits)
    for layer in layers:
        check_pixels(layer.whole, field, limits)
    for item in wanted:
        context = streams[item].codec_context
        context.options = {"max_pixels": str(min(limits.max_frame_pixels, limits.max_frame_bytes // 2))}
        context.thread_count = 1
    began_s = time.thread_time()
    for packet in container.demux([streams[item] for item in wanted]):
        if time.thread_time() - began_s > limits.max_decode_s:
            raise MediaLimitError(
                field, f"takes more than {limits.max_decode_s:g} s to decode (media.max_decode_s)"
            )
        item = packet.stream.id
        layer = next(layer for layer in layers if item in layer.items)
        for frame in packet.decode():
            if item not in layer.missing or frame.is_corrupt or (frame.width, frame.height) != layer.tile:
                raise MediaError(field, "is damaged: a part of the picture cannot be decoded in full")
            layer.place(item, frame)
    if any(layer.missing for layer in layers):
        raise MediaError(field, "is a HEIF picture of which a part cannot be decoded")
    return _shown(layers, picture, spec)


class _Layer:
    """Tiles beside each other, each shrunk as it comes.

    Args:
        items: the numbers of the tiles, row by row.
        columns: in which they stand.
        pixel_format: of what is kept.
        streams: the track of each item.
        field: what to call the file in errors.
        spec: how large the picture may stay.
    """

    def __init__(
        self,
        items: tuple[int, ...],
        columns: int,
        pixel_format: str,
        streams: Mapping[int, Any],
        field: str,
        spec: MediaSpec,
    ) -> None:
        self.items, self._columns, self._format = frozenset(items), columns, pixel_format
        context = streams[items[0]].codec_context
        self.tile = (context.width, context.height)
        others = (streams[item].codec_context for item in items)
        if any((other.width, other.height) != self.tile for other in others):
            raise MediaError(field, "is a HEIF picture whose parts are of different sizes")
        rows = len(items) // columns
        self.whole = (self.tile[0] * columns, self.tile[1] * rows)
        by = _divisor(self.whole, self.tile, spec.max_side, single=len(items) == 1)
        self._part = (max(1, self.tile[0] // by), max(1, self.tile[1] // by))
        shape = (self._part[1] * rows, self._part[0] * columns, *([3] if pixel_format == "rgb24" else []))
        self.canvas = np.zeros(shape, np.uint8)
        self.missing = set(items)
        self._places = {item: number for number, item in enumerate(items)}

    def place(self, item: int, frame: Any) -> None:
        """A tile has been decoded."""
        self.missing.discard(item)
        row, column = divmod(self._places[item], self._columns)
        width, height = self._part
        place = self.canvas[row * height : (row + 1) * height, column * width : (column + 1) * width]
        place[...] = _scaled(frame, self._part, self._format)

    def shown(self, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
        """What of the tiles together counts, whose own size that is [pixels]."""
        return _part_of(self.canvas, self.whole, (0, 0, *(size or self.whole)))


def _check(whole: tuple[int, int], picture: HeifPicture, field: str, limits: MediaLimits) -> None:
    size = picture.size or whole
    if not 0 < size[0] <= whole[0] or not 0 < size[1] <= whole[1]:
        raise MediaError(
            field, f"is a HEIF picture of {size[0]} × {size[1]}, of tiles for {whole[0]} × {whole[1]}"
        )


def check_pixels(whole: tuple[int, int], field: str, limits: MediaLimits) -> None:
    """Refuse what is larger than any image may be."""
    if whole[0] * whole[1] > limits.max_frame_pixels:
        raise MediaLimitError(
            field,
            f"is {whole[0]} × {whole[1]} pixels; at most {limits.max_frame_pixels} in all are allowed "
            "(media.max_frame_pixels)",
        )


def _divisor(whole: tuple[int, int], tile: tuple[int, int], max_side: int, *, single: bool) -> int:
    """By what each tile is shrunk: a power of two, so that all keep whole pixels."""
    by = 1
    while max(whole) // (2 * by) >= 2 * max_side and (
        single or (tile[0] % (2 * by) == 0 and tile[1] % (2 * by) == 0)
    ):
        by *= 2
    return by


def _scaled(frame: Any, size: tuple[int, int], pixel_format: str) -> npt.NDArray[np.uint8]:
    scaled = {}
    if size != (frame.width, frame.height):
        scaled = {"width": size[0], "height": size[1], "interpolation": SHRINKING}
    pixels: npt.NDArray[np.uint8] = frame.reformat(format=pixel_format, **scaled).to_ndarray()
    return pixels


def _part_of(
    canvas: npt.NDArray[np.uint8], whole: tuple[int, int], part: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    """Left, top, width and height of a picture whose size is ``whole``, of the same shrunk."""
    across, down = canvas.shape[1] / whole[0], canvas.shape[0] / whole[1]
    left, top, width, height = part
    rows = slice(round(top * down), max(round((top + height) * down), round(top * down) + 1))
    columns = slice(round(left * across), max(round((left + width) * across), round(left * across) + 1))
    return np.ascontiguousarray(canvas[rows, columns])


def _shown(layers: Sequence[_Layer], picture: HeifPicture, spec: MediaSpec) -> Frames:
    whole = picture.size or layers[0].whole
    pixels_HWC = layers[0].shown(picture.size)
    alpha_HW = np.full(pixels_HWC.shape[:2], 255, np.uint8)
    if len(layers) > 1:
        frame = av.VideoFrame.from_ndarray(layers[1].shown(picture.alpha_size), format="gray")
        alpha_HW = _scaled(frame, (pixels_HWC.shape[1], pixels_HWC.shape[0]), "gray")
    left, top, width, height = picture.crop or (0, 0, *whole)
    canvas_HW4 = np.concatenate([pixels_HWC, alpha_HW[..., None]], axis=-1)
    shown_HW4 = _part_of(canvas_HW4, whole, (left, top, width, height))
    frame = av.VideoFrame.from_ndarray(shown_HW4, format="rgba")
    shrink = min(1.0, spec.max_side / max(width, height))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.ascontiguousarray(rgb_pixels(frame, size, WHITE, picture.turn)[None])
