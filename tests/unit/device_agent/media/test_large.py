"""Files as phones make them: large pictures and fast films, of which a little is decoded and all is right."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from device_agent.errors import MediaLimitError
from device_agent.media import decoding
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes, clip_from_file
from device_agent.media.sandbox import MediaPool
from tests.media_films import Film, ffmpegs_frames, made, slow_motion

RATE_HZ = 8


def coloured(width: int, height: int, cells: int = 24) -> Image.Image:
    """Soft patches of every colour: what is lost of brightness or colour shows."""
    small = np.random.default_rng(7).integers(0, 255, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("baseline", {"quality": 95}),
        ("4:4:4", {"quality": 95, "subsampling": 0}),
        ("progressive", {"quality": 95, "progressive": True}),
        ("grey", {"quality": 95}),
    ],
)
@pytest.mark.parametrize("size", [(2700, 1900), (5200, 3900)])
def test_a_large_photo_is_decoded_small_and_looks_as_pillow_shows_it(
    name: str, options: dict[str, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = coloured(*size).convert("L" if name == "grey" else "RGB")
    data = encoded(image, "JPEG", **options)
    widths: list[int] = []
    push = decoding.FrameSampler.push

    def noted(self: Any, frame: Any, start_s: float) -> None:
        widths.append(frame.width)
        push(self, frame, start_s)

    monkeypatch.setattr(decoding.FrameSampler, "push", noted)
    frames = clip_from_bytes(data, kind="image").frames_THWC
    assert frames is not None
    assert 640 <= widths[0] <= 1300
    with Image.open(io.BytesIO(data)) as opened:
        shown = opened.convert("RGB").resize(frames.shape[2:0:-1], Image.Resampling.BOX)
    assert np.abs(frames[0].astype(int) - np.asarray(shown)).mean() < 3


def test_what_is_shrunk_keeps_its_colours() -> None:
    image = coloured(1280, 960, cells=48)
    for data in (
        encoded(image, "JPEG", quality=95),
        encoded(image, "PNG"),
        encoded(image, "WEBP", quality=95),
    ):
        frames = clip_from_bytes(data, kind="image").frames_THWC
        assert frames is not None
        shown = np.asarray(image.resize((320, 240), Image.Resampling.BOX)).astype(int)
        assert np.abs(frames[0] - shown).mean() < 3


FAST: dict[str, Film] = {
    "H.264, frames that nothing refers to": Film(
        "mp4",
        "libx264",
        frame_rate=120,
        options=(("bf", "3"), ("b_strategy", "0"), ("x264-params", "b-pyramid=none")),
    ),
    "H.264, a pyramid": Film("mp4", "libx264", frame_rate=60, options=(("bf", "3"), ("g", "250"))),
    "H.264, open groups": Film(
        "matroska", "libx264", frame_rate=60, options=(("bf", "2"), ("x264-params", "open-gop=1:keyint=12"))
    ),
    "H.265": Film(
        "mp4", "libx265", frame_rate=60, options=(("x265-params", "log-level=none:pools=1:bframes=4"),)
    ),
    "MPEG-2": Film("mpegts", "mpeg2video", frame_rate=50, options=(("bf", "2"),)),
    "MPEG-4 part 2": Film("mp4", "mpeg4", frame_rate=60, options=(("bf", "2"),)),
    "VP8": Film("webm", "libvpx", frame_rate=60, options=(("auto-alt-ref", "1"), ("lag-in-frames", "10"))),
    "VP9": Film("webm", "libvpx-vp9", frame_rate=60),
    "AV1": Film("mp4", "libsvtav1", frame_rate=60),
    "Motion JPEG": Film("mov", "mjpeg", pixels="yuvj422p", frame_rate=120),
    "ProRes": Film("mov", "prores_ks", pixels="yuv422p10le", frame_rate=60),
    "FFV1": Film("matroska", "ffv1", frame_rate=60),
    "raw": Film("avi", "rawvideo", frame_rate=60),
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("start_s", [0.0, 0.7])
def test_frames_between_two_kept_ones_are_passed_over_and_the_kept_ones_stay(
    name: str, start_s: float
) -> None:
    film = FAST[name]
    data = made(film)
    seen = clip_from_bytes(data, start_s=start_s).frames_THWC
    assert seen is not None
    frames = ffmpegs_frames(data)
    lag_s = frames[0][0] if frames[0][0] < 0.06 else 0.0
    assert len(seen) >= round((2.0 - start_s) * RATE_HZ) - 1
    for tick, picture in enumerate(seen[: round((2.0 - start_s) * RATE_HZ) - 1]):
        at_s = start_s + tick / RATE_HZ + 1e-3
        on_show = [pixels for shown_s, pixels in frames if shown_s - lag_s <= at_s]
        np.testing.assert_array_equal(
            picture, (on_show or [frames[0][1]])[-1], err_msg=f"{name}, tick {tick}"
        )


@pytest.mark.parametrize("name", ["H.264, frames that nothing refers to", "Motion JPEG", "ProRes", "MPEG-2"])
def test_what_is_passed_over_is_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    film, decoded = FAST[name], []
    push = decoding.FrameSampler.push

    def counted(self: Any, frame: Any, start_s: float) -> None:
        decoded.append(frame.pts)
        push(self, frame, start_s)

    monkeypatch.setattr(decoding.FrameSampler, "push", counted)
    clip_from_bytes(made(film))
    assert len(decoded) < 0.6 * 2 * film.frame_rate


@pytest.mark.parametrize("start_s", [0.0, 0.55])
def test_slow_motion_of_a_phone_is_seen_in_its_own_time(tmp_path: Path, start_s: float) -> None:
    path = tmp_path / "slow.mp4"
    path.write_bytes(data := slow_motion())
    frames = ffmpegs_frames(data)
    assert len(frames) == 15 + 384 + 78
    with MediaPool(1) as files:  # as the agent reads it: in a process of its own, with its limits
        clip = files.clip_from_file(path, start_s=start_s)
    assert clip.frames_THWC is not None
    assert clip.window is not None
    assert clip.window.end_s == pytest.approx(3.5, abs=0.13)
    assert len(clip.frames_THWC) == round((clip.window.end_s - start_s) * RATE_HZ)
    for tick, seen in enumerate(clip.frames_THWC):
        at_s = start_s + tick / RATE_HZ + 1e-3
        np.testing.assert_array_equal(seen, [pixels for shown_s, pixels in frames if shown_s <= at_s][-1])


def test_of_a_long_file_only_the_window_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    film = Film("mp4", "libx264", frame_rate=10, options=(("g", "10"),))
    path.write_bytes(made(film, seconds=60, size=(320, 240), noise=True))
    size = path.stat().st_size
    most = MediaLimits(max_bytes=size // 3)
    first = clip_from_file(path, limits=most)
    late = clip_from_file(path, limits=most, start_s=50.0)
    for clip in (first, late):
        assert clip.frames_THWC is not None
        assert len(clip.frames_THWC) == 4 * RATE_HZ
    with pytest.raises(MediaLimitError, match=r"\(media\.max_bytes\)"):
        clip_from_file(path, limits=MediaLimits(max_bytes=size // 100))


@pytest.mark.parametrize(
    ("make", "limits", "said"),
    [
        (
            lambda: encoded(coloured(900, 700), "PNG"),
            MediaLimits(max_frame_pixels=600_000),
            "is 900 × 700 pixels; at most 600000 in all are allowed (media.max_frame_pixels)",
        ),
        (
            lambda: encoded(coloured(900, 700), "PNG"),
            MediaLimits(max_bytes=1000),
            "at most 1000 are allowed (media.max_bytes)",
        ),
        (
            lambda: made(Film("mp4", "libx264", frame_rate=60)),
            MediaLimits(max_frames=50),
            "has more than 50 frames to decode (media.max_frames)",
        ),
        (
            lambda: made(Film("mp4", "libx264")),
            MediaLimits(max_video_pixels=3000),
            "at most 3000 in all are allowed (media.max_video_pixels)",
        ),
    ],
)
def test_a_refusal_says_which_limit_and_by_which_setting(
    make: Callable[[], bytes], limits: MediaLimits, said: str
) -> None:
    with pytest.raises(MediaLimitError) as refusal:
        clip_from_bytes(make(), limits=limits)
    assert said in str(refusal.value)
