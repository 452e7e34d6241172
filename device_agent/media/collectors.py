"""What is kept of decoded media: frames at the spec's rate, sound at the spec's rate, up to the window.

Both place what they are given at its own time on one clock, and count it against the limits, kept or not:
decoding is what costs.

Shapes: T frames, H height, W width, S samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media.clip import MediaSpec
from device_agent.media.limits import MediaLimits
from device_agent.media.orientation import UPRIGHT, Turn, by_angle, by_matrix
from device_agent.media.pixels import Frames, cropped, rgb_pixels
from device_agent.media.wav import check_sound

Pcm = npt.NDArray[np.float32]

_EPSILON_S = 1e-3
"""Timestamps are rounded by their containers."""
_JITTER_S = 0.015
"""Sound that is stamped off by less follows on: browsers stamp what they record by when it arrived."""
_MAX_PLANES = 8
"""From so many planes of samples on PyAV reads beyond a frame's end."""
_RESTART_S = 0.25
"""Timestamps that go back by more are those of another recording, put behind the first."""


class FrameSampler:
    """Keeps, at each tick of the spec's frame rate, the frame that is on show.

    Before the first frame of a video, that frame is shown, as players do.

    Args:
        field: what to call the media in errors.
        spec: frame rate, window and how many frames are kept.
        limits: what decoding may cost.
        background: what is seen through transparent parts, 0 (black) to 255 (white).
        turn: how the pictures are shown; None: as FFmpeg says.
        crop: left, top, width and height of what is shown of them [pixels]; None: all.

    Attributes:
        aspect: tells, once a frame is decoded, the width of a pixel over its height. By it a picture is made
            wider or taller, never smaller.
    """

    def __init__(
        self,
        field: str,
        spec: MediaSpec,
        limits: MediaLimits,
        background: int = 0,
        turn: Turn | None = None,
        crop: tuple[int, int, int, int] | None = None,
    ) -> None:
        self._field, self._spec, self._limits = field, spec, limits
        self._background, self._turn, self._crop = background, turn, crop
        self.aspect: Callable[[], float] = lambda: 1.0
        self._wanted = min(spec.max_frames, max(1, round(spec.window_s * spec.frame_rate_hz)))
        self._kept: list[Frames] = []
        self._on_show: Any = None
        self._time_s = self._interval_s = self._shift_s = 0.0
        self.decoded = self._pixels = self._expected = 0
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
                self._field,
                f"has more than {self._limits.max_total_pixels} pixels to decode in all "
                "(media.max_total_pixels)",
            )

    def push(self, frame: Any, start_s: float) -> None:
        """Take the next decoded ``av.VideoFrame``; ``start_s`` is when the window starts [s]."""
        self.decoded += 1
        self._pixels += frame.width * frame.height
        if self.decoded > self._limits.max_frames:
            raise MediaLimitError(
                self._field, f"has more than {self._limits.max_frames} frames to decode (media.max_frames)"
            )
        if self._pixels > self._limits.max_total_pixels:
            raise MediaLimitError(
                self._field,
                f"has more than {self._limits.max_total_pixels} pixels to decode in all "
                "(media.max_total_pixels)",
            )
        if self._turn is None:
            # The first picture's: codecs need not say it again with each.
            self._turn = _turn_of(frame)
        if self.decoded == 1:
            # The container may have declared less, or nothing.
            self.expect(self._expected, frame.width * frame.height)
        if frame.is_corrupt:
            if self._on_show is None:
                return  # cut from a longer video between two key frames: a player waits for the next
            raise MediaError(self._field, "is damaged: a picture cannot be decoded in full")
        time_s = self._time_s + self._interval_s
        if frame.time is not None:
            time_s = frame.time - start_s + self._shift_s
            if self._on_show is not None and time_s < self._time_s - _RESTART_S:
                self._shift_s += self._time_s + self._interval_s - time_s
                time_s = self._time_s + self._interval_s
        if self._on_show is None and time_s >= self._spec.window_s:
            return
        if self._on_show is not None:
            self._interval_s = time_s - self._time_s
            self._hold_until(time_s - _EPSILON_S)
        self._on_show, self._time_s = frame, time_s
        if not self._kept and time_s > _EPSILON_S:
            self._hold_until(time_s - _EPSILON_S)

    def finish(self, *, still: bool = False) -> Frames | None:
        """The frames kept, [T, H, W, 3]; None if there were none. A still picture is one, however long."""
        if still and self._on_show is not None:
            return self._pixels_of(self._on_show)[None].copy()
        if self._on_show is not None and not self.full:
            duration_s = float((self._on_show.duration or 0) * (self._on_show.time_base or 0))
            if duration_s <= 0:
                duration_s = self._interval_s if self._interval_s > 0 else 1.0 / self._spec.frame_rate_hz
            self._hold_until(self._time_s + duration_s - _EPSILON_S)
        if self._on_show is not None and not self._kept and self._time_s > -1.0 / self._spec.frame_rate_hz:
            self._kept.append(self._pixels_of(self._on_show))
        if not self._kept:
            return None
        return np.stack(self._kept)

    def _hold_until(self, time_s: float) -> None:
        held: Frames | None = None
        while not self.full and len(self._kept) / self._spec.frame_rate_hz < time_s:
            held = self._pixels_of(self._on_show) if held is None else held
            self._kept.append(held)

    def _pixels_of(self, frame: Any) -> Frames:
        if self._crop is not None:
            frame = cropped(frame, self._crop)
        if self._size is None:
            aspect = self.aspect()
            width, height = frame.width * max(aspect, 1.0), frame.height / min(aspect, 1.0)
            shrink = min(1.0, self._spec.max_side / max(width, height))
            self._size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        return rgb_pixels(frame, self._size, self._background, self._turn or UPRIGHT)


