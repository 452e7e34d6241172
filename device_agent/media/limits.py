"""What decoding media may cost: bounds that are settings, apart from the types that everybody imports."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt

_FLAG: dict[str, Any] = {"flag": True, "panel": "Media limits"}


@pydantic.dataclasses.dataclass(
    frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
)
class MediaLimits:
    """What decoding one file may cost, checked before and while decoding; settings ``[media]``.

    These defaults are for files of one's own; a server that takes anybody's has lower ones.
    """

    max_bytes: PositiveInt = Field(default=256 * 2**20, json_schema_extra=_FLAG)
    """What is read of one file for a window; an image is read as a whole."""
    max_frame_pixels: PositiveInt = Field(default=210_000_000, json_schema_extra=_FLAG)
    """Largest image, width times height."""
    max_frame_bytes: PositiveInt = Field(default=640 * 2**20, json_schema_extra=_FLAG)
    """Largest image in the decoder's memory; a pixel takes 3 or 4 bytes in a PNG, in a JPEG far less."""
    max_video_pixels: PositiveInt = Field(default=40_000_000, json_schema_extra=_FLAG)
    """Largest video frame, width times height; its decoder may hold on to sixteen of them."""
    max_total_pixels: PositiveInt = Field(default=10_000_000_000, json_schema_extra=_FLAG)
    """Of all frames decoded for a window, those thrown away between two kept ones included."""
    max_frames: PositiveInt = Field(default=12_000, json_schema_extra=_FLAG)
    """Frames read for a window, likewise."""
    max_streams: PositiveInt = Field(default=32, json_schema_extra=_FLAG)
    """Tracks of any kind in one file."""
    max_audio_samples: PositiveInt = Field(default=16_000_000, json_schema_extra=_FLAG)
    """Samples of sound decoded for a window, at its own rate, all channels."""
    max_decode_s: NonNegativeFloat = Field(default=60.0, json_schema_extra=_FLAG)
    """Time of the processor that a window may take to decode, for what no header tells."""
    max_memory_bytes: PositiveInt = Field(default=2**30, json_schema_extra=_FLAG)
    """Memory that one file may take to decode, in a process of its own."""
