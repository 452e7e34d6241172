"""A scene as an MP4 that a person can play: H.264 picture, AAC sound."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from edge_server.data.soundstage.picture import FRAME_RATE_HZ, render_frames
from edge_server.data.soundstage.scene import Scene
from edge_server.data.soundstage.sound import SAMPLE_RATE_HZ, render_sound


def write_mp4(scene: Scene, path: Path) -> None:
    """Render a scene at full size and rate and write it to ``path``."""
    path.write_bytes(encode_mp4(render_frames(scene), render_sound(scene)))


def encode_mp4(
    frames: npt.NDArray[np.uint8],
    pcm: npt.NDArray[np.int16],
    crf: int = 20,
    audio_bitrate_bps: int | None = None,
) -> bytes:
    """An MP4 file in memory.

    Args:
        frames: uint8 RGB, [F, H, W, 3], at FRAME_RATE_HZ.
        pcm: int16 mono at SAMPLE_RATE_HZ, [S].
        crf: constant rate factor of H.264: 0 is lossless, 51 the coarsest.
        audio_bitrate_bps: of AAC; None for the encoder's own choice.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        picture = container.add_stream(
            "libx264", rate=FRAME_RATE_HZ, options={"crf": str(crf), "preset": "medium"}
        )
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        track = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        if audio_bitrate_bps is not None:
            track.bit_rate = audio_bitrate_bps
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode())
        samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[None, :]), format="s16", layout="mono")
        samples.sample_rate = SAMPLE_RATE_HZ
        samples.time_base = Fraction(1, SAMPLE_RATE_HZ)
        samples.pts = 0
        container.mux(track.encode(samples))
        container.mux(track.encode())
    return file.getvalue()
