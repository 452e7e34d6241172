"""HEIC and AVIF: the whole picture, as an image, the way up that viewers show it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes
from device_agent.media.orientation import EXIF_TURNS, turned
from tests.heif_files import coded, heif
from tests.hostile_media import box

SIDE = 64
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (230, 230, 230), (20, 20, 20), (220, 220, 30)]
CODECS = ["hevc", "av1"]


def tile(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


@pytest.fixture(scope="module")
def tiles() -> dict[str, list[tuple[bytes, bytes, bytes]]]:
    return {codec: [coded(tile(colour), codec) for colour in COLOURS] for codec in CODECS}  # type: ignore[arg-type]


def whole(columns: int, count: int, size: tuple[int, int]) -> np.ndarray:
    rows = [
        np.concatenate([tile(colour) for colour in COLOURS[at : at + columns]], axis=1)
        for at in range(0, count, columns)
    ]
    return np.concatenate(rows)[: size[1], : size[0]]


def shown(data: bytes, kind: str | None = None) -> np.ndarray:
    clip = clip_from_bytes(data, kind=kind)  # type: ignore[arg-type]
    assert clip.is_image
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == 1
    return clip.frames_THWC[0].astype(int)


def assert_alike(seen: np.ndarray, wanted: np.ndarray) -> None:
    assert seen.shape == wanted.shape
    assert np.abs(seen - wanted.astype(int)).mean() < 6


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("columns", "count", "size"),
    [(2, 4, (128, 128)), (3, 6, (192, 128)), (2, 6, (128, 192)), (2, 4, (100, 90)), (1, 1, (64, 64))],
)
@pytest.mark.parametrize("kind", [None, "image"])
def test_tiles_are_put_together(
    tiles: dict[str, list[tuple[bytes, bytes, bytes]]],
    codec: str,
    columns: int,
    count: int,
    size: tuple[int, int],
    kind: str | None,
) -> None:
    data = heif(tiles[codec][:count], (SIDE, SIDE), columns=columns, size=size)
    assert_alike(shown(data, kind), whole(columns, count, size))


def test_a_grid_may_stand_in_the_description(tiles: dict[str, list[tuple[bytes, bytes, bytes]]]) -> None:
    data = heif(tiles["hevc"][:4], (SIDE, SIDE), columns=2, size=(128, 128), in_idat=True)
    assert_alike(shown(data), whole(2, 4, (128, 128)))


def rotated(quarters: int) -> bytes:
    return box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    return box(b"imir", bytes([axis]))


AS_EXIF = {
    1: [],
    2: [mirrored(1)],
    3: [rotated(2)],
    4: [mirrored(0)],
    5: [rotated(1), mirrored(0)],
    6: [rotated(3)],
    7: [rotated(3), mirrored(0)],
    8: [rotated(1)],
}


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("columns", [0, 3])
def test_turns_of_the_item_are_followed(
    tiles: dict[str, list[tuple[bytes, bytes, bytes]]], number: int, columns: int
) -> None:
    picture = whole(3, 6, (192, 128))
    if columns:
        data = heif(tiles["hevc"], (SIDE, SIDE), columns=3, size=(192, 128), turns=AS_EXIF[number])
    else:
        data = heif([coded(picture, "hevc")], (192, 128), turns=AS_EXIF[number])
    assert_alike(shown(data), turned(picture, EXIF_TURNS[number]))


@pytest.mark.parametrize("number", range(1, 9))
def test_avif_is_shown_as_pillow_wrote_it(number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    picture = whole(3, 6, (192, 128))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "AVIF", exif=exif, quality=95, subsampling="4:4:4")
    with Image.open(file) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert_alike(shown(file.getvalue()), wanted)


def test_a_clean_aperture_is_cut_out(tiles: dict[str, list[tuple[bytes, bytes, bytes]]]) -> None:
    # 80 x 48 around a point 20 to the right of and 8 above the middle.
    aperture = box(b"clap", struct.pack(">IIIIiIiI", 80, 1, 48, 1, 20, 1, -8, 1))
    data = heif(tiles["hevc"], (SIDE, SIDE), columns=3, size=(192, 128), turns=[aperture, rotated(1)])
    left, top = (192 - 80) // 2 + 20, (128 - 48) // 2 - 8
    assert_alike(shown(data), np.rot90(whole(3, 6, (192, 128))[top : top + 48, left : left + 80]))


def test_transparent_parts_show_white() -> None:
    pixels = np.full((48, 64, 4), (200, 0, 0, 255), np.uint8)
    pixels[:, 32:, 3] = 0
    pixels[24:, :32, 3] = 128
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=100, subsampling="4:4:4")
    seen = shown(file.getvalue())
    assert np.abs(seen[:, 36:] - 255).max() < 6
    assert np.abs(seen[:20, :28] - (200, 0, 0)).max() < 10
    assert np.abs(seen[28:, :28] - (227, 127, 127)).max() < 10


def test_large_tiles_are_shrunk_one_by_one(tiles: dict[str, list[tuple[bytes, bytes, bytes]]]) -> None:
    large = [coded(np.repeat(np.repeat(tile(c), 8, 0), 8, 1), "hevc") for c in COLOURS[:4]]
    seen = shown(heif(large, (512, 512), columns=2, size=(1000, 900)))
    assert seen.shape == (288, 320, 3)
    wanted = np.asarray(
        Image.fromarray(np.repeat(np.repeat(whole(2, 4, (128, 128)), 8, 0), 8, 1)[:900, :1000]).resize(
            (320, 288), Image.Resampling.BOX
        )
    )
    assert_alike(seen, wanted)


def test_an_animation_in_avif_is_a_video_and_its_still_an_image() -> None:
    frames = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    file = io.BytesIO()
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:], duration=250, quality=95)
    clip = clip_from_bytes(file.getvalue())
    assert clip.modalities == ("video",)
    assert clip.frames_THWC is not None
    np.testing.assert_allclose(clip.frames_THWC[:, 20, 20, 0], np.repeat([0, 80, 160, 240], 2), atol=10)
    assert clip_from_bytes(file.getvalue(), kind="image").modalities == ("image",)


def test_what_is_missing_or_too_much_is_told(tiles: dict[str, list[tuple[bytes, bytes, bytes]]]) -> None:
    grid = heif(tiles["hevc"][:4], (SIDE, SIDE), columns=2, size=(128, 128))
    for data, complaint in (
        (grid.replace(b"dimg", b"cdsc"), "0 are there"),
        (grid.replace(b"grid", b"iovl"), "primary item is 'iovl'"),
        (heif(tiles["hevc"][:4], (SIDE, SIDE), columns=2, size=(900, 128)), "of tiles for 128"),
        (grid[: len(grid) - 60], "HEIF|damaged|no usable"),
        (grid[:200], "HEIF|no usable|no picture|neither"),
    ):
        with pytest.raises(MediaError, match=complaint):
            clip_from_bytes(data)
    with pytest.raises(MediaLimitError, match="128 × 128 pixels; at most 16000"):
        clip_from_bytes(grid, limits=MediaLimits(max_frame_pixels=16_000))
    with pytest.raises(MediaError, match="no sound"):
        clip_from_bytes(grid, kind="audio")
    with pytest.raises(MediaError, match="is an image; a video is needed"):
        clip_from_bytes(grid, kind="video")


def test_a_description_that_lies_is_refused_or_read_but_never_breaks(
    tiles: dict[str, list[tuple[bytes, bytes, bytes]]],
) -> None:
    grid = heif(tiles["hevc"][:4], (SIDE, SIDE), columns=2, size=(128, 128))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        broken = bytearray(grid)
        for at in rng.integers(24, 700, 3):
            broken[at] = rng.integers(256)
        try:
            clip_from_bytes(bytes(broken))
        except MediaError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("columns", "count", "size"), [(2, 4, (128, 128)), (2, 4, (100, 90)), (0, 1, (64, 64))]
)
def test_transparent_tiles_are_seen_through(
    tiles: dict[str, list[tuple[bytes, bytes, bytes]]],
    codec: str,
    columns: int,
    count: int,
    size: tuple[int, int],
) -> None:
    shades = [0, 255, 128, 255][:count] if columns else [128]
    alpha = [coded(tile((shade, shade, shade)), codec) for shade in shades]  # type: ignore[arg-type]
    data = heif(tiles[codec][:count], (SIDE, SIDE), columns=columns, size=size, alpha=alpha)
    behind = np.concatenate([np.full((SIDE, SIDE, 1), shade) for shade in shades], axis=1)
    if columns:
        behind = np.concatenate([behind[:, : 2 * SIDE], behind[:, 2 * SIDE :]])[: size[1], : size[0]]
    wanted = (whole(max(columns, 1), count, size) * behind + 255 * (255 - behind)) / 255
    assert_alike(shown(data), wanted)
