"""Notes: the foundation reads a caption and writes down, word by word, what each place of a slot has to say.

What dictation takes from labels of a generated scene is here taken from a free caption, by the foundation
that will read the tokens: pairs of clip and caption are all that it needs. Words of which the foundation is
not sure, since the caption says nothing of them, are left out of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_server.engine.ports import Prompt
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.losses import UNKNOWN
from edge_server.training.reading import NOTE_REQUEST


@dataclass(frozen=True)
class Note:
    """What the foundation wrote down of a caption.

    Attributes:
        words: in the order of the slots, a word for each place.
        sure: probability of each.
    """

    words: tuple[str, ...]
    sure: tuple[float, ...]

    def by_slot(self, places: Mapping[str, int], least: float) -> dict[str, tuple[str, ...]]:
        """The words of each slot; :data:`UNKNOWN` where the foundation was less sure than ``least``.

        Args:
            places: how many words each slot has, in the order of the note.
            least: probability.
        """
        told = [word if sure >= least else UNKNOWN for word, sure in zip(self.words, self.sure, strict=True)]
        if len(told) != sum(places.values()):  # no note that one could read: it says nothing
            told = [UNKNOWN] * sum(places.values())
        found, begin = {}, 0
        for slot, count in places.items():
            found[slot] = tuple(told[begin : begin + count])
            begin += count
        return found


def take_notes(link: Link, captions: Sequence[str], most_words: int, batch_size: int = 128) -> list[Note]:
    """What the foundation writes down of each caption, greedily.

    Args:
        link: its foundation reads; it has no LoRA.
        captions: free texts.
        most_words: where a note is cut.
        batch_size: captions read together.
    """
    served = ServedLink(link, bundle_hash="")
    request = tuple(tk.encode(link.tokenizer, NOTE_REQUEST))
    found: list[Note] = []
    for begin in range(0, len(captions), batch_size):
        prompts = [
            Prompt((), request, tuple(tk.encode(link.tokenizer, caption)))
            for caption in captions[begin : begin + batch_size]
        ]
        found += _written(served, prompts, most_words)
    return found


def _written(served: ServedLink, prompts: Sequence[Prompt], most_words: int) -> list[Note]:
    state, steps = served.prefill(prompts)
    words: list[list[str]] = [[] for _ in prompts]
    sure: list[list[float]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    for _ in range(most_words):
        still = []
        for position, (row, step) in enumerate(zip(going, steps, strict=True)):
            if step.token_id != served.eos_id:
                words[row].append(served.text([step.token_id]))
                sure[row].append(step.probability)
                still.append(position)
        if not still:
            break
        state = served.keep(state, still)
        going = [going[position] for position in still]
        state, steps = served.decode(state)
    return [Note(tuple(w), tuple(s)) for w, s in zip(words, sure, strict=True)]
