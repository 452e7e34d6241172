"""Films and sound that tests make with PyAV, and what FFmpeg shows of them: no code of ours takes part."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tests.scheduling import same_scheduling

RATE_HZ, SECONDS = 8, 2
WIDTH, HEIGHT = 64, 48
TICKS = RATE_HZ * SECONDS


@dataclass(frozen=True)
class Film:
    container: str
    video: str | None = None
    audio: str | None = None
    pixels: str = "yuv420p"
    frame_rate: int = 25
    sample_rate: int = 48_000
    layout: str = "stereo"
    options: tuple[tuple[str, str], ...] = ()


def scene(second: float) -> np.ndarray:
    """Stripes that move, so that each frame differs from its neighbours."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    red = 128 + 100 * np.sin(x / 12 + 5 * second)
    green = 128 + 100 * np.sin(y / 9 - 4 * second)
    return np.stack([red, green, np.full_like(red, 60 + 60 * second)], axis=-1).astype(np.uint8)


@same_scheduling()
def made(
    film: Film,
    *,
    seconds: int = SECONDS,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    noise: bool = False,
    aspect: Fraction | None = None,
) -> bytes:
    """The file.

    Args:
        film: what it is.
        seconds: how long it is.
        size: width and height [pixels].
        noise: its pictures are noise, which no codec makes small.
        aspect: width of a pixel over its height.
    """
    rng = np.random.default_rng(1)
    file = io.BytesIO()
    with av.open(file, "w", format=film.container, options=dict(film.options)) as out:
        video = audio = None
        codec_options = {key: value for key, value in film.options if key != "movflags"}
        if film.video:
            video = out.add_stream(film.video, rate=film.frame_rate, options=codec_options)
            size = (176, 144) if film.video == "h263" else size
            video.width, video.height, video.pix_fmt = *size, film.pixels
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = aspect
        if film.audio:
            audio = out.add_stream(
                film.audio, rate=film.sample_rate, layout=film.layout, options=codec_options
            )
        packets = []
        if video is not None:
            for number in range(film.frame_rate * seconds):
                pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8) if noise else None
                shown = scene(number / film.frame_rate) if pixels is None else pixels
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                frame = frame.reformat(video.width, video.height, film.pixels)
                frame.pts, frame.time_base = number, Fraction(1, film.frame_rate)
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None:
            packets += sound_packets(audio, film, seconds)
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * each.time_base):
            out.mux(packet)
    return file.getvalue()


def slow_motion(*, fast_hz: int = 960, fast_s: float = 0.4, size: tuple[int, int] = (320, 180)) -> bytes:
    """What a phone films in slow motion: half a second at 30 frames a second, far more, then 2.6 s at 30.

    An MP4 of H.264 in which every frame has its own time, and of some frames no others are made.
    """
    times = [number / 30 for number in range(15)]
    times += [0.5 + number / fast_hz for number in range(round(fast_s * fast_hz))]
    times += [0.5 + fast_s + number / 30 for number in range(78)]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        options = {"preset": "ultrafast", "bf": "2", "g": "240"}
        video = out.add_stream("libx264", rate=fast_hz, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        for at_s in times:
            small = av.VideoFrame.from_ndarray(scene(at_s), format="rgb24")
            frame = small.reformat(*size, "yuv420p")
            frame.pts, frame.time_base = round(at_s * 90_000), Fraction(1, 90_000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return file.getvalue()


def sound_packets(audio: Any, film: Film, seconds: int) -> list[Any]:
    count = len(av.AudioLayout(film.layout).channels)
    t = np.arange(film.sample_rate * seconds) / film.sample_rate
    channels = [0.4 * np.sin(2 * np.pi * (300 + 90 * k) * t) for k in range(count)]
    whole = np.stack(channels).astype(np.float32)
    resampler = av.AudioResampler(format=audio.format.name, layout=film.layout, rate=film.sample_rate)
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(whole.T.reshape(1, -1), format="flt", layout=film.layout)
    frame.sample_rate, frame.pts, frame.time_base = film.sample_rate, 0, Fraction(1, film.sample_rate)
    for resampled in resampler.resample(frame):
        fifo.write(resampled)
    packets = []
    while (piece := fifo.read(audio.codec_context.frame_size or 1024, partial=True)) is not None:
        packets += audio.encode(piece)
    return packets + audio.encode(None)


def ffmpegs_frames(data: bytes) -> list[tuple[float, np.ndarray]]:
    with av.open(io.BytesIO(data)) as container:
        start_s = (container.start_time or 0) / av.time_base
        return [
            (frame.time - start_s, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]


def ffmpegs_sound(data: bytes) -> np.ndarray:
    """All of it through FFmpeg's own resampler, from the clip's start on."""
    with av.open(io.BytesIO(data)) as container:
        start_s = (container.start_time or 0) / av.time_base
        resampler = av.AudioResampler(format="s32", layout="mono", rate=16_000)
        frames = list(container.decode(audio=0))
        late = round((frames[0].time - start_s) * 16_000) if frames[0].time is not None else 0
        pieces = [piece for frame in [*frames, None] for piece in resampler.resample(frame)]
    samples = np.concatenate([piece.to_ndarray()[0] for piece in pieces]) / 2**31
    return np.concatenate([np.zeros(max(late, 0)), samples])
