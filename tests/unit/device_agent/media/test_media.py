"""Media to arrays, and media that was made to do harm."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import Clip, MediaSpec, join
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes, clip_from_file
from device_agent.sources.capture import record

MediaWriter = Callable[..., Path]


def wav_bytes(
    samples: int = 16_000,
    *,
    rate: int = 16_000,
    channels: int = 1,
    declared: int | None = None,
) -> bytes:
    tone = (
        (0.5 * np.sin(2 * np.pi * 440 * np.arange(samples * channels) / rate) * 32767).astype("<i2").tobytes()
    )
    declared = len(tone) if declared is None else declared
    layout = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels, 2 * channels, 16)
    size = (36 + declared) % 2**32
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVEfmt "
        + layout
        + b"data"
        + struct.pack("<I", declared)
        + tone
    )


def png_bytes(width: int, height: int, pixels: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = pixels if pixels is not None else (b"\0" + b"\xc8\x32\x0a" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_a_video_gives_its_frames_and_its_sound(clip_file: Path) -> None:
    clip = clip_from_file(clip_file)
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape == (32, 64, 96, 3)
    assert clip.frames_THWC.dtype == np.uint8
    brightness = clip.frames_THWC.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, np.round(250 * np.arange(32) / 32), atol=4)
    assert clip.pcm_S is not None
    assert clip.pcm_S.shape == (64_000,)
    assert clip.pcm_S.dtype == np.float32
    assert clip.modalities == ("video", "audio")
    spectrum = np.abs(np.fft.rfft(clip.pcm_S))
    assert np.argmax(spectrum) * 16_000 / 64_000 == pytest.approx(440, abs=1)
    assert np.abs(clip.pcm_S[8000:56_000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("frame_rate_hz", "frames", "expected"), [(30, 60, 16), (5, 10, 16), (8, 80, 32)])
def test_any_frame_rate_is_sampled_and_held_at_that_of_the_spec(
    media: MediaWriter, tmp_path: Path, frame_rate_hz: int, frames: int, expected: int
) -> None:
    path = media(tmp_path / "v.mp4", frame_rate_hz=frame_rate_hz, frames=frames, sound=False)
    clip = clip_from_file(path)
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == expected
    on_show = np.floor(np.arange(expected) / 8 * frame_rate_hz + 1e-6)
    np.testing.assert_allclose(
        clip.frames_THWC.mean(axis=(1, 2, 3)), 250 * on_show / frames, atol=250 / frames + 4
    )
    assert clip.modalities == ("video",)


def test_a_kind_takes_only_what_it_names(clip_file: Path, media: MediaWriter, tmp_path: Path) -> None:
    assert clip_from_file(clip_file, kind="audio").modalities == ("audio",)
    assert clip_from_file(media(tmp_path / "a.flac", picture=False), kind="audio").modalities == ("audio",)
    assert clip_from_bytes(png_bytes(8, 6), kind="image").modalities == ("image",)
    for data, kind, complaint in (
        (clip_file.read_bytes(), "image", "is a video; an image is needed"),
        (png_bytes(8, 6), "video", "is an image; a video is needed"),
        (png_bytes(8, 6), "audio", "no sound track"),
        (wav_bytes(), "image", "no picture"),
        (wav_bytes(), "video", "no picture"),
    ):
        with pytest.raises(MediaError, match=complaint):
            clip_from_bytes(data, kind=kind)  # type: ignore[arg-type]


def test_an_image_keeps_its_pixels() -> None:
    clip = clip_from_bytes(png_bytes(8, 6))
    assert clip.is_image
    np.testing.assert_array_equal(clip.frames_THWC, np.full((1, 6, 8, 3), [0xC8, 0x32, 0x0A], np.uint8))


def test_a_photo_taken_upright_is_turned_upright(media: MediaWriter, tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, :32] = 255  # white on the left
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    jpeg = path.read_bytes()
    assert clip_from_bytes(jpeg).frames_THWC.shape == (1, 32, 64, 3)  # type: ignore[union-attr]
    turned = clip_from_bytes(jpeg_with_orientation(jpeg, 6)).frames_THWC  # to be shown a quarter clockwise
    assert turned is not None
    assert turned.shape == (1, 64, 32, 3)
    assert turned[0, :24].mean() > 240  # left came to the top
    assert turned[0, 40:].mean() < 15


def test_large_pictures_are_shrunk_evenly() -> None:
    clip = clip_from_bytes(png_bytes(1280, 640))
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape == (1, 160, 320, 3)
    assert clip_from_bytes(png_bytes(320, 8)).frames_THWC.shape == (1, 8, 320, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2), (8_000, 1), (44_100, 2)])
def test_sound_becomes_mono_at_the_rate_of_the_spec(rate: int, channels: int) -> None:
    clip = clip_from_bytes(wav_bytes(2 * rate, rate=rate, channels=channels))
    assert clip.pcm_S is not None
    assert clip.pcm_S.size == pytest.approx(32_000, abs=40)
    assert clip.frames_THWC is None


def test_the_window_of_the_spec_is_kept() -> None:
    spec = MediaSpec(window_s=0.5, sample_rate_hz=8000)
    clip = clip_from_bytes(wav_bytes(), spec=spec)
    assert clip.pcm_S is not None
    assert clip.pcm_S.shape == (4000,)


def test_cover_art_is_not_a_video(media: MediaWriter, tmp_path: Path) -> None:
    sound = media(tmp_path / "s.mp3", picture=False)
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as out, av.open(str(sound)) as source, av.open(_png(tmp_path)) as art:
        stream = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream_from_template(art.streams.video[0])
        for packet in art.demux(video=0):
            if packet.size:
                packet.stream = cover
                out.mux(packet)
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert clip_from_file(path).modalities == ("audio",)


def _png(folder: Path) -> str:
    path = folder / "cover.png"
    path.write_bytes(png_bytes(16, 16))
    return str(path)


@pytest.mark.parametrize("declared", [32_001, 10**9], ids=["a byte", "a gigabyte"])
def test_a_wav_that_was_cut_short_is_refused(declared: int) -> None:
    with pytest.raises(MediaError, match=rf"sound: .* declares {declared} bytes, 32000 follow"):
        clip_from_bytes(wav_bytes(declared=declared), field="sound", kind="audio")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (wav_bytes(rate=1)[:20] + wav_bytes()[20:22] + bytes(2) + wav_bytes()[24:], "0 channels|channels at"),
        (wav_bytes(0), "no sound"),
        (wav_bytes()[:16], "0 channels at 0 Hz"),
        (wav_bytes()[:30], "declares 16 bytes, 10 follow"),
    ],
)
def test_other_broken_wavs_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(MediaError, match=complaint):
        clip_from_bytes(data)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_refused(value: float) -> None:
    samples = np.zeros(8000, "<f4")
    samples[100] = value
    layout = struct.pack("<IHHIIHH", 16, 3, 1, 16_000, 64_000, 4, 32)  # IEEE float
    body = b"WAVEfmt " + layout + b"data" + struct.pack("<I", samples.nbytes) + samples.tobytes()
    with pytest.raises(MediaError, match="not finite"):
        clip_from_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_that_was_cut_short_is_refused(
    media: MediaWriter, tmp_path: Path, suffix: str, part: float
) -> None:
    if suffix == "png":
        rows = np.random.default_rng(0).integers(0, 256, (48, 1 + 64 * 3), dtype=np.uint8)
        rows[:, 0] = 0
        data = png_bytes(64, 48, rows.tobytes())
    else:
        path = tmp_path / "p.jpg"
        with av.open(str(path), "w", format="mjpeg") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
            container.mux(stream.encode())
        data = path.read_bytes()
    assert clip_from_bytes(data, kind="image").is_image
    with pytest.raises(MediaError, match="photo"):
        clip_from_bytes(data[: round(len(data) * part)], kind="image", field="photo")


@pytest.mark.parametrize(
    ("width", "height", "pixels"),
    [
        (60_000, 60_000, bytes(1000)),  # 10 GB by its header
        (20_000, 20_000, bytes(60_001 * 500)),  # and one that does bring rows along
        (2**31 - 1, 1, bytes(10)),
    ],
)
def test_an_image_bomb_is_refused_quickly(width: int, height: int, pixels: bytes) -> None:
    data = png_bytes(width, height, pixels)
    # Of this process, so that it says nothing about what else the machine does.
    started_s = time.process_time()
    with pytest.raises(MediaError, match="photo"):
        clip_from_bytes(data, kind="image", field="photo")
    assert time.process_time() - started_s < 2.0


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (MediaLimits(max_bytes=100), "more than 100 bytes to read"),
        (MediaLimits(max_frame_pixels=96 * 64 - 1), "96 × 64 pixels"),
        (MediaLimits(max_total_pixels=96 * 64 * 20), "pixels to decode in all"),
        (MediaLimits(max_frames=20), "more than 20 frames"),
        (MediaLimits(max_audio_samples=50_000), "audio samples"),
    ],
)
def test_each_limit_is_kept_by_name(clip_file: Path, limits: MediaLimits, complaint: str) -> None:
    with pytest.raises(MediaLimitError, match=complaint) as refusal:
        clip_from_file(clip_file, limits=limits, field="video")
    assert refusal.value.field == "video"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        np.random.default_rng(0).bytes(5000),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5000 RTP/AVP 0\n",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    ],
    ids=["empty", "text", "noise", "hls", "concat", "sdp", "svg"],
)
def test_what_is_no_media_or_points_elsewhere_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError) as refusal:
        clip_from_bytes(data, field="upload")
    assert refusal.value.field == "upload"


def test_a_video_cut_before_its_index_is_refused(clip_file: Path) -> None:
    with pytest.raises(MediaError, match="clip"):
        clip_from_bytes(clip_file.read_bytes()[:3000], field="clip")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        clip_from_file(tmp_path / "nothing.mp4")
    with pytest.raises(MediaError, match="folder"):
        clip_from_file(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(MediaError, match="is a pipe or a device"):
        clip_from_file(tmp_path / "pipe.wav")


def test_parts_join_into_one_clip_but_not_two_of_a_kind() -> None:
    image, sound = clip_from_bytes(png_bytes(8, 6)), clip_from_bytes(wav_bytes())
    clip = join([sound, image, Clip(text="a"), Clip(text="b")])
    assert clip.modalities == ("image", "audio")
    assert clip.text == "a\nb"
    with pytest.raises(MediaError, match="more than one picture"):
        join([image, image])
    with pytest.raises(MediaError, match="more than one sound"):
        join([sound, sound])


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(MediaError, match="no-such-camera"):
        record("/dev/no-such-camera", None)
    with pytest.raises(MediaError, match="neither"):
        record(None, None)
