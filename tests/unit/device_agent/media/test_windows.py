"""Parts of files: what is taken in is what plays then, and little else is read."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from device_agent.errors import ConfigurationError, MediaLimitError, WindowError
from device_agent.media.clip import Clip, Window
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes, clip_from_file
from device_agent.media.windows import every_window, parse_window
from tests.unit.device_agent.media.test_timeline import RATE, heard_s, pictures, pieces, wav_of, written

SECONDS = 11
FORMATS = [("mp4", "aac"), ("mov", "pcm_s16le"), ("matroska", "flac"), ("mpegts", "ac3")]


def film(file_format: str, codec: str) -> bytes:
    """A second of each brightness; a beep at the beginning of each second."""
    t = np.arange(SECONDS * RATE) / RATE
    beeps = 0.5 * np.sin(2 * np.pi * 1000 * t) * (t % 1 < 0.2)
    shown = pictures([20 * (number // 8) for number in range(8 * SECONDS)])
    return written(file_format, codec, pieces(beeps, codec), shown)


@pytest.fixture(scope="module")
def films() -> dict[str, bytes]:
    return {file_format: film(file_format, codec) for file_format, codec in FORMATS}


@pytest.mark.parametrize("start_s", [0.0, 2.0, 4.5, 8.0, 10.0])
@pytest.mark.parametrize("file_format", [name for name, _ in FORMATS])
def test_a_window_holds_what_plays_in_it(films: dict[str, bytes], file_format: str, start_s: float) -> None:
    clip = clip_from_bytes(films[file_format], start_s=start_s)
    assert clip.frames_THWC is not None
    seconds = min(4.0, SECONDS - start_s)
    assert len(clip.frames_THWC) == pytest.approx(8 * seconds, abs=1)
    wanted = 20 * np.floor(start_s + np.arange(len(clip.frames_THWC)) / 8).clip(max=SECONDS - 1)
    off = np.abs(clip.frames_THWC.mean(axis=(1, 2, 3)) - wanted) > 6
    # Of a transport stream the lead-in of the sound comes first: up to a frame's difference.
    assert off.sum() <= (5 if file_format == "mpegts" else 0)
    beeps = heard_s(clip)
    first = -start_s % 1
    assert beeps[-1][0] % 1 == pytest.approx(first, abs=0.06) or first < 0.06
    assert len(beeps) == pytest.approx(seconds, abs=1)
    assert clip.window is not None
    assert clip.window.start_s == start_s
    assert clip.window.end_s == pytest.approx(start_s + seconds, abs=0.15)
    assert clip.window.duration_s == pytest.approx(SECONDS, abs=0.2)


@pytest.mark.parametrize(
    ("file_format", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("adts", "aac"), ("ogg", "libopus")]
)
def test_a_window_of_sound_alone(file_format: str, codec: str) -> None:
    t = np.arange(SECONDS * RATE) / RATE
    sound = 0.5 * np.sin(2 * np.pi * 1000 * t) * ((t >= 6) & (t < 6.5))
    data = written(file_format, codec, pieces(sound, codec))
    assert heard_s(clip_from_bytes(data, start_s=5.0))[0][0] == pytest.approx(1.0, abs=0.06)
    assert heard_s(clip_from_bytes(data, start_s=1.0)) == []
    with pytest.raises(WindowError, match="from 30 s on"):
        clip_from_bytes(data, kind="audio", start_s=30.0)


def slow_film(file_format: str, seconds_each: int, pictures_in_all: int = 24) -> bytes:
    """Pictures that get brighter, each on show for seconds; H.264 that is decoded in another order."""
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as out:
        video = out.add_stream("libx264", rate=1, options={"bf": "3", "g": "6", "qp": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for number in range(pictures_in_all):
            shown = np.full((48, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 1000 * seconds_each * number, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("start_s", [0.0, 5.0, 13.0])
@pytest.mark.parametrize("seconds_each", [1, 2, 3, 10])
@pytest.mark.parametrize("file_format", ["mp4", "matroska", "mpegts"])
def test_a_film_of_a_picture_in_some_seconds_is_shown_like_any_other(
    file_format: str, seconds_each: int, start_s: float
) -> None:
    """As screens are filmed: a decoder that waits for more pictures holds back those of the window."""
    frames = clip_from_bytes(slow_film(file_format, seconds_each), start_s=start_s).frames_THWC
    assert frames is not None
    times = start_s + np.arange(len(frames)) / 8
    assert len(frames) == 32
    wanted = 10 * np.floor(times / seconds_each + 1e-6)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), wanted, atol=3)


def test_a_shorter_window_is_shorter(films: dict[str, bytes]) -> None:
    clip = clip_from_bytes(films["mp4"], start_s=3.0, length_s=1.5)
    assert clip.frames_THWC is not None
    assert clip.pcm_S is not None
    assert (len(clip.frames_THWC), clip.pcm_S.size) == (12, 24_000)


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    t = np.arange(60 * RATE) / RATE
    path = tmp_path / "long.wav"
    samples = (np.sin(2 * np.pi * 300 * t[: 60 * 16_000]) * 9000).astype("<i2")
    path.write_bytes(wav_of(samples[:, None]))
    assert clip_from_file(path, start_s=50.0, limits=MediaLimits(max_bytes=600_000)).window == Window(
        50.0, 54.0, 60.0
    )


def test_a_large_file_is_read_as_far_as_it_is_asked_about(films: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    # Behind the film lies what nobody asks about.
    with path.open("wb") as file:
        file.write(films["mp4"])
        file.write((2**31).to_bytes(4, "big") + b"free")
        file.truncate(len(films["mp4"]) + 2**31)
    limits = MediaLimits(max_bytes=len(films["mp4"]) + 200_000)
    assert clip_from_file(path, limits=limits, start_s=2.0).modalities == ("video", "audio")
    with pytest.raises(MediaLimitError, match="bytes to read"):
        clip_from_file(path, limits=MediaLimits(max_bytes=10_000))


def test_an_animation_has_windows_and_a_still_none() -> None:
    frames = [Image.new("RGB", (16, 12), (8 * number, 0, 0)) for number in range(24)]
    for file_format in ("GIF", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, file_format, save_all=True, append_images=frames[1:], duration=250, quality=100)
        clip = clip_from_bytes(file.getvalue(), start_s=4.0)
        assert clip.window == Window(4.0, 6.0, 6.0)
        assert clip.frames_THWC is not None
        np.testing.assert_allclose(clip.frames_THWC[::2, 6, 8, 0], 8 * np.arange(16, 24), atol=6)
        with pytest.raises(WindowError):
            clip_from_bytes(file.getvalue(), start_s=8.0)
    file = io.BytesIO()
    frames[0].save(file, "PNG")
    assert clip_from_bytes(file.getvalue(), start_s=8.0).window is None


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("12..16", (12, 4)),
        ("0..1.5", (0, 1.5)),
        ("90..", (90, 4)),
        ("..3", (0, 3)),
        ("1:30..1:34", (90, 4)),
        ("1:00:00.5..", (3600.5, 4)),
    ],
)
def test_windows_are_written_by_people(text: str, window: tuple[float, float]) -> None:
    assert parse_window(text, 4.0) == pytest.approx(window)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("12", "is none; such as"),
        ("", "is none"),
        ("a..b", "is none"),
        ("-1..3", "is none"),
        ("nan..", "is none"),
        ("5..5", "ends before it begins"),
        ("0..10", "takes 10 s; the model looks at 4 s at a time"),
    ],
)
def test_what_is_no_window_is_told(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_window(text, 4.0)


def test_every_window_follows_the_last_until_all_parts_end(films: dict[str, bytes]) -> None:
    still = Clip(np.zeros((1, 4, 4, 3), np.uint8), is_image=True)
    sound = wav_of(np.ones((5 * 16_000, 1), "<i2"))
    of_film = lambda start_s, length_s: clip_from_bytes(films["mp4"], start_s=start_s, length_s=length_s)  # noqa: E731
    of_sound = lambda start_s, length_s: clip_from_bytes(sound, start_s=start_s, length_s=length_s)  # noqa: E731
    starts = [clip.window.start_s for clip in every_window([of_film], 4.0, "question") if clip.window]
    assert starts == [0, 4, 8]
    clips = list(every_window([lambda *_: still, of_sound], 4.0, "question"))
    assert [clip.modalities for clip in clips] == [("image", "audio")] * 2
    assert [len(clip.pcm_S) for clip in clips if clip.pcm_S is not None] == [64_000, 16_000]
    assert len(list(every_window([lambda *_: still], 4.0, "question"))) == 1
