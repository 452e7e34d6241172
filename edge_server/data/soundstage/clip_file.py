"""A scene as an MP4 that a person can play: H.264 picture, AAC sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from edge_server.data.soundstage.picture import FRAME_RATE_HZ, HEIGHT, WIDTH, render_frames
from edge_server.data.soundstage.scene import Scene
from edge_server.data.soundstage.sound import SAMPLE_RATE_HZ, render_sound


def write_mp4(scene: Scene, path: Path) -> None:
    """Render a scene at full size and rate and write it to ``path``."""
    frames = render_frames(scene)
    pcm = render_sound(scene)
    with av.open(str(path), "w") as container:
        picture = container.add_stream(
            "libx264", rate=FRAME_RATE_HZ, options={"crf": "20", "preset": "medium"}
        )
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode())
        samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[None, :]), format="s16", layout="mono")
        samples.sample_rate = SAMPLE_RATE_HZ
        samples.time_base = Fraction(1, SAMPLE_RATE_HZ)
        samples.pts = 0
        container.mux(track.encode(samples))
        container.mux(track.encode())
