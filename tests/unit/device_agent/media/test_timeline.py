"""What is played at a moment is taken in at that moment: gaps, late tracks, lead-ins, restarts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction

import av
import numpy as np
import pytest

from device_agent.media.clip import Clip
from device_agent.media.loading import clip_from_bytes

RATE = 48_000
PIECE = 960
TONE_HZ = 1000
LAYOUTS = {"pcm_s16le": "s16", "libopus": "flt", "aac": "fltp", "flac": "s16", "ac3": "fltp"}


def pieces(
    sound_S: np.ndarray, codec: str, wanted: Callable[[int], bool] = lambda _: True, start: int = 0
) -> Iterable[av.AudioFrame]:
    """Frames of 20 ms; ``start`` is added to their timestamps [samples]."""
    layout = LAYOUTS[codec]
    for at in range(0, len(sound_S) - PIECE + 1, PIECE):
        if not wanted(at):
            continue
        piece = sound_S[None, at : at + PIECE]
        data = (piece * 32767).astype(np.int16) if layout == "s16" else piece.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(data, format=layout, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at + start, Fraction(1, RATE)
        yield frame


def pictures(values: Iterable[int], rate_hz: int = 8, start: int = 0) -> Iterable[av.VideoFrame]:
    for number, value in enumerate(values):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
        frame.pts, frame.time_base = number + start, Fraction(1, rate_hz)
        yield frame


def written(
    file_format: str,
    codec: str,
    sound: Iterable[av.AudioFrame],
    shown: Iterable[av.VideoFrame] = (),
    **options: str,
) -> bytes:
    file = io.BytesIO()
    shown = list(shown)
    with av.open(file, "w", format=file_format, options=options) as out:
        video = None
        if shown:
            video = out.add_stream("libx264", rate=8, options={"preset": "ultrafast", "bf": "2"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = out.add_stream(codec, rate=RATE, layout="mono")
        packets = [packet for frame in sound for packet in track.encode(frame)] + track.encode(None)
        if video is not None:
            packets += [packet for frame in shown for packet in video.encode(frame)] + video.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            out.mux(packet)
    return file.getvalue()


def tone(loud: Callable[[np.ndarray], np.ndarray], seconds: float = 3.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.5 * np.sin(2 * np.pi * TONE_HZ * t) * loud(t)


def heard_s(clip: Clip, threshold: float = 0.1) -> list[tuple[float, float]]:
    """From when to when it is loud [s]."""
    assert clip.pcm_S is not None
    blocks = np.abs(clip.pcm_S[: len(clip.pcm_S) // 80 * 80].reshape(-1, 80)).max(axis=1) > threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blocks, [False]]).astype(int)))
    return [(edges[i] / 200, edges[i + 1] / 200) for i in range(0, len(edges), 2)]


@pytest.mark.parametrize(
    ("file_format", "codec"),
    [("matroska", "pcm_s16le"), ("matroska", "flac"), ("webm", "libopus"), ("mp4", "aac"), ("mpegts", "ac3")],
)
def test_sound_that_was_never_sent_is_silence(file_format: str, codec: str) -> None:
    sound = tone(lambda t: (t < 0.5) | ((t >= 1.5) & (t < 2)))
    missing = range(round(0.6 * RATE), round(1.4 * RATE))
    data = written(file_format, codec, pieces(sound, codec, lambda at: at not in missing))
    (first, second) = heard_s(clip_from_bytes(data, kind="audio"))
    assert first == (pytest.approx(0, abs=0.03), pytest.approx(0.5, abs=0.05))
    assert second == (pytest.approx(1.5, abs=0.05), pytest.approx(2.0, abs=0.05))


def test_a_single_lost_packet_moves_nothing() -> None:
    sound = tone(lambda t: t >= 1)
    data = written("matroska", "pcm_s16le", pieces(sound, "pcm_s16le", lambda at: at != 25 * PIECE))
    assert heard_s(clip_from_bytes(data))[0][0] == pytest.approx(1.0, abs=0.006)


def test_stamps_that_tremble_tear_nothing() -> None:
    sound = tone(np.ones_like, 2.0)
    frames = list(pieces(sound, "pcm_s16le"))
    for number, frame in enumerate(frames):
        frame.pts += (0, 400, -300)[number % 3] if number else 0
    clip = clip_from_bytes(written("matroska", "pcm_s16le", frames))
    assert clip.pcm_S is not None
    t = np.arange(16_000) / 16_000
    np.testing.assert_allclose(
        clip.pcm_S[4000:12_000], 0.5 * np.sin(2 * np.pi * TONE_HZ * t[4000:12_000]), atol=2e-3
    )


@pytest.mark.parametrize(
    ("file_format", "codec"), [("matroska", "flac"), ("matroska", "libopus"), ("mp4", "aac")]
)
@pytest.mark.parametrize("start_s", [0.0, 0.75])
def test_sound_that_starts_late_does_not_move_the_pictures(
    file_format: str, codec: str, start_s: float
) -> None:
    sound = pieces(tone(np.ones_like, 1.0), codec, start=RATE)
    flash = pictures([250 if number == 12 else 0 for number in range(24)])
    clip = clip_from_bytes(written(file_format, codec, sound, flash), start_s=start_s)
    assert clip.frames_THWC is not None
    brightness = clip.frames_THWC.mean(axis=(1, 2, 3))
    assert np.flatnonzero(brightness > 100).tolist() == [12 - round(8 * start_s)]
    assert heard_s(clip)[0][0] == pytest.approx(1.0 - start_s, abs=0.03)


@pytest.mark.parametrize("file_format", ["matroska", "mp4", "mpegts"])
def test_a_picture_that_starts_late_stays_late(file_format: str) -> None:
    codec = "pcm_s16le" if file_format == "matroska" else "aac"
    sound = pieces(tone(lambda t: (t >= 2) & (t < 2.2), 4), codec)
    flash = pictures([250 if number == 8 else 0 for number in range(24)], start=8)
    clip = clip_from_bytes(written(file_format, codec, sound, flash))
    assert clip.frames_THWC is not None
    brightness = clip.frames_THWC.mean(axis=(1, 2, 3))
    # Of a transport stream the clip begins with the codec's lead-in, a fiftieth of a second before.
    assert np.flatnonzero(brightness > 100).tolist() == [17 if file_format == "mpegts" else 16]
    assert heard_s(clip)[0][0] == pytest.approx(2, abs=0.06)


@pytest.mark.parametrize("start_s", [1, 100])
def test_a_recording_whose_clock_does_not_start_at_nought_starts_at_its_start(start_s: int) -> None:
    sound = pieces(tone(lambda t: t >= 1), "aac", start=start_s * RATE)
    shown = pictures([0] * 8 + [250] * 16, start=start_s * 8)
    clip = clip_from_bytes(written("mpegts", "aac", sound, shown))
    assert clip.frames_THWC is not None
    assert np.flatnonzero(clip.frames_THWC.mean(axis=(1, 2, 3)) > 100)[0] == 8
    assert heard_s(clip)[0][0] == pytest.approx(1, abs=0.06)


def test_sound_that_starts_late_stays_late() -> None:
    sound = pieces(tone(lambda t: t >= 0.5), "aac", start=RATE)
    clip = clip_from_bytes(written("mp4", "aac", sound, pictures([0] * 24)))
    assert heard_s(clip)[0][0] == pytest.approx(1.5, abs=0.06)


def test_the_lead_in_of_a_codec_is_not_heard() -> None:
    data = written("mp4", "aac", pieces(tone(lambda t: t >= 0.5), "aac"))
    assert heard_s(clip_from_bytes(data))[0][0] == pytest.approx(0.5, abs=0.008)


def test_recordings_put_one_behind_another_follow_each_other() -> None:
    part = written("mpegts", "aac", pieces(tone(lambda t: t < 0.5, 1.5), "aac"))
    (first, second) = heard_s(clip_from_bytes(part + part))
    assert first[0] == pytest.approx(0, abs=0.05)
    assert second[0] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("channels", range(1, 13))
def test_the_same_sound_in_every_channel_keeps_its_loudness(channels: int) -> None:
    x_S = 0.95 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    samples = np.repeat((x_S * 32767).round().astype("<i2")[:, None], channels, axis=1)
    clip = clip_from_bytes(wav_of(samples), kind="audio")
    assert clip.pcm_S is not None
    np.testing.assert_allclose(clip.pcm_S, samples[:, 0] / 32768, atol=2e-4)


def test_two_channels_become_their_mean() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, (16_000, 2)).astype("<i2")
    clip = clip_from_bytes(wav_of(samples), kind="audio")
    assert clip.pcm_S is not None
    np.testing.assert_allclose(clip.pcm_S, samples.mean(axis=1) / 32768, atol=1e-6)


def wav_of(samples_SC: np.ndarray) -> bytes:
    body = samples_SC.tobytes()
    channels = samples_SC.shape[1]
    layout = np.array([1, channels], "<u2").tobytes() + np.array([16_000, 32_000 * channels], "<u4").tobytes()
    layout += np.array([2 * channels, 16], "<u2").tobytes()
    head = b"WAVEfmt " + (16).to_bytes(4, "little") + layout + b"data" + len(body).to_bytes(4, "little")
    return b"RIFF" + (len(head) + len(body)).to_bytes(4, "little") + head + body
