"""Rooms in words: what stands for a view is what it shows, as receivers were taught to say it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edge_server.data.soundstage.captions import picture_words
from edge_server.data.soundstage.room import sample_room
from edge_server.data.soundstage.room_questions import OF_ONE_VIEW, TEMPLATES
from edge_server.data.soundstage.scene import PLACES
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link
from edge_server.model.prompt import tag_of
from edge_server.training.loop import Schedule
from edge_server.training.room_rows import Asking, RoomRows, rooms_loss
from edge_server.training.room_words import RoomWords, RoomWordsTraining
from tests.unit.edge_server.training.test_rooms import link_of_one_device

TOLD = RoomWordsTraining(Schedule(2, 1e-3), Asking(questions=4), batch_size=4, micro_batch_size=2)


@pytest.fixture
def link(small_tokenizer: Tokenizer) -> Link:
    made = link_of_one_device(small_tokenizer)
    made.config = replace(made.config, views=True)
    return made


def test_the_foundation_alone_learns(link: Link) -> None:
    stage = RoomWords(link, TOLD, seed=1)
    loss, figures = stage.loss(0)
    loss.backward()
    moved = {name.split(".")[0] for name, p in link.named_parameters() if p.grad is not None}
    assert moved == {"foundation"}
    assert figures
    kinds = {template.type[0].lower() for template in (*TEMPLATES, *OF_ONE_VIEW)}
    assert set(figures) <= {"between", "matched"} | kinds
    assert stage.loss(0)[0].item() == loss.item() != stage.loss(1)[0].item()


def test_what_stands_for_a_picture_are_its_dictated_words_with_the_tag(link: Link) -> None:
    stage = RoomWords(link, replace(TOLD, noise=0.0), seed=1)
    room = sample_room(np.random.default_rng(2))
    shown = stage.dictated(room, "front", np.random.default_rng(3))
    ids = [i for word in picture_words(room["front"]) for i in tk.encode(link.tokenizer, word)]
    assert torch.allclose(shown, TOLD.gain * link.embedding.weight[ids])
    rows = RoomRows(link, Asking(other_names_odds=0.0), [room])
    row = rows.row(room, {"front": shown}, np.random.default_rng(4))
    label = tk.encode(link.tokenizer, "front camera")
    placed = next(piece for piece in row.row.pieces if isinstance(piece, torch.Tensor))
    assert torch.allclose(placed, shown + tag_of(link.embedding, label))
    # It does not move with the foundation, as what is received does not.
    with torch.no_grad():
        link.embedding.weight.mul_(2.0)
    assert torch.equal(stage.dictated(room, "front", np.random.default_rng(3)), shown)


def test_two_pictures_come_first(link: Link) -> None:
    stage = RoomWords(link, replace(TOLD, pictures_steps=1, batch_size=8), seed=1)
    of_pictures = {"two cameras", "two times", "one camera", "between", "matched"}
    assert set(stage.loss(0)[1]) <= of_pictures
    assert not set(stage.loss(1)[1]) <= of_pictures


def test_answers_are_counted_by_the_devices_that_they_need(link: Link) -> None:
    room = sample_room(np.random.default_rng(2))
    rows = RoomRows(link, Asking(), [room])
    shown = {"front": torch.zeros(4, 32), "left_mic": torch.zeros(4, 32)}
    row = rows.row(room, shown, np.random.default_rng(4))
    assert set(row.kinds) <= {"", "Camera and microphone", "One camera", "One microphone"}
    assert "Camera and microphone" in row.kinds
    with torch.no_grad():
        # One language token is said whatever is asked: no answer is right to its end.
        link.embedding.weight.zero_()
    _, figures = rooms_loss(link, [row])
    assert set(figures) == {kind.lower() for kind in row.kinds if kind}
    assert set(figures.values()) == {0.0}


def test_what_is_found_first_is_to_be_said_half_way(link: Link) -> None:
    room = sample_room(np.random.default_rng(2))
    rows = RoomRows(link, Asking(other_names_odds=0.0), [room])
    shown = {"front": torch.zeros(4, 32), "side": torch.zeros(4, 32)}
    row = rows.row(room, shown, np.random.default_rng(4))
    kinds = {tk.encode(link.tokenizer, performer.kind)[0] for performer in room["front"].performers}
    assert row.between
    assert {between for _, between in row.between} <= kinds
    # Where the first language token of an answer is the next to be said.
    begins = [i for i, label in enumerate(row.row.labels, -1) if label >= 0 and row.row.labels[i] < 0]
    assert {position for position, _ in row.between} <= set(begins)
    alone, _ = rooms_loss(link, [row])
    both, figures = rooms_loss(link, [row], between_weight=0.5)
    assert both > alone
    assert 0.0 <= figures["between"] <= 1.0
    both.backward()  # type: ignore[no-untyped-call]
    last = link.causal.get_decoder().layers[-1]
    assert last.mlp.down_proj.weight.grad is not None


def test_the_second_view_of_a_slot_is_matched_with_the_first(link: Link) -> None:
    stage = RoomWords(link, replace(TOLD, noise=0.0), seed=1)
    room = sample_room(np.random.default_rng(2))
    shown = {
        view: stage.dictated(room, view, np.random.default_rng(0)) for view in ("left_mic", "side", "earlier")
    }
    row = RoomRows(link, Asking(other_names_odds=0.0), [room]).row(room, shown, np.random.default_rng(4))
    lengths = [len(piece) for piece in row.row.pieces]
    pictures = [i for i, piece in enumerate(row.row.pieces) if isinstance(piece, torch.Tensor)][:2]
    earlier = sum(lengths[: pictures[1]])
    placed = {performer.kind: performer.place for performer in room["side"].performers}
    said = {position: tk.decode(link.tokenizer, [word]).strip() for position, word in row.matched}
    assert said == {
        # Of four words for each place, the last is the name.
        earlier + 4 * PLACES.index(performer.place) + 3: placed.get(performer.kind, ".")
        for performer in room["earlier"].performers
    }


def test_what_is_heard_is_matched_with_the_only_picture(link: Link) -> None:
    stage = RoomWords(link, replace(TOLD, noise=0.0), seed=1)
    room = sample_room(np.random.default_rng(2))
    shown = {view: stage.dictated(room, view, np.random.default_rng(0)) for view in ("left_mic", "side")}
    row = RoomRows(link, Asking(other_names_odds=0.0), [room]).row(room, shown, np.random.default_rng(4))
    heard = len(shown["left_mic"])
    (at,) = (
        sum(map(len, row.row.pieces[:i]))
        for i, piece in enumerate(row.row.pieces)
        if isinstance(piece, torch.Tensor) and len(piece) == heard
    )
    placed = {performer.kind: performer.place for performer in room["side"].performers}
    said = [(position, tk.decode(link.tokenizer, [word]).strip()) for position, word in row.matched]
    # Of four words for each sound, the second is the name.
    expected = [
        placed.get(sound.kind, ".") for sound in sorted(room["left_mic"].sounds, key=lambda s: s.onset_s)
    ]
    assert said == [(at + 4 * i + 1, place) for i, place in enumerate(expected)]
