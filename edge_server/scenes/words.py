"""What a model reads beside a scene where a question shows several: whose it is, and how long ago it was."""

from __future__ import annotations

import re

#: How long ago, in words, from how long ago on [s]. What is younger is now.
AGO_FROM_S = (
    (30.0, "a minute ago"),
    (300.0, "ten minutes ago"),
    (1800.0, "an hour ago"),
    (5400.0, "two hours ago"),
    (43_200.0, "a day ago"),
)
AGOS = tuple(words for _, words in AGO_FROM_S)
_MOST_CHARS = 64


def ago_in_words(age_s: float) -> str:
    """How long ago that was; empty: now.

    Args:
        age_s: since it ended [s].
    """
    return next((words for from_s, words in reversed(AGO_FROM_S) if age_s >= from_s), "")


def label_in_words(device: str, age_s: float) -> str:
    """A device's name as words, and how long ago: "porch front camera an hour ago".

    Args:
        device: whose.
        age_s: since it ended [s].
    """
    name = " ".join(re.findall(r"[^\W_]+", device))
    return f"{name} {ago_in_words(age_s)}".strip()[:_MOST_CHARS]
