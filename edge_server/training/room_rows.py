"""Questions about a room as rows to learn from, whatever stands for what its devices sent.

    room, views shown ─▶ label, tag and embeddings of each view ─▶ questions ─▶ rows ─▶ loss, right by kind

:mod:`edge_server.training.room_words` gives words for what a view shows, :mod:`edge_server.training.rooms`
what came through a channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_server.data.soundstage.room import (
    OTHER_WORDS,
    PICTURES,
    VIEWS,
    Room,
    ViewName,
    label_of,
    other_names,
    renamed,
)
from edge_server.data.soundstage.room_questions import TEMPLATES, Knowable, draw_room_questions
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.modality import MODALITIES
from edge_server.model.prompt import View, tag_of
from edge_server.scenes.words import AGOS
from edge_server.training.modality import TRAINING
from edge_server.training.teacher_forcing import Row, answer_logits

#: By how many views are shown, how often.
_SHOWN_ODDS = (0.1, 0.6, 0.05, 0.05, 0.2)
#: Dictated words of one instrument, and which of them is its name; the first says where, or how loud, it is.
_WORDS_EACH = 4
_NAMED_AT = {"visual": 3, "audio": 1}
#: Stands for no instrument in dictated words.
NOTHING = "."


@dataclass(frozen=True)
class Asking:
    """What of a room is shown, and asked."""

    questions: int = 14
    """Questions about one room, at most."""
    odds: Mapping[Knowable, float] = field(default_factory=lambda: {"both": 0.55, "one": 0.35, "guess": 0.1})
    """How often questions have all that they need, need one view, or lack one."""
    other_names_odds: float = 0.2
    """How often the devices of a room have other names."""


@dataclass(frozen=True)
class RoomRow:
    """A row, and what each of its questions is about.

    Attributes:
        row: the views with the questions.
        kinds: by question, which devices it is of; empty where it cannot be known.
        between: positions where answers begin, each with the language token of what has to be found before.
        matched: positions of instruments in the second view of a slot, each with the language token of where,
            or how loud, the first view has the same one; and in the first that is heard, beside a single
            picture, of where that has it.
    """

    row: Row
    kinds: Sequence[str]
    between: Sequence[tuple[int, int]] = ()
    matched: Sequence[tuple[int, int]] = ()


def slot_of(view: ViewName) -> str:
    """The slot that a view fills."""
    return "visual" if view in PICTURES else "audio"


class RoomRows:
    """Lays rooms out.

    Args:
        link: whose words labels, questions and answers are.
        asking: what is shown, and asked.
        rooms: some rooms, to know which two views questions need.
    """

    def __init__(self, link: Link, asking: Asking, rooms: Sequence[Room]) -> None:
        self.link = link
        self.asking = asking
        self._cache: dict[str, list[int]] = {}
        # Of two views, mostly those that some question needs.
        self._pairs = sorted(
            {asked.needs for room in rooms for t in TEMPLATES for asked in t.find(room, AGOS[0])}
        )

    def shown(self, rng: np.random.Generator) -> list[ViewName]:
        """Which views of a room are there, in the order in which they are shown."""
        count = 1 + int(rng.choice(len(_SHOWN_ODDS), p=_SHOWN_ODDS))
        if count == 2:
            pair = self._pairs[int(rng.integers(len(self._pairs)))]
            return [pair[int(i)] for i in rng.permutation(2)]
        return [VIEWS[int(i)] for i in rng.permutation(len(VIEWS))[:count]]

    def two_pictures(self, rng: np.random.Generator) -> list[ViewName]:
        """Two pictures that some question needs, in the order in which they are shown."""
        pairs = [pair for pair in self._pairs if set(pair) <= set(PICTURES)]
        pair = pairs[int(rng.integers(len(pairs)))]
        return [pair[int(i)] for i in rng.permutation(2)]

    def row(self, room: Room, shown: Mapping[ViewName, Tensor], rng: np.random.Generator) -> RoomRow:
        """A room with questions.

        Args:
            room: what it is of.
            shown: embeddings of each view that is there, [S, E], in the order in which they are shown.
            rng: source of all randomness.
        """
        asking = self.asking
        ago = AGOS[int(rng.integers(len(AGOS)))]
        names = other_names(OTHER_WORDS, rng) if rng.random() < asking.other_names_odds else {}
        views = []
        for view, embeddings in shown.items():
            label = self.encode(renamed(label_of(view, ago), names))
            views.append(View(slot_of(view), embeddings + tag_of(self.link.embedding, label), label))
        row, kinds, between = Row.about(views, self.link.special), [], []
        there = frozenset(shown)
        for question in draw_room_questions(room, ago, there, asking.odds, asking.questions, rng):
            answer, known = self.encode(question.asked.answer), there.issuperset(question.asked.needs)
            row.ask(self.encode(renamed(question.text, names)), answer)
            kinds.append(question.template.type[0] if known else "")
            if known and question.asked.between:
                # Before the answer, whose end is a language token too.
                begins = len(row.labels) - len(answer) - 2
                between.append((begins, self.encode(question.asked.between)[0]))
        return RoomRow(row, kinds, between, self._matched(room, views, list(shown)))

    def _matched(self, room: Room, views: Sequence[View], names: Sequence[ViewName]) -> list[tuple[int, int]]:
        """Positions of a row, each with a language token, as :attr:`RoomRow.matched`."""
        found: list[tuple[int, int]] = []
        pictures = [name for name in names if name in PICTURES]
        at = 1
        for slot in MODALITIES:
            before: list[ViewName] = []
            for view, name in zip(views, names, strict=True):
                if view.slot != slot:
                    continue
                begins = at + 1 + len(view.label)
                at = begins + len(view.piece) + 1
                # With several pictures, which one is meant is known from the question alone.
                with_it = before if before or name in PICTURES or len(pictures) > 1 else pictures
                if len(with_it) == 1:
                    words = {kind: word for _, kind, word in _by_instrument(room, with_it[0])}
                    found += [
                        (begins + place, self.encode(words.get(kind, NOTHING))[0])
                        for place, kind, _ in _by_instrument(room, name)
                        if place < len(view.piece)
                    ]
                before.append(name)
        return found

    def encode(self, text: str) -> list[int]:
        """Language tokens of a text."""
        ids = self._cache.get(text)
        if ids is None:
            ids = self._cache[text] = tk.encode(self.link.tokenizer, text)
        return ids


def _by_instrument(room: Room, view: ViewName) -> list[tuple[int, str, str]]:
    """Of each instrument of a view: which dictated word it is, its name, and where or how loud it is."""
    slot = slot_of(view)
    words, name = TRAINING[slot].dictated(room[view]), _NAMED_AT[slot]
    groups = range(0, len(words) - _WORDS_EACH + 1, _WORDS_EACH)
    return [(i + name, words[i + name], words[i]) for i in groups if words[i] != NOTHING]


def rooms_loss(
    link: Link, rows: Sequence[RoomRow], between_weight: float = 0.0, matched_weight: float = 0.0
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the answers.

    Args:
        link: answers.
        rows: a batch.
        between_weight: weight of saying half-way through the foundation what has to be found first.
        matched_weight: weight of saying, a block before, what the first view of a slot says of an instrument,
            where the second has it.

    Returns:
        A scalar; share of right answers, by which devices they are of.
    """
    layers = link.causal.get_decoder().layers
    hidden: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[[object, object, Tensor | tuple[Tensor, ...]], None]:
        def hook(_: object, __: object, out: Tensor | tuple[Tensor, ...]) -> None:
            hidden[number] = out if isinstance(out, Tensor) else out[0]

        return hook

    halfway = len(layers) // 2
    hooks = [layers[i].register_forward_hook(keep(i)) for i in (halfway - 1, halfway)]
    try:
        answers = answer_logits(link, [row.row for row in rows])
    finally:
        for hook in hooks:
            hook.remove()
    loss = F.cross_entropy(answers.logits_KV, answers.targets_K)
    wrong_K = answers.logits_KV.argmax(-1) != answers.targets_K
    missed = set(zip(answers.rows_K[wrong_K].tolist(), answers.blocks_K[wrong_K].tolist(), strict=True))
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for number, row in enumerate(rows):
        for block, kind in enumerate(row.kinds, 1):
            asked[kind] += 1
            right[kind] += (number, block) not in missed
    figures = {kind.lower(): right[kind] / asked[kind] for kind in sorted(asked) if kind}
    for name, weight, block in (
        ("between", between_weight, halfway),
        ("matched", matched_weight, halfway - 1),
    ):
        places = [(number, *each) for number, row in enumerate(rows) for each in getattr(row, name)]
        if weight and places:
            rows_M, positions_M, targets_M = torch.tensor(places, device=link.device).T
            hidden_ME = link.causal.get_decoder().norm(hidden[block][rows_M, positions_M])
            logits_MV = F.linear(hidden_ME, link.vocabulary).float()
            loss = loss + weight * F.cross_entropy(logits_MV, targets_M)
            figures[name] = (logits_MV.argmax(-1) == targets_M).float().mean().item()
    return loss, figures
