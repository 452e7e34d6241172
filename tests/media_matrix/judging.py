"""Is what came in what others see and hear, and the same on every way?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from device_agent.media.clip import Clip
from tests.media_matrix.views import SAMPLES_HZ, Pcm, Pixels, View

MAX_PICTURES_OFF = 2.0
"""Of the worst frame, the mean over its values, of 255. One frame too early or late is off by 30 and more."""
MAX_SOUND_OFF = 1e-2
"""Root mean square, of sound whose own is 0.15. Resamplers that begin at a gap are half a sample apart."""
MAX_SHIFT_S = 5e-3
"""FFmpeg 5.1 takes off an Opus lead-in by the rate that was coded, where the samples have another."""


@dataclass(frozen=True)
class Verdict:
    """What of a clip is as in somebody else's view.

    Attributes:
        wrong: what is not; empty: it is right.
        pictures_off: of the worst frame, mean absolute difference of its values, of 255.
        sound_off: root mean square.
        shift_ms: by which the sound had to be moved.
    """

    wrong: str = ""
    pictures_off: float = 0.0
    sound_off: float = 0.0
    shift_ms: float = 0.0


def digest(clip: Clip) -> str:
    """The same for the same frames and samples."""
    parts = [repr(clip.is_image)]
    for values in (clip.frames_THWC, clip.pcm_S):
        parts.append("none" if values is None else repr((values.shape, values.dtype.str)))
        parts.append("" if values is None else hashlib.sha256(values.tobytes()).hexdigest())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def judge(clip: Clip, view: View) -> Verdict:
    """A clip beside a view of the same file."""
    for ours, theirs, what in (
        (clip.frames_THWC, view.frames_THWC, "pictures"),
        (clip.pcm_S, view.pcm_S, "sound"),
    ):
        if (ours is None) != (theirs is None):
            return Verdict(f"{what}: {'missing' if ours is None else 'none are there'}")
    pictures = sound = shift_ms = 0.0
    if clip.frames_THWC is not None and view.frames_THWC is not None:
        if clip.frames_THWC.shape != view.frames_THWC.shape:
            return Verdict(f"frames {clip.frames_THWC.shape}, of the view {view.frames_THWC.shape}")
        pictures = _pictures_off(clip.frames_THWC, view.frames_THWC)
        if pictures > MAX_PICTURES_OFF:
            return Verdict(f"a frame is off by {pictures:.1f} of 255", pictures)
    if clip.pcm_S is not None and view.pcm_S is not None:
        sound, shift_ms = _sound_off(clip.pcm_S, view.pcm_S)
        if sound > MAX_SOUND_OFF:
            return Verdict(f"sound is off by {sound:.3f}", pictures, sound, shift_ms)
        if abs(clip.pcm_S.size - view.pcm_S.size) > max(2, abs(shift_ms) / 1000 * SAMPLES_HZ + 2):
            return Verdict(f"{clip.pcm_S.size} samples, of the view {view.pcm_S.size}")
    return Verdict("", round(pictures, 3), round(sound, 6), shift_ms)


def _pictures_off(ours: Pixels, theirs: Pixels) -> float:
    return float(np.abs(ours.astype(np.int16) - theirs).mean(axis=(1, 2, 3)).max())


def _sound_off(ours: Pcm, theirs: Pcm) -> tuple[float, float]:
    """Root mean square, and by what ours had to be moved for that [ms]."""

    def off(shift: int) -> float:
        moved = theirs[max(shift, 0) :], ours[max(-shift, 0) :]
        size = min(map(len, moved))
        return float(np.sqrt(np.mean((moved[0][:size] - moved[1][:size]) ** 2)))

    most = round(MAX_SHIFT_S * SAMPLES_HZ)
    if off(0) <= MAX_SOUND_OFF:
        return off(0), 0.0
    best = min(range(-most, most + 1), key=off)
    return off(best), best / SAMPLES_HZ * 1000
