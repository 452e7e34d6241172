"""What decoding media may cost: bounds that are settings, apart from the types that everybody imports."""

from __future__ import annotations

import pydantic
from pydantic import ConfigDict, NonNegativeFloat, PositiveInt


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class MediaLimits:
    """What decoding one file may cost, checked before and while decoding; settings ``[media]``.

    These defaults are for files of one's own; a server that takes anybody's has lower ones.
    """

    max_bytes: PositiveInt = 64 * 2**20
    """Size of an image, or of media held in memory; of a longer file, what is read of it."""
    max_frame_pixels: PositiveInt = 120_000_000
    """Largest image, width times height."""
    max_frame_bytes: PositiveInt = 256 * 2**20
    """Largest image in the decoder's memory; a pixel takes 1.5 bytes in a JPEG photo, 3 or 4 in a PNG."""
    max_video_pixels: PositiveInt = 40_000_000
    """Largest video frame, width times height; its decoder may hold on to sixteen of them."""
    max_total_pixels: PositiveInt = 4_000_000_000
    """Of all frames decoded for one file, those thrown away between two kept ones included."""
    max_frames: PositiveInt = 6_000
    """Frames decoded for one file, likewise."""
    max_streams: PositiveInt = 32
    """Tracks of any kind in one file."""
    max_audio_samples: PositiveInt = 8_000_000
    """Samples of sound decoded for one file, at its own rate, all channels."""
    max_decode_s: NonNegativeFloat = 60.0
    """Time of the processor that one file may take to decode, for what no header tells."""
    max_memory_bytes: PositiveInt = 2**30
    """Memory that one file may take to decode, where that is done in a process of its own."""
