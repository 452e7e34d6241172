"""Every orientation in every format, as Pillow's and FFmpeg's own view of it."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image, ImageOps

from device_agent.media.loading import clip_from_bytes
from device_agent.media.orientation import EXIF_TURNS, by_angle, exif_turn, followed_by, turned
from tests.media_matrix.making import VIDEO_OF_A_TRACK, element, with_elements

HOW = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
ONE = 1 << 16
MATRICES = {
    number: (right_x * ONE, right_y * ONE, down_x * ONE, down_y * ONE)
    for number, (right_x, right_y, down_x, down_y) in EXIF_TURNS.items()
}


def quarters() -> np.ndarray:
    """A picture that looks different each way round."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:], picture[32:, :48], picture[32:, 48:] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (250, 250, 250),
    )
    return picture


def shown(data: bytes) -> np.ndarray:
    frames = clip_from_bytes(data).frames_THWC
    assert frames is not None
    return frames[0].astype(int)


def assert_alike(seen: np.ndarray, wanted: np.ndarray) -> None:
    assert seen.shape == wanted.shape
    assert np.abs(seen - wanted.astype(int)).mean() < 8


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("file_format", HOW)
def test_an_image_is_shown_as_its_exif_says(file_format: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    file = io.BytesIO()
    Image.fromarray(quarters()).save(file, file_format, exif=exif, **HOW[file_format])
    with Image.open(file) as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert_alike(shown(file.getvalue()), wanted)


@pytest.mark.parametrize("number", [2, 6])
def test_a_colour_profile_beside_the_exif_changes_nothing(number: int) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = number
    for file_format in HOW:
        file = io.BytesIO()
        Image.fromarray(quarters()).save(
            file, file_format, exif=exif, icc_profile=profile, **HOW[file_format]
        )
        assert_alike(shown(file.getvalue()), turned(quarters(), EXIF_TURNS[number]))


def film(codec: str = "libx264", file_format: str = "mp4") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as out:
        stream = out.add_stream(codec, rate=8, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def with_matrix(data: bytes, box: bytes, at: int, matrix: tuple[int, ...]) -> bytes:
    changed = bytearray(data)
    begin = changed.index(box) + 4 + at
    right_x, right_y, down_x, down_y = matrix
    changed[begin : begin + 36] = struct.pack(">9i", right_x, right_y, 0, down_x, down_y, 0, 0, 0, 1 << 30)
    return bytes(changed)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("file_format", ["mp4", "mov"])
def test_a_film_is_shown_by_the_matrix_of_its_track(file_format: str, number: int) -> None:
    data = with_matrix(film(file_format=file_format), b"tkhd", 40, MATRICES[number])
    wanted = turned(quarters(), EXIF_TURNS[number])
    assert_alike(shown(data), wanted)
    # FFmpeg turns by the same matrix; of the angle alone it cannot tell a mirror from half a turn.
    with av.open(io.BytesIO(data)) as container:
        frame = next(container.decode(video=0))
    mirrored = EXIF_TURNS[number][0] * EXIF_TURNS[number][3] - EXIF_TURNS[number][1] * EXIF_TURNS[number][2]
    if mirrored > 0:
        assert_alike(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)), wanted)


def test_the_matrix_of_the_film_comes_on_top() -> None:
    data = with_matrix(film(), b"tkhd", 40, MATRICES[2])
    data = with_matrix(data, b"mvhd", 36, MATRICES[6])
    assert_alike(shown(data), turned(turned(quarters(), EXIF_TURNS[2]), EXIF_TURNS[6]))


def test_a_film_in_another_container_is_turned_by_its_angle() -> None:
    file = io.BytesIO()
    with av.open(io.BytesIO(film())) as source, av.open(file, "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(-90.0)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with av.open(io.BytesIO(file.getvalue())) as container:
        frame = next(container.decode(video=0))
    assert frame.rotation
    wanted = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    assert_alike(shown(file.getvalue()), wanted)


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize(("told", "number"), [("flip=horizontal", 2), ("rotate=-90", 6), ("rotate=180", 3)])
def test_a_film_is_turned_and_mirrored_as_its_codec_says(container: str, told: str, number: int) -> None:
    file = io.BytesIO()
    with av.open(io.BytesIO(film())) as source, av.open(file, "w", format=container) as out:
        track = source.streams.video[0]
        stream = out.add_stream_from_template(track)
        # Said with the first picture alone: those after it are shown the same way up.
        says = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{told}", track, stream)
        for packet in [packet for each in source.demux(track) for packet in says.filter(each)]:
            packet.stream = stream
            out.mux(packet)
    assert_alike(shown(file.getvalue()), turned(quarters(), EXIF_TURNS[number]))


@pytest.mark.parametrize(("pose", "degrees", "number"), [(b"\x76\x73", 180.0, 2), (b"\x76\x75", -90.0, 6)])
def test_a_film_is_turned_and_mirrored_as_matroska_says(pose: bytes, degrees: float, number: int) -> None:
    says = element(b"\x76\x71", b"\0") + element(pose, struct.pack(">f", degrees))
    data = with_elements(film(file_format="matroska"), VIDEO_OF_A_TRACK, element(b"\x76\x70", says))
    assert_alike(shown(data), turned(quarters(), EXIF_TURNS[number]))


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("then", range(1, 9))
def test_turns_follow_each_other(first: int, then: int) -> None:
    both = followed_by(EXIF_TURNS[first], EXIF_TURNS[then])
    assert both in EXIF_TURNS.values()
    np.testing.assert_array_equal(
        turned(quarters(), both), turned(turned(quarters(), EXIF_TURNS[first]), EXIF_TURNS[then])
    )


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, -180, 91, -88])
def test_angles_turn_against_the_clock(degrees: int) -> None:
    np.testing.assert_array_equal(
        turned(quarters(), by_angle(degrees)), np.rot90(quarters(), round(degrees / 90))
    )


def test_exif_without_sense_says_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(quarters()).save(file, "JPEG", exif=exif)
    data = file.getvalue()
    assert exif_turn(data) == EXIF_TURNS[6]
    begin = data.index(b"Exif\0\0") + 6
    for cut in range(begin, begin + 20):
        assert exif_turn(data[:cut]) is None
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        broken[begin + rng.integers(26)] = rng.integers(256)
        exif_turn(bytes(broken))
