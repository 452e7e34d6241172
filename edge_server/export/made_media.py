"""Pictures and sounds made up from a seed, which have of real ones what ranges of activations depend on.

Pictures are dead leaves: discs of all sizes that hide one another, whose edges, shades and spectra are those
of natural pictures (Lee, Mumford and Huang 2001); classifiers learn from them, too (Baradad et al. 2021).
Sounds are noise of all colours, tones with their harmonics, and clicks, swelling and dying away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device_agent.media.clip import Clip

_HEIGHT, _WIDTH = 168, 224
_LEAVES = 120
_SMALLEST, _LARGEST = 4.0, 80.0


def made_clips(count: int, sample_rate_hz: int, samples: int, seed: int = 0) -> list[Clip]:
    """Clips of one picture and a sound each.

    Args:
        count: how many.
        sample_rate_hz: of their sound [Hz].
        samples: of each sound.
        seed: everything follows from it.
    """
    return [
        Clip(
            frames_THWC=made_picture(np.random.default_rng([seed, number, 0]))[None],
            pcm_S=made_sound(sample_rate_hz, samples, np.random.default_rng([seed, number, 1])),
        )
        for number in range(count)
    ]


def made_picture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Leaves on leaves, uint8, [168, 224, 3]."""
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float32)
    picture = np.empty((_HEIGHT, _WIDTH, 3), np.float32)
    picture[:] = rng.uniform(0, 255, 3)
    base = rng.uniform(0, 255, 3)
    for _ in range(_LEAVES):
        # As many of a size as make pictures look alike at every scale: density falls with its cube.
        radius = (rng.uniform(_LARGEST**-2, _SMALLEST**-2)) ** -0.5
        row, column = rng.uniform(0, _HEIGHT), rng.uniform(0, _WIDTH)
        stretch, angle = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
        along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        inside = along**2 + (across / stretch) ** 2 < radius**2
        colour = np.clip(0.5 * base + 0.5 * rng.uniform(0, 255, 3) + rng.normal(0, 30, 3), 0, 255)
        waves = np.sin(along * rng.uniform(0.05, 1.5) + rng.uniform(0, 6.3)) * rng.uniform(0, 40)
        light = along / radius * rng.uniform(-40, 40)
        picture[inside] = (colour + (waves + light)[..., None])[inside]
    picture += rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def made_sound(sample_rate_hz: int, samples: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Noise, tones and clicks, float32, [samples]."""
    time = np.arange(samples) / sample_rate_hz
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** rng.uniform(0.0, 1.2)
    noise = np.fft.irfft(spectrum, samples)
    sound = noise / max(float(np.abs(noise).max()), 1e-9) * rng.choice([0.05, 0.5, 1.0])
    pitch = rng.uniform(60, 1500)
    for harmonic in range(1, int(rng.integers(2, 12))):
        tone = np.sin(2 * np.pi * pitch * harmonic * time + rng.uniform(0, 6.3))
        sound = sound + tone * rng.uniform(0, 1) / harmonic
    sound *= np.clip(np.sin(2 * np.pi * rng.uniform(0.1, 4) * time + rng.uniform(0, 6.3)), 0.02, 1)
    clicks = rng.integers(0, samples, int(rng.integers(0, 12)))
    sound[clicks] += rng.uniform(-2, 2, len(clicks))
    level = 10 ** rng.uniform(-1.7, 0.0)
    return np.asarray(sound / max(float(np.abs(sound).max()), 1e-9) * level, np.float32)
