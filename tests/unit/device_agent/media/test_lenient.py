"""What every player opens is not refused for what stands beside the sound and the pictures."""

from __future__ import annotations

import io
import re
import struct

import av
import numpy as np
import pytest
from PIL import Image

from device_agent.errors import MediaError
from device_agent.media.loading import clip_from_bytes
from tests import hostile_media as hostile
from tests.media_films import Film, made

SAMPLES = (np.arange(16_000) % 200 * 100 - 10_000).astype("<i2")


def chunk(name: bytes, body: bytes, declared: int | None = None, pad: bool = True) -> bytes:
    size = len(body) if declared is None else declared
    return name + struct.pack("<I", size) + body + (b"\0" if pad and len(body) % 2 else b"")


def wav(*before: bytes, after: bytes = b"", declared: int | None = None, riff: int | None = None) -> bytes:
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
    body = b"WAVE" + layout + b"".join(before) + chunk(b"data", SAMPLES.tobytes(), declared)
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body + after


TEXT = chunk(b"INAM", b"a title")
ODD = {
    "nothing": wav(),
    "an ID3v1 tag behind": wav(after=b"TAG" + b"title".ljust(125, b"\0")),
    "a hundred bytes of 0xff behind": wav(after=b"\xff" * 100),
    "zeros behind": wav(after=bytes(4096)),
    "a chunk behind that was cut short": wav(after=chunk(b"LIST", b"INFO", 4000)),
    "texts before and behind": wav(chunk(b"LIST", b"INFO" + TEXT), after=chunk(b"LIST", b"INFO" + TEXT)),
    "a chunk nobody knows": wav(chunk(b"zzzz", b"abc")),
    "a chunk of odd length, not padded": wav(chunk(b"LIST", b"INFOabc", pad=False)),
    "broadcast information": wav(chunk(b"bext", bytes(602)), chunk(b"iXML", b"<a>")),
    "ID3v2 in a chunk": wav(chunk(b"id3 ", b"ID3\4\0\0\0\0\0\x0a" + bytes(10))),
    "a recorder that did not finish": wav(declared=0, riff=0),
    "a recorder that did not finish, sizes of an empty file": wav(declared=0, riff=36),
    "only the sound's size unfinished": wav(declared=0),
    "a stream, of 4 GiB by its header": wav(declared=2**32 - 1, riff=2**32 - 1),
    "a stream, of 2 GiB by its header": wav(declared=2**31 - 1, riff=2**31 + 35),
    "a stream, of 2 GB by its header": wav(declared=2_000_000_000, riff=2_000_000_036),
    "a stream of SoX": wav(declared=0x7FFFF000, riff=0x7FFFF024),
    "a wrong size of the whole": wav(riff=17),
}


@pytest.mark.parametrize("name", ODD)
def test_a_wav_with_something_beside_its_sound_is_read(name: str) -> None:
    clip = clip_from_bytes(ODD[name], kind="audio")
    assert clip.pcm_S is not None
    heard = (clip.pcm_S * 32768).round().astype(int)
    np.testing.assert_array_equal(heard[:16_000], SAMPLES)
    # A stream without a length is sound to its end.
    assert not heard[16_000:].any()


def test_a_wav_of_64_bits_is_read() -> None:
    body = SAMPLES.tobytes()
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(body), 16_000, 0))
    data = chunk(b"data", body, 2**32 - 1)
    whole = b"RF64\xff\xff\xff\xffWAVE" + sizes + layout + data
    for after in (b"", b"LIST\xff\xff\xff\x00"):
        clip = clip_from_bytes(whole + after)
        assert clip.pcm_S is not None
        assert clip.pcm_S.size == 16_000
    with pytest.raises(MediaError, match="cut short"):
        clip_from_bytes(whole[:-1000])


def test_a_wav_without_sound_is_told_from_one_unfinished() -> None:
    empty = wav()[:40] + bytes(4)
    for after in (b"", chunk(b"LIST", b"INFO" + TEXT)):
        with pytest.raises(MediaError, match="no sound"):
            clip_from_bytes(empty + after)


