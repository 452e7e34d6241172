"""Kinds of files by what is in them, against FFmpeg's own view of films and sound, and Pillow's of pictures.

FFmpeg's view is every frame that PyAV decodes, taken at its own time; nothing of the project takes part.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from device_agent.errors import MediaError
from device_agent.media.loading import clip_from_bytes
from tests.hostile_media import box
from tests.media_films import (
    HEIGHT,
    RATE_HZ,
    TICKS,
    WIDTH,
    Film,
    ffmpegs_frames,
    ffmpegs_sound,
    made,
    scene,
)

FRAGMENTS = (("movflags", "frag_keyframe+empty_moov"), ("g", "10"))
FILMS = {
    "MP4, H.264, AAC": Film("mp4", "libx264", "aac"),
    "MP4, H.264 with reordered frames": Film("mp4", "libx264", options=(("bf", "3"), ("g", "12"))),
    "MP4 in fragments": Film("mp4", "libx264", options=FRAGMENTS),
    "MP4, H.265": Film("mp4", "libx265", options=(("x265-params", "log-level=none:pools=1"),)),
    "MP4, MPEG-4 part 2, MP3": Film("mp4", "mpeg4", "libmp3lame"),
    "MP4, AV1": Film("mp4", "libsvtav1"),
    "MP4, AC-3 at 5.1": Film("mp4", "libx264", "ac3", layout="5.1"),
    "MP4, 4:4:4": Film("mp4", "libx264", pixels="yuv444p"),
    "MP4, 10 bits": Film("mp4", "libx264", pixels="yuv420p10le"),
    "MP4, full range": Film("mp4", "libx264", pixels="yuvj420p"),
    "3GP, H.263": Film("3gp", "h263", "aac", sample_rate=16_000, layout="mono"),
    "QuickTime, ProRes, PCM": Film("mov", "prores_ks", "pcm_s24le", pixels="yuv422p10le"),
    "QuickTime, Motion JPEG": Film("mov", "mjpeg", "pcm_s16be", pixels="yuvj422p"),
    "QuickTime in fragments, PCM": Film("mov", audio="pcm_s16le", options=FRAGMENTS[:1]),
    "QuickTime, ALAC": Film("mov", "libx264", "alac"),
    "Matroska, H.264, FLAC": Film("matroska", "libx264", "flac"),
    "Matroska, FFV1": Film("matroska", "ffv1", "pcm_f32le", pixels="yuv422p"),
    "WebM, VP8, Opus": Film("webm", "libvpx", "libopus"),
    "WebM, VP9, Opus": Film("webm", "libvpx-vp9", "libopus", frame_rate=30),
    "AVI, MPEG-4 part 2, MP3": Film("avi", "mpeg4", "libmp3lame"),
    "AVI, raw": Film("avi", "rawvideo", "pcm_s16le", frame_rate=8),
    "transport stream, MPEG-2, AC-3": Film("mpegts", "mpeg2video", "ac3"),
    "transport stream, H.264, AAC": Film("mpegts", "libx264", "aac"),
    "programme stream, MPEG-2, MP2": Film("vob", "mpeg2video", "mp2"),
    "Flash video": Film("flv", "flv", "libmp3lame", sample_rate=44_100),
    "WAV, 16 bits": Film("wav", audio="pcm_s16le"),
    "WAV, 24 bits": Film("wav", audio="pcm_s24le", sample_rate=44_100),
    "WAV, 8 bits": Film("wav", audio="pcm_u8", sample_rate=11_025, layout="mono"),
    "WAV, float": Film("wav", audio="pcm_f32le", sample_rate=96_000),
    "WAV, A-law": Film("wav", audio="pcm_alaw", sample_rate=8_000, layout="mono"),
    "WAV, µ-law": Film("wav", audio="pcm_mulaw", sample_rate=8_000, layout="mono"),
    "WAV, ADPCM": Film("wav", audio="adpcm_ms", sample_rate=22_050),
    "WAV, 7.1": Film("wav", audio="pcm_s16le", layout="7.1"),
    "WAV, 4.0": Film("wav", audio="pcm_s16le", layout="quad"),
    "Wave64": Film("w64", audio="pcm_s16le"),
    "AIFF": Film("aiff", audio="pcm_s16be"),
    "AU": Film("au", audio="pcm_s16be"),
    "CAF, ALAC": Film("caf", audio="alac"),
    "FLAC": Film("flac", audio="flac", sample_rate=44_100),
    "MP3": Film("mp3", audio="libmp3lame", sample_rate=44_100),
    "AAC in ADTS": Film("adts", audio="aac"),
    "M4A": Film("ipod", audio="aac", sample_rate=44_100),
    "Ogg, Opus": Film("ogg", audio="libopus"),
    "Ogg, Vorbis": Film("ogg", audio="vorbis", sample_rate=44_100, options=(("strict", "-2"),)),
    "Ogg, FLAC": Film("ogg", audio="flac"),
    "Matroska, FLAC at 7.1": Film("matroska", audio="flac", layout="7.1"),
    "Ogg, Opus at 7.1": Film("ogg", audio="libopus", layout="7.1"),
    "Matroska, Opus at 5.1": Film("matroska", audio="libopus", layout="5.1"),
}


@pytest.mark.parametrize("name", FILMS)
def test_films_and_sound_are_as_ffmpeg_shows_them(name: str) -> None:
    film = FILMS[name]
    data = made(film)
    clip = clip_from_bytes(data)
    assert clip.modalities == tuple(kind for kind in ("video", "audio") if getattr(film, kind))
    if clip.frames_THWC is not None:
        frames = ffmpegs_frames(data)
        # A lead-in of sound that nobody notices does not shift the pictures.
        lag_s = frames[0][0] if frames[0][0] < 0.06 else 0.0
        assert len(clip.frames_THWC) in (TICKS, TICKS + 1)
        for tick, seen in enumerate(clip.frames_THWC[:TICKS]):
            on_show = [pixels for at_s, pixels in frames if at_s - lag_s <= tick / RATE_HZ + 1e-3]
            wanted = on_show[-1] if on_show else frames[0][1]
            if film.video == "h263":  # whose pixels are 12 wide and 11 high: a viewer widens them
                shape = (round(wanted.shape[1] * 12 / 11), wanted.shape[0])
                wide = np.asarray(Image.fromarray(wanted).resize(shape, Image.Resampling.BICUBIC))
                assert seen.shape == wide.shape
                assert np.abs(seen.astype(int) - wide).mean() < 5
                continue
            np.testing.assert_array_equal(seen, wanted, err_msg=f"{name}, tick {tick}")
    if clip.pcm_S is not None:
        wanted = ffmpegs_sound(data)
        assert abs(clip.pcm_S.size - wanted.size) <= 1
        size = min(clip.pcm_S.size, wanted.size)
        np.testing.assert_allclose(clip.pcm_S[:size], wanted[:size], atol=1e-4, err_msg=name)
        assert np.abs(clip.pcm_S).max() > 0.05


def picture(mode: str) -> Image.Image:
    colours = Image.fromarray(np.kron(scene(0.3)[::8, ::8], np.ones((8, 8, 1), np.uint8)))
    if mode.endswith("A"):
        colours = colours.convert(mode)
        colours.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
        return colours
    if mode == "I;16":
        return Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257)
    return colours.convert(mode)


PICTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("JPEG", "RGB", {"quality": 95}),
    "JPEG, 4:4:4": ("JPEG", "RGB", {"quality": 95, "subsampling": 0}),
    "JPEG, progressive": ("JPEG", "RGB", {"quality": 95, "progressive": True}),
    "JPEG, grey": ("JPEG", "L", {"quality": 95}),
    "PNG": ("PNG", "RGB", {}),
    "PNG, transparent": ("PNG", "RGBA", {}),
    "PNG, grey": ("PNG", "L", {}),
    "PNG, grey and transparent": ("PNG", "LA", {}),
    "PNG, palette": ("PNG", "P", {}),
    "PNG, one bit": ("PNG", "1", {}),
    "PNG, 16 bits": ("PNG", "I;16", {}),
    "GIF": ("GIF", "P", {}),
    "BMP": ("BMP", "RGB", {}),
    "PPM": ("PPM", "RGB", {}),
    "PGM": ("PPM", "L", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF, LZW": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "TIFF, grey": ("TIFF", "L", {}),
    "WebP": ("WEBP", "RGB", {"quality": 95}),
    "WebP, lossless": ("WEBP", "RGB", {"lossless": True}),
    "WebP, transparent": ("WEBP", "RGBA", {"lossless": True, "exact": True}),
    "WebP, lossy and transparent": ("WEBP", "RGBA", {"quality": 95}),
    "AVIF": ("AVIF", "RGB", {"quality": 95}),
    "AVIF, 4:4:4": ("AVIF", "RGB", {"quality": 95, "subsampling": "4:4:4"}),
    "AVIF, limited range": ("AVIF", "RGB", {"quality": 95, "range": "limited"}),
}


def on_white(opened: Image.Image) -> np.ndarray:
    """Pillow's view, on a white page."""
    if opened.mode == "I;16":
        return np.repeat((np.asarray(opened) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    layer = opened.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_pillow_shows_them(name: str) -> None:
    file_format, mode, options = PICTURES[name]
    file = io.BytesIO()
    picture(mode).save(file, file_format, **options)
    clip = clip_from_bytes(file.getvalue())
    assert clip.is_image
    assert clip.frames_THWC is not None
    with Image.open(file) as opened:
        wanted = on_white(opened)
    assert clip.frames_THWC.shape == (1, *wanted.shape)
    off = np.abs(clip.frames_THWC[0].astype(int) - wanted)
    # Decoders of lossy pictures round, and fill in halved colours, differently.
    lossy = file_format in ("JPEG", "AVIF") or "quality" in options
    assert off.mean() < (4.0 if lossy else 0.6), name


def animation(transparent: bool) -> list[Image.Image]:
    frames = []
    for number in range(5):
        frame = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0) if transparent else (20, 20, 120, 255))
        frame.paste((250 - 40 * number, 40 * number, 0, 255), (6 * number, 4, 6 * number + 20, 30))
        frames.append(frame)
    return frames


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    ("file_format", "disposal"),
    [("GIF", 0), ("GIF", 1), ("GIF", 2), ("PNG", 0), ("PNG", 1), ("WEBP", 0), ("AVIF", 0)],
)
def test_animations_are_shown_in_time_as_pillow_shows_them(
    file_format: str, disposal: int, transparent: bool
) -> None:
    frames = animation(transparent)
    options: dict[str, Any] = {"duration": [250, 125, 500, 375, 250]}
    options |= {"WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(file_format, {"disposal": disposal})
    file = io.BytesIO()
    frames[0].save(file, file_format, save_all=True, append_images=frames[1:], **options)
    with Image.open(file) as opened:
        views = [on_white(frame) for frame in ImageSequence.Iterator(opened)]
    if file_format == "WEBP":
        views = [on_white(frame) for frame in frames]  # Pillow reads black where it wrote nothing
    wanted = np.repeat(np.stack(views), [2, 1, 4, 3, 2], axis=0)
    # An animation in AVIF is a picture too, which one may ask for.
    kinds = ("video", None) if file_format == "AVIF" else ("image", "video", None)
    for kind in kinds:
        clip = clip_from_bytes(file.getvalue(), kind=kind)  # type: ignore[arg-type]
        assert clip.modalities == ("video",)
        assert clip.frames_THWC is not None
        assert clip.frames_THWC.shape == wanted.shape
        assert np.abs(clip.frames_THWC.astype(int) - wanted).mean() < 2


def test_patches_of_an_animated_webp_lie_where_they_belong() -> None:
    def still(colour: tuple[int, int, int, int], size: tuple[int, int]) -> bytes:
        file = io.BytesIO()
        Image.new("RGBA", size, colour).save(file, "WEBP", lossless=True, exact=True)
        data = file.getvalue()
        return data[data.index(b"VP8L") :]

    def u24(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    def patch(
        left: int, top: int, size: tuple[int, int], flags: int, colour: tuple[int, int, int, int]
    ) -> bytes:
        place = u24(left // 2, top // 2, size[0] - 1, size[1] - 1, 250)
        return chunk(b"ANMF", place + bytes([flags]) + still(colour, size))

    body = b"WEBP" + chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + u24(31, 23)) + chunk(b"ANIM", bytes(6))
    body += patch(0, 0, (32, 24), 0, (0, 0, 200, 255))
    body += patch(8, 4, (16, 8), 1, (200, 0, 0, 128))  # blended, and taken away after it was shown
    body += patch(0, 12, (8, 8), 2, (0, 0, 0, 0))  # a hole
    frames = clip_from_bytes(b"RIFF" + struct.pack("<I", len(body)) + body).frames_THWC
    assert frames is not None
    assert frames[::2, 6, 12].tolist() == [[0, 0, 200], [100, 0, 100], [255, 255, 255]]
    assert frames[::2, 20, 20].tolist() == [[0, 0, 200]] * 3
    assert frames[::2, 14, 4].tolist() == [[0, 0, 200], [0, 0, 200], [255, 255, 255]]
    beyond = body.replace(u24(4, 2), u24(14, 2), 1)
    with pytest.raises(MediaError, match="beyond its own edge"):
        clip_from_bytes(b"RIFF" + struct.pack("<I", len(beyond)) + beyond)


def retagged(change: Callable[[Any], None], tracks: int = 2) -> bytes:
    """A Matroska file with tracks of 300 and 900 Hz, and of a dark and a bright picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        videos, audios = [], []
        for _ in range(tracks):
            video = out.add_stream("ffv1", rate=8)
            video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
            videos.append(video)
            audios.append(out.add_stream("pcm_s16le", rate=16_000, layout="mono"))
        change((videos, audios))
        for number, (video, audio) in enumerate(zip(videos, audios, strict=True)):
            shade = np.full((24, 32, 3), 200 * number, np.uint8)
            packets = video.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")) + video.encode(None)
            tone = np.sin(2 * np.pi * (300 + 600 * number) * np.arange(16_000) / 16_000)
            samples = (tone * 9000).astype(np.int16)[None]
            sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            sound.sample_rate = 16_000
            for packet in packets + audio.encode(sound) + audio.encode(None):
                out.mux(packet)
    return file.getvalue()


def test_the_default_track_is_taken() -> None:
    default = av.stream.Disposition.default

    def second(tracks: Any) -> None:
        for first, other in tracks:
            first.disposition, other.disposition = av.stream.Disposition.dub, default

    def none(tracks: Any) -> None:
        for pair in tracks:
            for each in pair:
                each.disposition = av.stream.Disposition.original

    for change, bright in ((second, True), (none, False)):
        clip = clip_from_bytes(retagged(change))
        assert clip.frames_THWC is not None
        assert clip.pcm_S is not None
        assert bool(clip.frames_THWC.mean() > 150) == bright
        peak = np.argmax(np.abs(np.fft.rfft(clip.pcm_S[:16_000])))
        assert peak == (900 if bright else 300)


def test_what_a_clean_aperture_leaves_is_what_is_seen() -> None:
    film = bytearray(made(Film("mov", "libx264", frame_rate=8, pixels="yuv444p", options=(("crf", "1"),))))
    aperture = box(b"clap", struct.pack(">IIIIiIiI", 40, 1, 30, 1, 4, 1, -3, 1))
    at = film.index(b"avcC") - 4
    film[at:at] = aperture
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        begin = (film.rindex(name) if name == b"avc1" else film.index(name)) - 4
        size = int.from_bytes(film[begin : begin + 4], "big") + len(aperture)
        film[begin : begin + 4] = size.to_bytes(4, "big")
    frames = clip_from_bytes(bytes(film)).frames_THWC
    assert frames is not None
    left, top = (WIDTH - 40) // 2 + 4, (HEIGHT - 30) // 2 - 3
    whole = np.stack([pixels for _, pixels in ffmpegs_frames(bytes(film))])
    np.testing.assert_array_equal(frames, whole[:, top : top + 30, left : left + 40])


SEGMENT, SEEK_HEAD, CUES = b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b"
VIDEO_OF_A_TRACK = (SEGMENT, b"\x16\x54\xae\x6b", b"\xae", b"\xe0")


def element(name: bytes, body: bytes) -> bytes:
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def with_more(data: bytes, path: tuple[bytes, ...], more: bytes) -> bytes:
    """Elements of a Matroska file, with more at the end of the one that a path leads to."""
    result, position = b"", 0
    while position < len(data):
        name_bytes = 9 - data[position].bit_length()
        at = position + name_bytes
        size_bytes = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + size_bytes], "big") & (1 << 7 * size_bytes) - 1
        name, body = data[position:at], data[at + size_bytes : at + size_bytes + size]
        position = at + size_bytes + size
        if name == path[0]:
            body = with_more(body, path[1:], more) if path[1:] else body + more
        if name not in (SEEK_HEAD, CUES):
            result += element(name, body)
    return result


def cropped_matroska(left: int, right: int, top: int, bottom: int) -> bytes:
    """A film that says what of its pictures is shown."""
    sides = ((b"\x54\xcc", left), (b"\x54\xdd", right), (b"\x54\xbb", top), (b"\x54\xaa", bottom))
    more = b"".join(element(name, bytes([value])) for name, value in sides)
    film = made(Film("matroska", "ffv1", frame_rate=8, options=(("write_crc32", "0"),)))
    return with_more(film, VIDEO_OF_A_TRACK, more)


def test_what_a_matroska_file_crops_is_not_seen() -> None:
    frames = clip_from_bytes(cropped_matroska(8, 4, 6, 2)).frames_THWC
    assert frames is not None
    whole = np.stack([pixels for _, pixels in ffmpegs_frames(made(Film("matroska", "ffv1", frame_rate=8)))])
    np.testing.assert_array_equal(frames, whole[:, 6 : HEIGHT - 2, 8 : WIDTH - 4])
    with pytest.raises(MediaError):  # nothing would be left
        clip_from_bytes(cropped_matroska(60, 60, 0, 0))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "prores_ks"),
        ("avi", "mpeg4"),
        ("mpegts", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
    ],
)
@pytest.mark.parametrize("aspect", [Fraction(2, 1), Fraction(4, 3), Fraction(1, 2)])
def test_pixels_that_are_not_square_are_shown_as_players_do(
    container: str, codec: str, aspect: Fraction
) -> None:
    film = Film(container, codec, pixels="yuv422p10le" if codec == "prores_ks" else "yuv420p")
    width, height = (round(WIDTH * max(aspect, 1)), round(HEIGHT / min(aspect, 1)))
    if container == "webm":  # says how large it is shown
        film = Film(container, codec, options=(("write_crc32", "0"),))
        shown = element(b"\x54\xb0", bytes([width])) + element(b"\x54\xba", bytes([height]))
        data = with_more(made(film), VIDEO_OF_A_TRACK, shown)
    else:
        data = made(film, aspect=aspect)
    frames = clip_from_bytes(data).frames_THWC
    assert frames is not None
    assert frames.shape[1:3] == pytest.approx((height, width), abs=1)
    seen = Image.fromarray(ffmpegs_frames(data)[0][1]).resize(frames.shape[2:0:-1], Image.Resampling.BICUBIC)
    assert np.abs(frames[0].astype(int) - np.asarray(seen)).mean() < 5


def test_pixels_that_are_absurd_are_square() -> None:
    frames = clip_from_bytes(made(Film("mp4", "libx264"), aspect=Fraction(500, 1))).frames_THWC
    assert frames is not None
    assert frames.shape[1:3] == (HEIGHT, WIDTH)
