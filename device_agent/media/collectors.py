"""What is kept of decoded media: frames at the spec's rate, sound at the spec's rate, up to the window.

Both count what they are given against the limits, kept or not: decoding is what costs.

Shapes: T frames, H height, W width, S samples.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import MediaLimits, MediaSpec
from device_agent.media.wav import check_sound

Frames = npt.NDArray[np.uint8]
Pcm = npt.NDArray[np.float32]

_EPSILON_S = 1e-3
"""Timestamps are rounded by their containers."""


class FrameSampler:
    """Keeps, at each tick of the spec's frame rate, the frame that is on show.

    Args:
        field: what to call the media in errors.
        spec: frame rate, window and how many frames are kept.
        limits: what decoding may cost.
    """

    def __init__(self, field: str, spec: MediaSpec, limits: MediaLimits) -> None:
        self._field, self._spec, self._limits = field, spec, limits
        self._wanted = min(spec.max_frames, max(1, round(spec.window_s * spec.frame_rate_hz)))
        self._kept: list[Frames] = []
        self._on_show: Any = None
        self._start_s: float | None = None
        self._time_s = self._interval_s = 0.0
        self._decoded = self._pixels = self._expected = 0
        self._size: tuple[int, int] | None = None

    @property
    def full(self) -> bool:
        """Whether the window is filled."""
        return len(self._kept) >= self._wanted

    def expect(self, frames: int, frame_pixels: int) -> None:
        """Say what is about to be decoded.

        Args:
            frames: how many.
            frame_pixels: of each, as its container declares; 0 where it does not.

        Raises:
            MediaLimitError: more pixels in all than may be decoded.
        """
        self._expected = frames
        if frames * frame_pixels > self._limits.max_total_pixels:
            raise MediaLimitError(
                self._field, f"has more than {self._limits.max_total_pixels} pixels to decode in all"
            )

    def push(self, frame: Any) -> None:
        """Take the next decoded ``av.VideoFrame``."""
        self._decoded += 1
        self._pixels += frame.width * frame.height
        if self._decoded > self._limits.max_frames:
            raise MediaLimitError(self._field, f"has more than {self._limits.max_frames} frames to decode")
        if self._pixels > self._limits.max_total_pixels:
            raise MediaLimitError(
                self._field, f"has more than {self._limits.max_total_pixels} pixels to decode in all"
            )
        if self._size is None:
            # The container may have declared less, or nothing.
            self.expect(self._expected, frame.width * frame.height)
            self._size = (frame.width, frame.height)
        if (frame.width, frame.height) != self._size:
            raise MediaError(self._field, "changes its picture size midway")
        if frame.is_corrupt:
            raise MediaError(self._field, "is damaged: a picture cannot be decoded in full")
        time_s = frame.time if frame.time is not None else self._time_s + self._interval_s
        if self._start_s is None:
            self._start_s = time_s
        time_s -= self._start_s
        self._interval_s = time_s - self._time_s if self._decoded > 1 else self._interval_s
        self._hold_until(time_s - _EPSILON_S)
        self._on_show, self._time_s = frame, time_s

    def finish(self) -> Frames | None:
        """The frames kept, [T, H, W, 3]; None if there were none."""
        if self._on_show is not None and not self.full:
            duration_s = self._interval_s if self._interval_s > 0 else 1.0 / self._spec.frame_rate_hz
            self._hold_until(self._time_s + duration_s - _EPSILON_S)
        if self._on_show is not None and not self._kept:
            self._kept.append(self._pixels_of(self._on_show))
        if not self._kept:
            return None
        return np.stack(self._kept)

    def _hold_until(self, time_s: float) -> None:
        held: Frames | None = None
        while (
            not self.full
            and self._on_show is not None
            and len(self._kept) / self._spec.frame_rate_hz < time_s
        ):
            held = self._pixels_of(self._on_show) if held is None else held
            self._kept.append(held)

    def _pixels_of(self, frame: Any) -> Frames:
        shrink = min(1.0, self._spec.max_side / max(frame.width, frame.height))
        size = {}
        if shrink < 1.0:
            size = {
                "width": max(1, round(frame.width * shrink)),
                "height": max(1, round(frame.height * shrink)),
                "interpolation": "AREA",
            }
        pixels: Frames = frame.reformat(format="rgb24", **size).to_ndarray()
        return np.rot90(pixels, round(frame.rotation / 90)) if frame.rotation else pixels


class SoundCollector:
    """Resamples sound to mono at the spec's rate, up to the window.

    Args:
        field: what to call the media in errors.
        spec: sample rate and window.
        limits: what decoding may cost.
    """

    def __init__(self, field: str, spec: MediaSpec, limits: MediaLimits) -> None:
        self._field, self._spec, self._limits = field, spec, limits
        self._wanted = round(spec.window_s * spec.sample_rate_hz)
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=spec.sample_rate_hz)
        self._pieces: list[Pcm] = []
        self._samples = self._decoded = 0

    @property
    def full(self) -> bool:
        """Whether the window is filled."""
        return self._samples >= self._wanted

    def expect(self, rate_hz: int, channels: int) -> None:
        """Say what is about to be decoded, as its container or its first piece declares.

        Raises:
            MediaError: no recording is like that.
            MediaLimitError: the window takes more samples than may be decoded.
        """
        check_sound(rate_hz, channels, self._field)
        samples = round(self._spec.window_s * rate_hz * channels)
        if samples > self._limits.max_audio_samples:
            raise MediaLimitError(
                self._field,
                f"has {samples} audio samples in its first {self._spec.window_s:g} s; "
                f"at most {self._limits.max_audio_samples} are decoded",
            )

    def push(self, frame: Any, start_s: float) -> None:
        """Take the next decoded ``av.AudioFrame``; ``start_s`` is when the whole clip starts [s]."""
        self.expect(frame.sample_rate, len(frame.layout.channels))
        self._decoded += frame.samples * len(frame.layout.channels)
        if self._decoded > self._limits.max_audio_samples:
            raise MediaLimitError(
                self._field, f"has more than {self._limits.max_audio_samples} audio samples to decode"
            )
        if not self._pieces and frame.time is not None and frame.time - start_s > _EPSILON_S:
            late = min(round((frame.time - start_s) * self._spec.sample_rate_hz), self._wanted)
            self._keep(np.zeros(late, np.float32))
        self._resample(frame)

    def finish(self) -> Pcm | None:
        """The samples, [S], within [-1, 1]; None if there were none."""
        if self._decoded:
            self._resample(None)
        if not self._samples:
            return None
        pcm = np.concatenate(self._pieces)[: self._wanted]
        if not np.isfinite(pcm).all():
            raise MediaError(self._field, "its sound holds values that are not finite")
        return np.clip(pcm, -1.0, 1.0)

    def _resample(self, frame: Any) -> None:
        for resampled in self._resampler.resample(frame):
            self._keep(resampled.to_ndarray().reshape(-1).astype(np.float32, copy=False))

    def _keep(self, samples: Pcm) -> None:
        self._pieces.append(samples)
        self._samples += samples.size
