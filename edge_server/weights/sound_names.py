"""Sounds by name: those that the listener tells apart, and what else they are called.

Names of ESC-10's classes (K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015)
are written as the data set's files write them, with blanks; instruments are General MIDI's.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.weights.names import with_article


@dataclass(frozen=True)
class SoundName:
    """What one class of sounds is called.

    Attributes:
        names: synonyms, the usual one first.
        kind: what kind of thing makes it, in one word.
        programs: of General MIDI that sound so, counted from 0.
        mass: whether it takes no article, as rain.
    """

    names: tuple[str, ...]
    kind: str
    programs: tuple[int, ...] = ()
    mass: bool = False

    @property
    def name(self) -> str:
        """The usual one."""
        return self.names[0]

    @property
    def named(self) -> str:
        """The usual one as a sentence has it, "a dog bark"."""
        return self.name if self.mass else with_article(self.name)

    @property
    def is_music(self) -> bool:
        """Whether an instrument makes it."""
        return self.kind == "instrument"


SPEECH = SoundName(("speech", "person speaking", "voice", "talking"), "person", mass=True)
"""Somebody speaks."""
SILENCE = SoundName(("silence", "nothing"), "thing", mass=True)
"""Nothing is heard, or no more than a microphone's noise."""

ENVIRONMENT = (
    SoundName(("dog bark", "dog barking", "dog"), "animal"),
    SoundName(("rain",), "thing", mass=True),
    SoundName(("sea waves", "waves", "sea", "ocean"), "thing", mass=True),
    SoundName(("baby cry", "baby crying", "crying baby", "baby"), "person"),
    SoundName(("clock tick", "clock ticking", "clock"), "machine"),
    SoundName(("person sneeze", "person sneezing", "sneeze", "sneezing"), "person"),
    SoundName(("helicopter",), "machine"),
    SoundName(("chainsaw",), "machine"),
    SoundName(("rooster", "cock", "rooster crowing"), "animal"),
    SoundName(("fire crackling", "crackling fire", "fire"), "thing", mass=True),
)
"""ESC-10's classes."""

INSTRUMENTS = (
    SoundName(("banjo",), "instrument", (105,)),
    SoundName(("cello",), "instrument", (42,)),
    SoundName(("clarinet",), "instrument", (71,)),
    SoundName(("double bass", "contrabass"), "instrument", (43, 32)),
    SoundName(("flute",), "instrument", (73,)),
    SoundName(("french horn", "horn"), "instrument", (60,)),
    SoundName(("guitar", "acoustic guitar"), "instrument", (24, 25)),
    SoundName(("oboe",), "instrument", (68,)),
    SoundName(("saxophone", "sax"), "instrument", (64, 65, 66, 67)),
    SoundName(("trombone",), "instrument", (57,)),
    SoundName(("trumpet",), "instrument", (56,)),
    SoundName(("violin",), "instrument", (40,)),
    SoundName(("piano",), "instrument", (0, 1)),
    SoundName(("accordion",), "instrument", (21,)),
)
"""Instruments that are told apart."""

SOUNDS = (*ENVIRONMENT, *INSTRUMENTS, SPEECH, SILENCE)
"""The listener's classes, in its order."""

OTHERS = (
    SoundName(("car horn",), "machine"),
    SoundName(("cat meow", "cat"), "animal"),
    SoundName(("thunder",), "thing", mass=True),
    SoundName(("church bell",), "thing"),
    SoundName(("train",), "machine"),
    SoundName(("door knock",), "thing"),
    SoundName(("bird song",), "animal"),
    SoundName(("wind",), "thing", mass=True),
    SoundName(("siren",), "machine"),
    SoundName(("cow", "cow mooing"), "animal"),
    SoundName(("applause",), "person", mass=True),
    SoundName(("harp",), "instrument"),
    SoundName(("drum",), "instrument"),
    SoundName(("organ",), "instrument"),
    SoundName(("tuba",), "instrument"),
    SoundName(("engine",), "machine"),
    SoundName(("frog",), "animal"),
    SoundName(("laughter",), "person", mass=True),
    SoundName(("telephone",), "machine"),
    SoundName(("water drops",), "thing", mass=True),
)
"""Sounds that questions may ask about beside those."""


def names_of(own: str) -> tuple[str, ...]:
    """All names of a sound, the given one first, whichever of them is given, in any case."""
    wanted = own.casefold()
    for sound in SOUNDS:
        if wanted in sound.names:
            return (own, *(name for name in sound.names if name != wanted))
    return (own,)
