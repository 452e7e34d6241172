"""Turns growing lists of language token ids into text that never has to be taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def stable_delta(
    text: Callable[[Sequence[int]], str], token_ids: Sequence[int], emitted: str, *, last: bool
) -> str:
    """What can be said beyond ``emitted``.

    Until the last token, what may still change is held back: bytes that do not make a character yet
    (decoders show them as U+FFFD) and white space, which some decoders drop before punctuation.

    Args:
        text: decoder of whole id lists.
        token_ids: all ids so far.
        emitted: all text said so far.
        last: whether no further ids will come.

    Returns:
        The further text; empty where nothing more is certain. If the decoder changed what it said
        before, nothing until the last token, and then nothing either: what was said stays said.
    """
    full = text(token_ids)
    if not last:
        full = full.rstrip(_UNFINISHED).rstrip()
    return full[len(emitted) :] if full.startswith(emitted) else ""
