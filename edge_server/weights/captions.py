"""What the receiver of pictures is to say, as so many language tokens: a caption that the foundation reads.

This is a photo of a golden retriever, a dog.         a class of the classifier
This might be a photo of a golden retriever.          one that it is not sure of
This is a drawing of a red apple.                     an emoji
A stage: left moving violin; middle nothing; right resting saxophone.    Soundstage
"""

from __future__ import annotations

from tokenizers import Tokenizer

from edge_server.data.soundstage.scene import PLACES, Scene
from edge_server.model import tokenizer as tk
from edge_server.weights.names import ClassName, with_article

MOVING, RESTING, NOTHING = "moving", "resting", "nothing"
_KIND_TOKENS = 2


class Captions:
    """Captions as language tokens, all of one length.

    Args:
        tokenizer: the foundation's.
        length: tokens of each.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self._length = length
        (self._filler,) = tk.encode(tokenizer, "\n")

    def photo(self, shown: ClassName, *, sure: bool = True) -> list[int]:
        """Of a real thing."""
        if not sure:
            return self._filled(f"This might be a photo of {with_article(shown.name)}.")
        kind = "" if shown.kind == "thing" else f", {with_article(shown.kind)}"
        return self._filled(f"This is a photo of {with_article(shown.name)}{kind}.")

    def drawing(self, name: str) -> list[int]:
        """Of an emoji."""
        return self._filled(f"This is a drawing of {with_article(name)}.")

    def stage(self, scene: Scene) -> list[int]:
        """Of a stage, every place at its own positions."""
        ids = tk.encode(self._tokenizer, "A stage:")
        for place in PLACES:
            performer = scene.at(place)
            if performer is None:
                said, kind = NOTHING, []
            else:
                said = RESTING if performer.action == "still" else MOVING
                kind = tk.encode(self._tokenizer, f" {performer.kind}")
            kind += [self._filler] * (_KIND_TOKENS - len(kind))
            end = "." if place == PLACES[-1] else ";"
            ids += [*tk.encode(self._tokenizer, f" {place} {said}"), *kind, *tk.encode(self._tokenizer, end)]
        return self._padded(ids)

    def _filled(self, text: str) -> list[int]:
        return self._padded(tk.encode(self._tokenizer, text))

    def _padded(self, ids: list[int]) -> list[int]:
        return (ids + [self._filler] * self._length)[: self._length]
