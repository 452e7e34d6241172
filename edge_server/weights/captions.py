"""What receivers that know things by heart say, as language tokens: a caption that the foundation reads.

This is a photo of a golden retriever, a dog. Its colour is brown. It is on the left.
This might be a photo of a golden retriever. Its colour is brown. It is on the left.
This is the sound of a dog bark, an animal. It is loud.
This is a drawing of a red apple.                     an emoji, as training has them

The first sentence says what it is; each of the others is of a field of its own, and may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from edge_server.model import tokenizer as tk
from edge_server.weights.names import ClassName, with_article
from edge_server.weights.sound_names import SILENCE, SoundName

#: What is answered where a caption tells nothing; behind it there may be a guess.
NOT_SURE = "I am not sure."
#: What a picture's colour may be called; "" is not told.
COLOURS = (
    "",
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
)
#: Where the thing in a picture may be; "" is not told.
SIDES = ("", "on the left", "in the middle", "on the right")
#: How loud a sound may be; "" is not told.
LEVELS = ("", "quiet", "loud")


class Captions:
    """Sentences of captions as language tokens.

    Args:
        tokenizer: the foundation's.
        length: tokens of a whole caption.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self.length = length
        (self.filler,) = tk.encode(tokenizer, "\n")

    def photo(self, shown: ClassName, *, sure: bool = True) -> list[int]:
        """Of a real thing."""
        if not sure:
            return self._ids(f"This might be a photo of {with_article(shown.name)}.")
        kind = "" if shown.kind == "thing" else f", {with_article(shown.kind)}"
        return self._ids(f"This is a photo of {with_article(shown.name)}{kind}.")

    def drawing(self, name: str) -> list[int]:
        """Of an emoji."""
        return self._ids(f"This is a drawing of {with_article(name)}.")

    def sound(self, heard: SoundName, *, sure: bool = True) -> list[int]:
        """Of something that is heard."""
        if heard is SILENCE:
            return self._ids("There is silence. Nothing is heard.")
        if not sure:
            return self._ids(f"This might be the sound of {heard.named}.")
        kind = "" if heard.kind == "thing" else f", {with_article(heard.kind)}"
        return self._ids(f"This is the sound of {heard.named}{kind}.")

    def colour(self, colour: str) -> list[int]:
        """Of the thing in a picture; one of COLOURS."""
        return self._ids(f" Its colour is {colour}.") if colour else []

    def side(self, side: str) -> list[int]:
        """Where it is; one of SIDES."""
        return self._ids(f" It is {side}.") if side else []

    def level(self, level: str) -> list[int]:
        """How loud a sound is; one of LEVELS."""
        return self._ids(f" It is {level}.") if level else []

    def whole(self, sentences: Sequence[Sequence[int]]) -> list[int]:
        """Sentences one after another, filled up to the length of all captions, or cut to it."""
        ids = [each for sentence in sentences for each in sentence]
        return (ids + [self.filler] * self.length)[: self.length]

    def _ids(self, text: str) -> list[int]:
        return tk.encode(self._tokenizer, text)
