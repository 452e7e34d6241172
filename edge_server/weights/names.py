"""The classifier's classes by name: what each is called, which others are the same, what kind of thing it is.

Names are WordNet's, from lists that a package carries: a class's identifier a line, and an identifier with
its synonyms a line. Kinds of thing are told by the classes' order, which follows WordNet's branches as far
as living things and food go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_server.errors import DatasetError

SYNSETS = "imagenet_synsets.txt"
LEMMAS = "imagenet_synset_to_lemma.txt"

# First class of each run of one kind, up to the next.
_KINDS = (
    (0, "fish"),
    (7, "bird"),
    (25, "amphibian"),
    (33, "turtle"),
    (38, "reptile"),
    (52, "snake"),
    (69, "animal"),
    (70, "spider"),
    (78, "animal"),
    (80, "bird"),
    (101, "animal"),
    (127, "bird"),
    (147, "animal"),
    (151, "dog"),
    (269, "animal"),
    (281, "cat"),
    (286, "animal"),
    (300, "insect"),
    (327, "animal"),
    (365, "monkey"),
    (385, "animal"),
    (389, "fish"),
    (398, "thing"),
    (924, "food"),
    (970, "place"),
    (971, "thing"),
    (972, "place"),
    (981, "person"),
    (984, "plant"),
    (999, "thing"),
)
_LIVING = frozenset(
    "fish|bird|amphibian|turtle|reptile|snake|animal|spider|dog|cat|insect|monkey".split("|")  # noqa: SIM905
)
_INSTRUMENTS = frozenset(
    """accordion|banjo|bassoon|cello|chime|cornet|drum|flute|gong|harmonica|harp|marimba|maraca|oboe|ocarina
panpipe|sax|trombone|violin|acoustic guitar|electric guitar|French horn|grand piano|upright|steel drum
organ""".replace("\n", "|").split("|")
)
_VEHICLES = frozenset(
    """airliner|airship|ambulance|barrow|bobsled|cab|canoe|catamaran|convertible|forklift|gondola|jeep
jinrikisha|lifeboat|limousine|liner|minibus|minivan|moped|oxcart|pickup|racer|schooner|snowmobile|snowplow
speedboat|streetcar|submarine|tank|tractor|tricycle|trimaran|trolleybus|unicycle|warplane|yawl
aircraft carrier|beach wagon|bicycle-built-for-two|bullet train|container ship|electric locomotive
fire engine|fireboat|freight car|garbage truck|go-kart|half track|horse cart|Model T|motor scooter
mountain bike|moving van|passenger car|pirate|police van|recreational vehicle|school bus|space shuttle
sports car|steam locomotive|tow truck|trailer truck""".replace("\n", "|").split("|")
)


@dataclass(frozen=True)
class ClassName:
    """What one class is called.

    Attributes:
        synset: WordNet's identifier, "n01443537".
        names: synonyms, the usual one first.
        kind: what kind of thing it is, in one word.
    """

    synset: str
    names: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """The usual one."""
        return self.names[0]

    @property
    def lives(self) -> bool:
        """Whether it is an animal."""
        return self.kind in _LIVING


def read_class_names(folder: Path) -> tuple[ClassName, ...]:
    """The classes in the classifier's order.

    Raises:
        DatasetError: a list is missing, or names a class that the other does not know.
    """
    try:
        synsets = (folder / SYNSETS).read_text(encoding="utf-8").split()
        lines = (folder / LEMMAS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DatasetError(f"{folder}: no names of classes: {error}") from error
    lemmas = dict(line.split("\t", 1) for line in lines if "\t" in line)
    unknown = [synset for synset in synsets if synset not in lemmas]
    if unknown:
        raise DatasetError(f"{folder / LEMMAS}: {unknown[0]} is not in it")
    return tuple(_named(i, synset, lemmas[synset]) for i, synset in enumerate(synsets))


def _named(index: int, synset: str, lemmas: str) -> ClassName:
    names = tuple(name.strip() for name in lemmas.split(","))
    kind = next(kind for first, kind in reversed(_KINDS) if first <= index)
    if kind == "thing" and not _INSTRUMENTS.isdisjoint(names):
        kind = "instrument"
    if kind == "thing" and not _VEHICLES.isdisjoint(names):
        kind = "vehicle"
    return ClassName(synset, names, kind)


def with_article(name: str) -> str:
    """ "a violin", "an accordion"."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
