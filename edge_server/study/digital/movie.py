"""A clip as it is shipped, an MP4 of H.264 and AAC, at several qualities: what sending the file takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from device_agent.media.loading import clip_from_bytes
from edge_server.data.soundstage.clip_file import encode_mp4
from edge_server.data.soundstage.picture import render_frames
from edge_server.data.soundstage.scene import Scene
from edge_server.data.soundstage.sound import render_sound
from edge_server.model.preprocess import VisualFrontEnd
from edge_server.study.digital.media import Frames, Pcm


@dataclass(frozen=True)
class Mp4Step:
    """A setting for a whole clip."""

    crf: int
    """Constant rate factor of H.264, 0 to 51."""
    audio_bitrate_bps: int
    """Asked of AAC."""

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"mp4-crf{self.crf}-aac{self.audio_bitrate_bps}"


MP4_STEPS: tuple[Mp4Step, ...] = (
    Mp4Step(51, 8_000),
    Mp4Step(51, 16_000),
    Mp4Step(51, 24_000),
    Mp4Step(45, 24_000),
    Mp4Step(40, 32_000),
    Mp4Step(28, 32_000),
    Mp4Step(20, 64_000),
)
"""From the coarsest that the encoders give to what the demo's clips are."""


class Movie:
    """A scene, rendered once at full size and rate.

    Args:
        scene: what to show and play.
        front_end: picks and resizes frames as the visual encoder takes them.
        samples: of the audio encoder's window.

    Raises:
        DatasetError: artwork, soundfont or voice are not installed.
    """

    def __init__(self, scene: Scene, front_end: VisualFrontEnd, samples: int) -> None:
        self._frames = render_frames(scene)
        self._pcm = render_sound(scene)
        self._front_end = front_end
        self._samples = samples

    def through_mp4(self, step: Mp4Step) -> tuple[int, Frames, Pcm]:
        """Send the clip as an MP4 file.

        The file is decoded by the device's own code, which is also what serves REST requests.

        Returns:
            Size of the file, container included [bits]; frames as the encoder takes them, uint8
            [F, H, W, 3]; sound, int16 [S].
        """
        file = encode_mp4(self._frames, self._pcm, step.crf, step.audio_bitrate_bps)
        clip = clip_from_bytes(file, kind="video")
        assert clip.frames_THWC is not None  # noqa: S101 - it was put in
        assert clip.pcm_S is not None  # noqa: S101
        frames = self._front_end.resize(torch.from_numpy(clip.frames_THWC)).round().to(torch.uint8).numpy()
        pcm = np.clip(np.rint(clip.pcm_S[: self._samples] * 32768), -32768, 32767).astype(np.int16)
        return 8 * len(file), frames, np.pad(pcm, (0, self._samples - len(pcm)))
