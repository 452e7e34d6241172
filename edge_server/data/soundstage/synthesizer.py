"""FluidSynth, new for every sound: what was played before leaves no trace in what is played next.

A synthesizer that was reset still knows how far its blocks of 64 samples and its dither had come, so that a
clip sounded different after other clips, and a data set depended on how many processes rendered it. Making
a synthesizer takes a millisecond; reading a soundfont takes fifty, so that one is handed on.
"""

from __future__ import annotations

import functools
from ctypes import c_int, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

from edge_server.errors import DatasetError

if TYPE_CHECKING:
    import fluidsynth

_WARNINGS = 2
"""FLUID_WARN: one for each channel that has no instrument while the soundfont is handed on."""


class Synthesizer:
    """Plays instruments of one soundfont. Used by one thread.

    Args:
        soundfont: file of a General MIDI soundfont.
        sample_rate_hz: of what is played.

    Raises:
        DatasetError: there is no such file, or it is no soundfont.
    """

    def __init__(self, soundfont: Path, sample_rate_hz: int) -> None:
        import fluidsynth  # a library of the system: only who makes sound needs it

        if not soundfont.exists():
            raise DatasetError(f"soundfont: {soundfont} not found")
        self._new = functools.partial(fluidsynth.Synth, samplerate=float(sample_rate_hz), gain=0.5)
        function = fluidsynth.cfunc
        both = (("synth", c_void_p, 1), ("sfont", c_void_p, 1))
        self._add = function("fluid_synth_add_sfont", c_int, *both)
        self._remove = function("fluid_synth_remove_sfont", c_int, *both)
        told = (("level", c_int, 1), ("function", c_void_p, 1), ("data", c_void_p, 1))
        function("fluid_set_log_function", c_void_p, *told)(_WARNINGS, None, None)
        self._synth = self._made()
        loaded = self._synth.sfload(str(soundfont))
        if loaded < 0:
            raise DatasetError(f"soundfont: {soundfont} is none")
        self._soundfont = fluidsynth.fluid_synth_get_sfont_by_id(self._synth.synth, loaded)

    def anew(self) -> tuple[fluidsynth.Synth, int]:
        """A synthesizer that has played nothing, and the soundfont's number there; the one before is gone."""
        before, self._synth = self._synth, self._made()
        self._remove(before.synth, self._soundfont)
        number: int = self._add(self._synth.synth, self._soundfont)
        before.delete()
        return self._synth, number

    def _made(self) -> fluidsynth.Synth:
        synth = self._new()
        synth.setting("synth.reverb.active", 0)
        synth.setting("synth.chorus.active", 0)
        return synth
