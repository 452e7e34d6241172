"""A scene as sound: sampled instruments (FluidSynth, General MIDI) and a voice (espeak-ng).

Every instrument is rendered alone, set to its level, and mixed; melodies, rhythms and velocities are drawn
from the scene's seed.
"""

from __future__ import annotations

import functools
import io
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_server.data.soundstage.scene import DURATION_S, Scene, Sound
from edge_server.data.soundstage.synthesizer import Synthesizer
from edge_server.errors import DatasetError

if TYPE_CHECKING:
    import fluidsynth

SAMPLE_RATE_HZ = 16_000
SAMPLES = int(DURATION_S * SAMPLE_RATE_HZ)

_SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
#: Root mean square of an instrument at 0 dB, full scale 1.
_REFERENCE_RMS = 0.12
_PERCUSSION_CHANNEL = 9
_SCALE = (0, 2, 4, 7, 9, 12, 14, 16, 19)
_VOICES = ("en-us", "en-gb", "en-us+f2", "en-us+m3", "en-gb+f4", "en-us+m7")
_SAYINGS = (
    "welcome to the concert everyone, we are glad you came tonight",
    "this next piece is one of my favourites, listen closely",
    "please switch off your phones, the show is about to begin",
    "and now let us hear what the band has prepared for us",
    "what a wonderful evening it has been, thank you all for coming",
    "the musicians met in school and have played together ever since",
)


@dataclass(frozen=True)
class _Voice:
    """How a kind of instrument is played: General MIDI program (or percussion keys), range, pace."""

    program: int | None
    lowest_key: int
    keys: tuple[int, ...] = ()
    notes_per_s: tuple[float, float] = (2.0, 5.0)


VOICES: dict[str, _Voice] = {
    "violin": _Voice(40, 60),
    "piano": _Voice(0, 55),
    "trumpet": _Voice(56, 58),
    "drum": _Voice(None, 0, keys=(36, 38, 38, 41, 45, 48), notes_per_s=(3.0, 7.0)),
    "guitar": _Voice(29, 45),
    "saxophone": _Voice(65, 52),
    "accordion": _Voice(21, 57),
    "banjo": _Voice(105, 55, notes_per_s=(3.0, 7.0)),
    "flute": _Voice(73, 69),
    "conga": _Voice(None, 0, keys=(62, 63, 63, 64), notes_per_s=(3.0, 7.0)),
}


def render_sound(scene: Scene, soundfont: Path | None = None) -> npt.NDArray[np.int16]:
    """The sound track of a clip.

    Args:
        scene: what to play.
        soundfont: file of another General MIDI soundfont.

    Returns:
        int16, [SAMPLES], mono at SAMPLE_RATE_HZ.

    Raises:
        DatasetError: the soundfont or espeak-ng is not installed.
    """
    rng = np.random.default_rng([scene.seed, 2])
    mix = rng.standard_normal(SAMPLES).astype(np.float32) * np.float32(rng.uniform(2e-4, 2e-3))
    for sound in scene.sounds:
        begin = int(sound.onset_s * SAMPLE_RATE_HZ)
        stem = _play(sound, SAMPLES - begin, rng, soundfont or _SOUNDFONT)
        mix[begin:] += stem * _gain(stem, _REFERENCE_RMS * 10 ** (sound.level_db / 20))
    if scene.voice_over:
        speech = _speak(rng)
        mix += speech * _gain(speech, _REFERENCE_RMS * 10 ** (rng.uniform(-6.0, 0.0) / 20))
    mix *= np.float32(rng.uniform(0.5, 1.2))
    peak = float(np.abs(mix).max())
    if peak > 0.98:
        mix *= np.float32(0.98 / peak)
    return (mix * 32767).astype(np.int16)


def _play(sound: Sound, samples: int, rng: np.random.Generator, path: Path) -> npt.NDArray[np.float32]:
    """One instrument from its entry to the end, at no particular level."""
    voice = VOICES[sound.kind]
    synth, soundfont = _synth(path)
    if voice.program is None:
        channel = _PERCUSSION_CHANNEL
        synth.program_select(channel, soundfont, 128, 0)
    else:
        channel = 0
        synth.program_select(channel, soundfont, 0, voice.program)
    pace = rng.uniform(*voice.notes_per_s)
    root = voice.lowest_key + int(rng.integers(0, 8))
    degree = int(rng.integers(len(_SCALE)))
    parts, done, key = [], 0, -1
    while done < samples:
        if key >= 0:
            synth.noteoff(channel, key)
        if voice.program is None:
            key = voice.keys[int(rng.integers(len(voice.keys)))]
        else:
            degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(_SCALE) - 1))
            key = root + _SCALE[degree]
        synth.noteon(channel, key, int(rng.integers(80, 121)))
        length = min(samples - done, int(SAMPLE_RATE_HZ / pace * rng.choice([0.5, 1.0, 1.0, 1.5])))
        parts.append(np.asarray(synth.get_samples(length), np.float32).reshape(-1, 2).mean(axis=1))
        done += length
    return np.asarray(np.concatenate(parts) / 32768, np.float32)


