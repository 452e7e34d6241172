"""Which windows are worth sharing: told from the media itself, cheaply, before anything is encoded.

A window is reduced to 32 × 18 grey pixels a frame, and its sound to the loudness of tenths of a second: some
hundred thousand additions for a window of 4 s, a thousandth of what encoding it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from device_agent.media.clip import Clip

When: TypeAlias = Literal["always", "changed", "motion", "sound"]
"""Share every window; one that looks or sounds otherwise than the last that was shared; one in which
something moves; one in which something is heard."""

_ROWS, _COLUMNS = 18, 32
_PARTS_PER_S = 10
_Small: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Thresholds:
    """What counts.

    Attributes:
        changed: mean difference of the grey pixels of two windows, of 255.
        changed_db: difference of the loudness of two windows [dB].
        moved: difference of a grey pixel from one frame to the next, of 255; a part of a scene need move.
        moved_share: of the pixels that have to.
        sound_db: loudness, where a full sine is -3 dB [dB].
    """

    changed: float = 6.0
    changed_db: float = 6.0
    moved: float = 12.0
    moved_share: float = 0.01
    sound_db: float = -45.0


class Gate:
    """Says of one source's windows whether they are to be shared.

    Args:
        when: what they are judged by.
        thresholds: what counts.
    """

    def __init__(self, when: When, thresholds: Thresholds | None = None) -> None:
        self.when = when
        self._thresholds = thresholds or Thresholds()
        self._last: tuple[_Small | None, float | None] | None = None

    def passes(self, clip: Clip) -> bool:
        """Whether a window is to be shared; one without a picture is judged by its sound, and conversely."""
        if self.when == "always":
            return True
        frames = None if clip.frames_THWC is None else _small(clip.frames_THWC)
        loud_db = None if clip.pcm_S is None else float(_loudness_db(clip.pcm_S).max(initial=-120.0))
        if self.when == "motion" and frames is not None:
            return self._moves(frames)
        if self.when != "changed" and loud_db is not None:
            return loud_db >= self._thresholds.sound_db
        return self._changed(None if frames is None else frames.mean(axis=0), loud_db)

    def shared(self, clip: Clip) -> None:
        """A window was shared: the next ones are compared with it."""
        picture = None if clip.frames_THWC is None else _small(clip.frames_THWC).mean(axis=0)
        loud_db = None if clip.pcm_S is None else float(_loudness_db(clip.pcm_S).max(initial=-120.0))
        self._last = picture, loud_db

    def _moves(self, frames_TRC: _Small) -> bool:
        if len(frames_TRC) < 2:
            return self._changed(frames_TRC.mean(axis=0), None)
        moved = np.abs(np.diff(frames_TRC, axis=0)) > self._thresholds.moved
        return bool(moved.mean(axis=(1, 2)).max() >= self._thresholds.moved_share)

    def _changed(self, picture: _Small | None, loud_db: float | None) -> bool:
        if self._last is None:
            return True
        before, loud_before_db = self._last
        if (picture is None) != (before is None):
            return True
        if picture is not None and before is not None:
            difference = float(np.abs(picture - before).mean())
            if difference >= self._thresholds.changed:
                return True
        if loud_db is None or loud_before_db is None:
            return False
        quiet_db = self._thresholds.sound_db
        return abs(max(loud_db, quiet_db) - max(loud_before_db, quiet_db)) >= self._thresholds.changed_db


def _small(frames_THWC: npt.NDArray[np.uint8]) -> _Small:
    """Frames as a few grey pixels each, [T, 18, 32] where they are larger: of every n-th pixel."""
    _, height, width, _ = frames_THWC.shape
    rows, columns = max(height // _ROWS, 1), max(width // _COLUMNS, 1)
    few = frames_THWC[:, rows // 2 :: rows, columns // 2 :: columns][:, :_ROWS, :_COLUMNS]
    return np.asarray(few.mean(axis=3, dtype=np.float32), np.float32)


def _loudness_db(pcm_S: npt.NDArray[np.float32]) -> _Small:
    """Root mean square of each tenth of a window [dB]."""
    parts = np.array_split(pcm_S, max(min(len(pcm_S), 4 * _PARTS_PER_S), 1))
    squares = np.array([float(np.mean(np.square(part))) if len(part) else 0.0 for part in parts])
    return np.asarray(10.0 * np.log10(np.maximum(squares, 1e-12)), np.float32)
