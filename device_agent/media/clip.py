"""Clips and what bounds their making: the types that every module about media shares.

Shapes: T frames, H height, W width, C = 3 (RGB), S samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError
from protos.names import MediaModality

MediaKind: TypeAlias = MediaModality


@dataclass(frozen=True)
class MediaSpec:
    """What the transmitters were trained on, as :meth:`device_agent.bundle.bundle.Bundle.media_spec` says."""

    frame_rate_hz: float = 8.0
    """Frames per second that are taken out of a video."""
    sample_rate_hz: int = 16_000
    """Samples per second of the sound."""
    window_s: float = 4.0
    """Only the first so many seconds are looked at."""
    max_frames: int = 32
    """At most so many frames are kept."""
    max_side: int = 320
    """Larger frames are shrunk (area averaging), so that memory does not depend on the camera [pixels]."""


@dataclass(frozen=True)
class Window:
    """The part of a file that a clip was taken from.

    Attributes:
        start_s: when it begins, after the file does [s].
        end_s: when what is in the clip ends [s].
        duration_s: of the file, where its container tells [s].
    """

    start_s: float
    end_s: float
    duration_s: float | None = None

    @property
    def is_part(self) -> bool:
        """Whether there is more than what was looked at."""
        return self.start_s > 0 or (self.duration_s is not None and self.duration_s > self.end_s + 0.25)

    def to_json(self) -> dict[str, float | None]:
        """As plain values, to the millisecond."""
        return {
            name: None if value is None else round(value, 3)
            for name, value in (
                ("start_s", self.start_s),
                ("end_s", self.end_s),
                ("duration_s", self.duration_s),
            )
        }


@dataclass(frozen=True)
class Clip:
    """What a user shows the model; at least one part.

    Attributes:
        frames_THWC: uint8 RGB, [T, H, W, 3]; an image is a video of one frame.
        pcm_S: float32 mono, [S], within [-1, 1], at the spec's sample rate.
        is_image: the frames are a still image, not a video that happens to be short.
        text: text that goes with the question.
        window: which part of a file it shows; None: a still image, or what was recorded just now.
    """

    frames_THWC: npt.NDArray[np.uint8] | None = None
    pcm_S: npt.NDArray[np.float32] | None = None
    is_image: bool = False
    text: str | None = None
    window: Window | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of what is there, in the order in which it is sent."""
        names = []
        if self.frames_THWC is not None:
            names.append("image" if self.is_image else "video")
        if self.pcm_S is not None:
            names.append("audio")
        return tuple(names)


def join(clips: Iterable[Clip], field: str = "media") -> Clip:
    """One clip out of several parts, such as an image and a recording.

    Raises:
        MediaError: two of them show, or sound.
    """
    frames, pcm, is_image, window = None, None, False, None
    texts: list[str] = []
    for clip in clips:
        if clip.frames_THWC is not None:
            if frames is not None:
                raise MediaError(field, "holds more than one picture or video; one question takes one")
            frames, is_image = clip.frames_THWC, clip.is_image
        if clip.pcm_S is not None:
            if pcm is not None:
                raise MediaError(field, "holds more than one sound track; one question takes one")
            pcm = clip.pcm_S
        if clip.text:
            texts.append(clip.text)
        window = window or clip.window
    return Clip(frames, pcm, is_image, "\n".join(texts) or None, window)
