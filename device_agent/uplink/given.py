"""What the user gave for a field of the contract that a server refuses.

Whoever typed ``--progressive`` knows nothing of ``rounds.token_lengths``. What no user gives, such as the
type of a block, stays as the contract calls it.
"""

from __future__ import annotations

import re

GIVEN = {
    "question_ids": "question",
    "question_text": "question",
    "context_ids": "context (--context)",
    "max_new_tokens": "max_new_tokens (--max-new-tokens)",
    "rounds": "progressive (--progressive)",
    "rounds.token_lengths": "progressive (--progressive)",
    "rounds.until": "progressive_until (--progressive-until)",
    "sampling.temperature": "temperature (--temperature)",
    "sampling.top_p": "top_p (--top-p)",
    "sampling.seed": "sampling_seed (--sampling-seed)",
    "scenes": "scene (--scene)",
    "scenes.device": "device of scene (--scene)",
    "scenes.at": "time of scene (--scene)",
    "scenes.modalities": "modalities of scene (--scene)",
}
"""A field's path, without indices, and what a user gives for it, with its option."""

_INDEX = re.compile(r"\[(\d{1,4})\]")


def given_as(field: str) -> str:
    """What the user gave for a field, as ``name (--option)``; empty: it is nobody's to give.

    Of what may be given several times it is said which one, counted from 1.

    Args:
        field: as a path; from a server, so it may be anything.
    """
    given, which = GIVEN.get(_INDEX.sub("", field), ""), _INDEX.search(field)
    return given.replace(" (", f" {int(which[1]) + 1} (", 1) if which else given
