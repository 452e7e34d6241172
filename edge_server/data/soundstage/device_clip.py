"""Clips of a split as a device's transmitters take them, without the way through a media file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from device_agent.media.clip import Clip
from edge_server.data.soundstage.dataset import Split


def device_clips(split: Split, indices: Iterable[int]) -> Iterator[Clip]:
    """Frames at the visual encoder's own size, uint8 [F, H, W, 3], and PCM, float32 [S]."""
    for index in indices:
        yield Clip(
            frames_THWC=np.ascontiguousarray(split.frames[index]),
            pcm_S=split.pcm[index].astype(np.float32) / np.float32(32768),
        )