def play_note(
    program: int, key: int, velocity: int, held_s: float, whole_s: float
) -> npt.NDArray[np.float32]:
    """One note of one instrument of General MIDI, float32, [S], mono at SAMPLE_RATE_HZ.

    Args:
        program: of General MIDI, counted from 0.
        key: 60 is middle C.
        velocity: how hard it is struck, 1 to 127.
        held_s: until it is let go [s].
        whole_s: what is kept of it [s].

    Raises:
        DatasetError: the soundfont is not installed.
    """
    synth, soundfont = _synth(_SOUNDFONT)
    synth.program_select(0, soundfont, 0, program)
    synth.noteon(0, key, velocity)
    held = int(min(held_s, whole_s) * SAMPLE_RATE_HZ)
    parts = [np.asarray(synth.get_samples(held), np.float32)]
    synth.noteoff(0, key)
    parts.append(np.asarray(synth.get_samples(int(whole_s * SAMPLE_RATE_HZ) - held), np.float32))
    return np.asarray(np.concatenate(parts).reshape(-1, 2).mean(axis=1) / 32768, np.float32)


def speak(voice: str, text: str, words_per_minute: int = 150) -> npt.NDArray[np.float32]:
    """A sentence in one of espeak-ng's voices, float32, [S], mono at SAMPLE_RATE_HZ.

    Raises:
        DatasetError: espeak-ng is not installed.
    """
    return _saying(voice, text, words_per_minute)


def _speak(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A sentence, cut to the clip, from a random start."""
    speech = _saying(_VOICES[int(rng.integers(len(_VOICES)))], _SAYINGS[int(rng.integers(len(_SAYINGS)))])
    begin = int(rng.integers(0, max(1, len(speech) - SAMPLES // 2)))
    out = np.zeros(SAMPLES, np.float32)
    part = speech[begin : begin + SAMPLES]
    out[: len(part)] = part
    return out


def _gain(stem: npt.NDArray[np.float32], rms: float) -> np.float32:
    """Factor that sets the loud part of a stem to an RMS; rests between strokes do not count."""
    envelope = np.square(stem[: len(stem) // 160 * 160]).reshape(-1, 160).mean(axis=1)
    loud = envelope[envelope >= np.quantile(envelope, 0.5)] if len(envelope) else envelope
    power = float(loud.mean()) if len(loud) else 0.0
    return np.float32(rms / np.sqrt(power)) if power > 1e-10 else np.float32(0.0)


@functools.cache
def _saying(voice: str, text: str, words_per_minute: int = 150) -> npt.NDArray[np.float32]:
    try:
        spoken = subprocess.run(  # noqa: S603 - fixed program, arguments from our own constants
            ["espeak-ng", "--stdout", "-v", voice, "-s", str(words_per_minute), text],  # noqa: S607
            capture_output=True,
            check=True,
        ).stdout
    except FileNotFoundError as error:
        raise DatasetError("espeak-ng: not found; install Debian's espeak-ng") from error
    # espeak-ng cannot know the length of what it streams, so the header's is wrong: read to the end.
    with wave.open(io.BytesIO(spoken)) as file:
        rate = file.getframerate()
    pcm = np.frombuffer(spoken[44:], "<i2").astype(np.float32) / 32768
    positions = np.arange(int(len(pcm) * SAMPLE_RATE_HZ / rate)) * rate / SAMPLE_RATE_HZ
    return np.asarray(np.interp(positions, np.arange(len(pcm)), pcm), np.float32)


def _synth(path: Path) -> tuple[fluidsynth.Synth, int]:
    """A synthesizer that has played nothing yet, and the number of its soundfont."""
    if path == _SOUNDFONT and not path.exists():
        raise DatasetError(f"soundfont: {path} not found; install Debian's fluid-soundfont-gm")
    return _synthesizer(path).anew()


@functools.cache
def _synthesizer(path: Path) -> Synthesizer:
    return Synthesizer(path, SAMPLE_RATE_HZ)
