"""A scene as video frames: instrument artwork from the Noto Color Emoji font on a stage.

Who plays or mimes, moves; the picture alone cannot tell the two apart. Scale, tilt, place within a third,
backdrop, lighting and sensor noise are drawn from the scene's seed. Any subset of a clip's frames can be
rendered alone and equals the same frames of the whole clip.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from edge_server.data.soundstage.scene import DURATION_S, PLACES, Performer, Scene
from edge_server.errors import DatasetError

FRAME_RATE_HZ = 8
FRAMES = int(DURATION_S * FRAME_RATE_HZ)
HEIGHT, WIDTH = 144, 256

ARTWORK: dict[str, str] = {
    "violin": "\N{VIOLIN}",
    "piano": "\N{MUSICAL KEYBOARD}",
    "trumpet": "\N{TRUMPET}",
    "drum": "\N{DRUM WITH DRUMSTICKS}",
    "guitar": "\N{GUITAR}",
    "saxophone": "\N{SAXOPHONE}",
    "accordion": "\N{ACCORDION}",
    "banjo": "\N{BANJO}",
    "flute": "\U0001fa88",
    "conga": "\N{LONG DRUM}",
}

_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
#: The font is a bitmap font with this one size.
_FONT_SIZE = 109
_SPRITE_PX = (56, 84)
_TILT_DEG = 18.0
_NOISE_BANK = 16


@dataclass(frozen=True)
class _Motion:
    """How a sprite swings: amplitudes [px, degrees] about its rest, at a rate [Hz] from a phase [rad]."""

    rate_hz: float
    phase: float
    dx_px: float
    dy_px: float
    turn_deg: float

    def at(self, time_s: float) -> tuple[float, float, float]:
        swing = math.sin(2 * math.pi * self.rate_hz * time_s + self.phase)
        beat = math.cos(2 * math.pi * 1.3 * self.rate_hz * time_s + self.phase)
        return self.dx_px * swing, self.dy_px * beat, self.turn_deg * swing


_STILL = _Motion(0.0, 0.0, 0.0, 0.0, 0.0)


def render_frames(
    scene: Scene, indices: Sequence[int] = tuple(range(FRAMES)), artwork: Path | None = None
) -> npt.NDArray[np.uint8]:
    """Frames of a clip.

    Args:
        scene: what to show.
        indices: which of the clip's FRAMES frames.
        artwork: folder of other artwork, a PNG for each sign, named by its code point: ``1f3bb.png``.

    Returns:
        uint8, [len(indices), HEIGHT, WIDTH, 3], RGB.

    Raises:
        DatasetError: the emoji font is not installed, or the artwork lacks an instrument.
    """
    rng = np.random.default_rng([scene.seed, 1])
    backdrop = _backdrop(rng)
    cast = [_cast(performer, rng, artwork) for performer in scene.performers]
    light = rng.uniform(0.75, 1.15)
    flicker = rng.uniform(0.0, 0.04)
    noise_level = rng.uniform(1.0, 8.0)
    noise_shift = rng.integers(0, HEIGHT * WIDTH, FRAMES)
    frames = np.empty((len(indices), HEIGHT, WIDTH, 3), np.uint8)
    for out, index in zip(frames, indices, strict=True):
        time_s = index / FRAME_RATE_HZ
        canvas = backdrop.copy()
        for sprite, x, y, motion in cast:
            dx, dy, turn = motion.at(time_s)
            turned = sprite.rotate(turn, Image.Resampling.BILINEAR) if turn else sprite
            canvas.paste(
                turned, (round(x + dx - turned.width / 2), round(y + dy - turned.height / 2)), turned
            )
        gain = light * (1 + flicker * math.sin(5.1 * time_s))
        noise = np.roll(_noise_bank()[index % _NOISE_BANK], noise_shift[index])
        pixels = (
            np.asarray(canvas, np.float32) * np.float32(gain) + np.float32(noise_level) * noise[..., None]
        )
        out[:] = np.clip(pixels, 0, 255)
    return frames


def _cast(
    performer: Performer, rng: np.random.Generator, artwork: Path | None
) -> tuple[Image.Image, float, float, _Motion]:
    """A performer's sprite, its rest position [px] and its motion."""
    size = int(rng.integers(*_SPRITE_PX))
    tilt = rng.uniform(-_TILT_DEG, _TILT_DEG)
    drawn = sprite_of(ARTWORK[performer.kind]) if artwork is None else _drawn(performer.kind, artwork)
    sprite = drawn.resize((size, size), Image.Resampling.BILINEAR)
    sprite = sprite.rotate(tilt, Image.Resampling.BILINEAR, expand=True)
    third = WIDTH / len(PLACES)
    x = third * (PLACES.index(performer.place) + 0.5) + rng.uniform(-8, 8)
    y = HEIGHT * 0.56 + rng.uniform(-16, 16)
    motion = _Motion(
        rate_hz=rng.uniform(0.6, 1.8),
        phase=rng.uniform(0, 2 * math.pi),
        dx_px=rng.uniform(4, 9) * rng.choice([-1, 1]),
        dy_px=rng.uniform(3, 8),
        turn_deg=rng.uniform(4, 12),
    )
    return sprite, x, y, _STILL if performer.action == "still" else motion


def _backdrop(rng: np.random.Generator) -> Image.Image:
    """Wall and floor in random colours, with a spotlight and some furniture in the dark."""
    wall, floor = rng.uniform(30, 170, 3), rng.uniform(30, 140, 3)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    horizon = HEIGHT * rng.uniform(0.6, 0.8)
    pixels = np.where((y > horizon)[..., None], floor, wall)
    cx, cy = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(40, 120) ** 2))
    pixels = pixels * (1 + rng.uniform(-0.3, 0.5) * spot[..., None])
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 5))):
        left, top = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.5)
        colour = tuple(int(c) for c in rng.uniform(20, 180, 3))
        draw.rectangle((left, top, left + rng.uniform(5, 50), top + rng.uniform(5, 40)), fill=colour)
    return image


@functools.cache
def _noise_bank() -> npt.NDArray[np.float32]:
    """Unit normal pixels [_NOISE_BANK, HEIGHT, WIDTH]; drawn once: drawing takes longer than the rest."""
    return np.random.default_rng(0).standard_normal((_NOISE_BANK, HEIGHT, WIDTH), np.float32)


@functools.cache
def _drawn(kind: str, artwork: Path) -> Image.Image:
    """An instrument of other artwork, cut out and as large as those of the font, RGBA."""
    path = artwork / f"{ord(ARTWORK[kind]):x}.png"
    try:
        with Image.open(path) as file:
            drawn = file.convert("RGBA")
    except OSError as error:
        raise DatasetError(f"artwork: the {kind} cannot be read: {error}") from error
    return drawn.crop(drawn.getbbox())


@functools.cache
def sprite_of(sign: str) -> Image.Image:
    """A sign of the emoji font, cut out, RGBA.

    Raises:
        DatasetError: the font is not installed.
    """
    if not _FONT.exists():
        raise DatasetError(f"emoji font: {_FONT} not found; install Debian's fonts-noto-color-emoji")
    font = ImageFont.truetype(str(_FONT), _FONT_SIZE)
    canvas = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), sign, font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())
