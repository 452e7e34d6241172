"""A HEIF picture out of the frames of its items: tiles beside each other, cropped, blended, turned.

Phones store a photo of 12 or 48 megapixels in tiles of 512 pixels a side. Each is shrunk as it comes, by a
whole number that leaves the picture twice as large as needed, so memory does not depend on the photo.

Shapes: H height, W width.
"""

from __future__ import annotations

import time
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
    wanted = [*picture.tiles, *([] if picture.alpha is None else [picture.alpha])]
    if not all(item in streams and streams[item].codec_context is not None for item in wanted):
        raise MediaError(field, "is a HEIF picture of which a part is missing")
    context = streams[picture.tiles[0]].codec_context
    tile = (context.width, context.height)
    rows = len(picture.tiles) // picture.columns
    whole = (tile[0] * picture.columns, tile[1] * rows)
    _check(whole, picture, field, limits)
    for item in wanted:
        context = streams[item].codec_context
        if (context.width, context.height) != tile:
            raise MediaError(field, "is a HEIF picture whose parts are of different sizes")
        context.options = {"max_pixels": str(min(limits.max_frame_pixels, limits.max_frame_bytes // 2))}
        context.thread_count = 1
    by = _divisor(whole, tile, spec.max_side, single=len(picture.tiles) == 1)
    part = (max(1, tile[0] // by), max(1, tile[1] // by))
    # Black, as wherever a file promises what it does not bring along: but then it is refused below.
    canvas_HWC = np.zeros((part[1] * rows, part[0] * picture.columns, 4), np.uint8)
    canvas_HWC[..., 3] = 255
    missing = set(wanted)
    places = {item: number for number, item in enumerate(picture.tiles)}
    began_s = time.thread_time()
    for packet in container.demux([streams[item] for item in wanted]):
        if time.thread_time() - began_s > limits.max_decode_s:
            raise MediaLimitError(
                field, f"takes more than {limits.max_decode_s:g} s to decode (media.max_decode_s)"
            )
        item = packet.stream.id
        for frame in packet.decode():
            if item not in missing or frame.is_corrupt or (frame.width, frame.height) != tile:
                raise MediaError(field, "is damaged: a part of the picture cannot be decoded in full")
            missing.discard(item)
            if item == picture.alpha:
                canvas_HWC[..., 3] = _shrunk(frame, part, "gray")
                continue
            row, column = divmod(places[item], picture.columns)
            place = canvas_HWC[row * part[1] : (row + 1) * part[1], column * part[0] : (column + 1) * part[0]]
            place[..., :3] = _shrunk(frame, part, "rgb24")
    if missing:
        raise MediaError(field, "is a HEIF picture of which a part cannot be decoded")
    return _shown(canvas_HWC, picture, whole, spec)


def _check(whole: tuple[int, int], picture: HeifPicture, field: str, limits: MediaLimits) -> None:
    size = picture.size or whole
    if not 0 < size[0] <= whole[0] or not 0 < size[1] <= whole[1]:
        raise MediaError(
            field, f"is a HEIF picture of {size[0]} × {size[1]}, of tiles for {whole[0]} × {whole[1]}"
        )
    if whole[0] * whole[1] > limits.max_frame_pixels:
        raise MediaLimitError(
            field,
            f"is {whole[0]} × {whole[1]} pixels; at most {limits.max_frame_pixels} in all are allowed "
            "(media.max_frame_pixels)",
        )
    if picture.alpha is not None and len(picture.tiles) > 1:
        raise MediaError(field, "is a HEIF picture of transparent tiles, which are not put together here")


def _divisor(whole: tuple[int, int], tile: tuple[int, int], max_side: int, *, single: bool) -> int:
    """By what each tile is shrunk: a power of two, so that all keep whole pixels."""
    by = 1
    while max(whole) // (2 * by) >= 2 * max_side and (
        single or (tile[0] % (2 * by) == 0 and tile[1] % (2 * by) == 0)
    ):
        by *= 2
    return by


def _shrunk(frame: Any, size: tuple[int, int], pixel_format: str) -> npt.NDArray[np.uint8]:
    scaled = {}
    if size != (frame.width, frame.height):
        scaled = {"width": size[0], "height": size[1], "interpolation": SHRINKING}
    pixels: npt.NDArray[np.uint8] = frame.reformat(format=pixel_format, **scaled).to_ndarray()
    return pixels


def _shown(
    canvas_HWC: npt.NDArray[np.uint8], picture: HeifPicture, whole: tuple[int, int], spec: MediaSpec
) -> Frames:
    across, down = canvas_HWC.shape[1] / whole[0], canvas_HWC.shape[0] / whole[1]
    left, top, width, height = picture.crop or (0, 0, *(picture.size or whole))
    rows = slice(round(top * down), max(round((top + height) * down), round(top * down) + 1))
    columns = slice(round(left * across), max(round((left + width) * across), round(left * across) + 1))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(canvas_HWC[rows, columns]), format="rgba")
    shrink = min(1.0, spec.max_side / max(width, height))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.ascontiguousarray(rgb_pixels(frame, size, WHITE, picture.turn)[None])