def _turn_of(frame: Any) -> Turn:
    # Side data in PyAV can crash the process when it is collected: it is read only where a picture is turned.
    # What a codec says is upside down alone has an angle of 0, and is shown as it is stored.
    if not frame.rotation:
        return UPRIGHT
    try:
        matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    except ValueError:  # beside it is something that PyAV knows no name of, such as the EXIF of a TIFF
        return by_angle(frame.rotation)
    return UPRIGHT if matrix is None else by_matrix(bytes(matrix))


class SoundCollector:
    """Makes sound mono at the spec's rate, up to the window.

    Channels are mixed with the weights of FFmpeg's downmix, divided by their sum: what is the same in all
    channels keeps its loudness, and nothing is cut off. Where FFmpeg has no weights, the channels' mean.

    Args:
        field: what to call the media in errors.
        spec: sample rate and window.
        limits: what decoding may cost.
        begins_s: when it begins, after the window does, if it has no timestamps [s].
    """

    def __init__(self, field: str, spec: MediaSpec, limits: MediaLimits, begins_s: float = 0.0) -> None:
        self._field, self._spec, self._limits, self._begins_s = field, spec, limits, begins_s
        self._wanted = round(spec.window_s * spec.sample_rate_hz)
        self._resampler: Any = None
        self._input: tuple[Any, ...] | None = None
        self._mixed_here = False
        self._pieces: list[Pcm] = []
        self._samples = self._skip = self._decoded = 0
        self._expected_s: float | None = None
        self._shift_s = 0.0

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
                f"at most {self._limits.max_audio_samples} are decoded (media.max_audio_samples)",
            )

    def push(self, frame: Any, start_s: float) -> None:
        """Take the next decoded ``av.AudioFrame``; ``start_s`` is when the window starts [s]."""
        channels = len(frame.layout.channels)
        self.expect(frame.sample_rate, channels)
        self._decoded += frame.samples * channels
        if self._decoded > self._limits.max_audio_samples:
            raise MediaLimitError(
                self._field,
                f"has more than {self._limits.max_audio_samples} audio samples to decode "
                "(media.max_audio_samples)",
            )
        if frame.format.name.startswith(("flt", "dbl")) and not np.isfinite(_channels_of(frame)).all():
            raise MediaError(self._field, "its sound holds values that are not finite")
        self._place(None if frame.time is None else frame.time - start_s, frame)
        if self._expected_s is not None:
            self._expected_s += frame.samples / frame.sample_rate
        self._resample(frame)

    def finish(self) -> Pcm | None:
        """The samples, [S], within [-1, 1]; None if there were none."""
        self._drain()
        if not self._samples:
            return None
        return np.concatenate(self._pieces)[: self._wanted]

    def _place(self, time_s: float | None, frame: Any) -> None:
        """Begin anew where a frame does not follow on the one before it."""
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        if self._expected_s is not None:
            off_s = 0.0 if time_s is None else time_s + self._shift_s - self._expected_s
            if off_s < -_RESTART_S:
                self._shift_s -= off_s
                off_s = 0.0
            if abs(off_s) <= _JITTER_S:
                if kind == self._input:
                    return
                off_s = 0.0
            self._expected_s += off_s
        else:
            self._expected_s = self._begins_s if time_s is None else time_s
        self._drain()
        self._input = kind
        self._begin(frame)
        at = round((self._expected_s or 0.0) * self._spec.sample_rate_hz)
        silent = min(at, self._wanted) - self._samples
        self._skip = max(self._samples - at, 0)
        if silent > 0:
            self._pieces.append(np.zeros(silent, np.float32))
            self._samples += silent

    def _begin(self, frame: Any) -> None:
        # Weights add up to one only if the samples that come out are integers.
        self._resampler = av.AudioResampler(format="s32", layout="mono", rate=self._spec.sample_rate_hz)
        self._mixed_here = False
        try:
            probe = av.AudioFrame(format=frame.format.name, layout=frame.layout.name, samples=1)
            probe.sample_rate = frame.sample_rate
            av.AudioResampler(format="s32", layout="mono", rate=frame.sample_rate).resample(probe)
        except (av.error.FFmpegError, ValueError):
            self._mixed_here = True

    def _drain(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: Any) -> None:
        if frame is not None and self._mixed_here:
            frame = _mean_of_channels(frame)
        for resampled in self._resampler.resample(frame):
            samples = resampled.to_ndarray().reshape(-1).astype(np.float32) / np.float32(2**31)
            dropped = min(self._skip, samples.size)
            self._skip -= dropped
            self._pieces.append(samples[dropped:])
            self._samples += samples.size - dropped


def _channels_of(frame: Any) -> npt.NDArray[Any]:
    """The samples of an ``av.AudioFrame``, [channels, samples]."""
    channels = len(frame.layout.channels)
    if frame.format.is_planar and channels >= _MAX_PLANES:
        packer = av.AudioResampler(
            format=frame.format.packed.name, layout=frame.layout, rate=frame.sample_rate
        )
        frames = packer.resample(frame)
    else:
        frames = [frame]
    if frames and frames[0].format.is_planar:
        return np.concatenate([each.to_ndarray() for each in frames], axis=1)
    return np.concatenate([each.to_ndarray().reshape(-1, channels).T for each in frames], axis=1)


def _mean_of_channels(frame: Any) -> Any:
    samples_CS = _channels_of(frame)
    mean = samples_CS.mean(axis=0, keepdims=True, dtype=np.float64).astype(samples_CS.dtype)
    mixed = av.AudioFrame.from_ndarray(mean, format=frame.format.packed.name, layout="mono")
    mixed.sample_rate, mixed.pts, mixed.time_base = frame.sample_rate, frame.pts, frame.time_base
    return mixed
