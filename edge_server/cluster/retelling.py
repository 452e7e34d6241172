"""What a door has told of an answer, and what of a further piece is new.

An engine that takes over tells the answer from its beginning. Decoding is repeatable, sampled or not, so what
it tells again is the same, and is passed over; where it is not, what was told is worth nothing.
"""

from __future__ import annotations

from edge_server.engine import AnswerStream, Completion, Delta
from edge_server.errors import EngineFailureError


class CutOffError(EngineFailureError):
    """An answer came out differently after a part of it had been told."""

    def __init__(self) -> None:
        super().__init__("the answer was cut off by the end of its engine; ask once more")


class Retelling:
    """An answer on its way from engines, of which at least one lives, to its asker.

    Args:
        stream: the asker's.
    """

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream
        self._told = ""
        self._tokens = 0

    def piece(self, text_offset: int, token_offset: int, delta: Delta) -> None:
        """Take a piece, told for the first time or again.

        Args:
            text_offset: characters of the answer before it.
            token_offset: language tokens of the answer before its own.
            delta: the piece.

        Raises:
            CutOffError: another text stood there.
        """
        if text_offset > len(self._told) or token_offset > self._tokens:
            return  # one before it was lost on its way; the end brings them all
        again = self._told[text_offset : text_offset + len(delta.text)]
        if not delta.text.startswith(again):
            raise CutOffError
        text = delta.text[len(again) :]
        tokens = delta.tokens[self._tokens - token_offset :]
        if text or tokens:
            self._tell(Delta(text, tokens))

    def end(self, completion: Completion) -> None:
        """Take the whole answer, and tell what was missing.

        Raises:
            CutOffError: it does not begin with what was told.
        """
        if not completion.text.startswith(self._told):
            raise CutOffError
        missing = Delta(completion.text[len(self._told) :], completion.tokens[self._tokens :])
        if missing.text or missing.tokens:
            self._tell(missing)
        self._stream.push(completion)

    def _tell(self, delta: Delta) -> None:
        self._told += delta.text
        self._tokens += len(delta.tokens)
        self._stream.push(delta)