@pytest.mark.parametrize(
    "tail", [b"TAG".ljust(128, b"\0"), bytes(500), b"APETAGEX" + bytes(24), b"\xff" * 700]
)
@pytest.mark.parametrize("codec", ["mp3", "aac", "flac"])
def test_sound_with_something_behind_it_is_read(codec: str, tail: bytes) -> None:
    file_format, name = {"mp3": ("mp3", "libmp3lame"), "aac": ("adts", "aac"), "flac": ("flac", "flac")}[
        codec
    ]
    data = hostile.silence(file_format, name, 16_000, "mono", 1)
    for whole in (data + tail, data[: len(data) - 3] + tail):
        clip = clip_from_bytes(whole, kind="audio")
        assert clip.pcm_S is not None
        assert clip.pcm_S.size == pytest.approx(16_000, abs=2500)


def test_what_a_browser_records_is_heard_to_its_end() -> None:
    """WebM written as it comes: no part of it says how long it is."""
    tone = 0.5 * np.sin(np.arange(2 * 48_000) / 20)
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"live": "1", "cluster_time_limit": "100"}) as out:
        sound = out.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    data = bytearray(file.getvalue())
    clusters = [found.end() for found in re.finditer(rb"\x1f\x43\xb6\x75", data)]
    assert len(clusters) > 5
    for at in clusters:
        length = 9 - data[at].bit_length()
        data[at : at + length] = bytes([0xFF >> (length - 1)]) + b"\xff" * (length - 1)
    clip = clip_from_bytes(bytes(data), kind="audio")
    assert clip.pcm_S is not None
    assert clip.pcm_S.size == pytest.approx(32_000, abs=1000)
    assert np.abs(clip.pcm_S[-4000:-1500]).max() > 0.3


def test_sound_cut_out_of_a_stream_is_read() -> None:
    data = hostile.silence("mp3", "libmp3lame", 16_000, "mono", 2)
    assert clip_from_bytes(data[1111:]).modalities == ("audio",)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize(
    "tail", [bytes(10), b"\xff" * 200_000, b"a second picture \xff\xd8\xff\xc0" + bytes(70_000)]
)
def test_a_picture_with_something_behind_it_is_shown(file_format: str, tail: bytes) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 40, 90)).save(file, file_format)
    frames = clip_from_bytes(file.getvalue() + tail, kind="image").frames_THWC
    assert frames is not None
    assert np.abs(frames.astype(int) - (200, 40, 90)).max() < 8


def test_a_moving_photo_is_its_photo() -> None:
    photo = hostile.picture("JPEG", 48, 32)
    film = hostile.stillness("mp4", "mpeg4", 64, 48, 8, 8)
    clip = clip_from_bytes(photo + film)
    assert clip.is_image
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape == (1, 32, 48, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_whose_exif_is_broken_is_shown(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    file = io.BytesIO()
    Image.new("RGB", (32, 24)).save(file, file_format, exif=exif)
    data = file.getvalue()
    if file_format == "TIFF":
        data = data.replace(b"a camera", b"\xff" * 8)
    else:
        begin = data.index(b"\0\x2a\0\0\0\x08") if b"MM\0\x2a" in data else data.index(b"II*\0") + 2
        data = data[: begin + 2] + b"\x7f\xff\xff\xff" + data[begin + 6 :]
    frames = clip_from_bytes(data, kind="image").frames_THWC
    assert frames is not None
    assert sorted(frames.shape[1:3]) == [24, 32]


def test_damage_in_the_midst_of_sound_is_told_as_damage() -> None:
    data = bytearray(made(Film("mp4", audio="aac")))
    middle = data.index(b"mdat") + 3000
    data[middle : middle + 60] = b"\xff" * 60
    with pytest.raises(MediaError, match="is damaged: a part of its sound cannot be decoded"):
        clip_from_bytes(bytes(data))
