"""Six ways in which a device's world differs from that of training: three for eyes, two for ears, one tilted.

Each takes frames, uint8 [F, H, W, 3], and sound, float32 [S] within [-1, 1], and gives both back, changed.
What a device changes is its own and always the same, but for noise, which follows the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.float32]
Shift: TypeAlias = Callable[[Frames, Sound, np.random.Generator, int], tuple[Frames, Sound]]
"""Frames, sound, randomness of the clip, sample rate [Hz] to frames and sound."""

_DARK_GAIN, _DARK_NOISE = 0.12, 6.0
_CAST = np.array([1.3, 0.75, 0.35])
_PICTURE_NOISE = 60.0
_HUM_HZ, _HUM_AMPLITUDE = 100.0, 0.35
_LOW_PASS_HZ = 700.0
_TILT_DEG = 35.0


def _dark(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """A dark hall: little light, and the camera's noise in it."""
    lit = frames * _DARK_GAIN + rng.normal(0.0, _DARK_NOISE, frames.shape)
    return _pixels(lit), sound


def _cast(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """Sodium lamps: much red, little blue."""
    return _pixels(frames * _CAST), sound


def _noisy(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """A cheap sensor: noise in every pixel."""
    return _pixels(frames + rng.normal(0.0, _PICTURE_NOISE, frames.shape)), sound


def _hum(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """A transformer nearby: a hum with overtones."""
    time_S = np.arange(len(sound)) / rate_hz
    phase = rng.uniform(0.0, 2.0 * np.pi)
    hum = sum(np.sin(2 * np.pi * k * _HUM_HZ * time_S + k * phase) / k for k in range(1, 9))
    return frames, np.clip(sound + _HUM_AMPLITUDE * hum, -1.0, 1.0).astype(np.float32)


def _muffled(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """A microphone behind cloth: nothing high comes through."""
    spectrum = np.fft.rfft(sound)
    hz = np.fft.rfftfreq(len(sound), 1.0 / rate_hz)
    spectrum *= 1.0 / np.sqrt(1.0 + (hz / _LOW_PASS_HZ) ** 6)
    return frames, np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def _tilted(frames: Frames, sound: Sound, rng: np.random.Generator, rate_hz: int) -> tuple[Frames, Sound]:
    """A camera that hangs askew."""
    _, height, width, _ = frames.shape
    angle = np.deg2rad(_TILT_DEG)
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_y = np.rint(np.cos(angle) * y - np.sin(angle) * x + (height - 1) / 2).astype(int)
    from_x = np.rint(np.sin(angle) * y + np.cos(angle) * x + (width - 1) / 2).astype(int)
    inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    turned = frames[:, from_y.clip(0, height - 1), from_x.clip(0, width - 1)]
    return np.where(inside[None, :, :, None], turned, 0).astype(np.uint8), sound


def _pixels(values: npt.NDArray[np.float64]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


SHIFTS: Mapping[str, Shift] = MappingProxyType(
    {
        "dark": _dark,
        "colour cast": _cast,
        "noise": _noisy,
        "hum": _hum,
        "muffled": _muffled,
        "tilted": _tilted,
    }
)
"""By what the device is called."""
