"""Alignments from captions: what they see, what they cost, and where their gradients go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_server.errors import DatasetError
from edge_server.evaluation.accuracy import without_lora
from edge_server.model.link import Link
from edge_server.training.caption_loss import CaptionLoss
from edge_server.training.caption_splits import CaptionsAlone, FreelyCaptioned
from edge_server.training.distillation import Distillation, DistillationTraining, question_bank
from edge_server.training.forward import draw_of
from edge_server.training.losses import IGNORE, UNKNOWN, dictation
from edge_server.training.matching import Matching, MatchingTraining, first_blocks, transport
from edge_server.training.notes import Note, take_notes
from edge_server.training.reading import places

MODEL = Path(__file__).parents[4] / "deploy" / "models" / "soundstage-small"
CAPTIONS = (
    "on the left a violin plays , the loudest .",
    "a silent drum rests at the right ; nobody speaks .",
)


@pytest.fixture(scope="module")
def link() -> Link:
    return without_lora(Link.load(MODEL)).requires_grad_(False)


def test_places_of_which_nothing_is_known_count_for_nothing() -> None:
    vocabulary = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[3, 4, 5]])
    said = vocabulary[words].clone()
    said[0, 1] += 7.0
    loss, right = dictation(said, torch.tensor([[3, IGNORE, 5]]), vocabulary)
    alone, _ = dictation(said[:, [0, 2]], torch.tensor([[3, 5]]), vocabulary)
    assert loss.item() == pytest.approx(alone.item())
    assert right == 1.0
    nothing, _ = dictation(said, torch.full((1, 3), IGNORE), vocabulary)
    assert nothing.item() == 0.0


def test_a_note_says_what_it_is_sure_of_and_nothing_where_it_cannot_be_read() -> None:
    note = Note(("left", "a", "x"), (0.9, 0.2, 0.7))
    assert note.by_slot({"visual": 2, "audio": 1}, 0.5) == {"visual": ("left", UNKNOWN), "audio": ("x",)}
    assert note.by_slot({"visual": 2}, 0.0) == {"visual": (UNKNOWN, UNKNOWN)}


def test_notes_are_written_in_the_foundations_words(link: Link) -> None:
    notes = take_notes(link, CAPTIONS, 5, batch_size=1)
    assert notes == take_notes(link, CAPTIONS, 5), "captions know nothing of one another"
    for note in notes:
        assert len(note.words) == len(note.sure) <= 5
        assert all(0.0 < sure <= 1.0 for sure in note.sure)


def test_an_alignment_from_captions_sees_no_label() -> None:
    split = CaptionsAlone(FreelyCaptioned.__new__(FreelyCaptioned))
    with pytest.raises(DatasetError, match="questions"):
        split.questions(0, 1, np.random.default_rng(0))
    with pytest.raises(DatasetError, match="take notes first"):
        split.dictated(0, "visual")
    assert places() == {"visual": 12, "audio": 14}


def test_transport_matches_sets_whatever_their_order() -> None:
    points = torch.eye(4)[[2, 0, 3, 1]]
    even = torch.full((4,), 0.25)
    cost = 1.0 - points @ torch.eye(4).T
    assert transport(cost, even, MatchingTraining(entropy=0.02)).item() == pytest.approx(0.0, abs=1e-4)
    # All the weight on one word: half of it has to go to the slot that is not there.
    apart = 1.0 - torch.eye(2)
    assert transport(apart, torch.tensor([1.0, 0.0]), MatchingTraining()).item() == pytest.approx(
        0.5, abs=1e-3
    )


def test_a_decoder_that_ends_early_is_the_whole_one_as_far_as_it_goes(link: Link) -> None:
    decoder = link.causal.get_decoder()
    x_BLE = torch.randn(2, 7, link.config.foundation.hidden_size, generator=torch.Generator().manual_seed(0))
    whole = decoder(inputs_embeds=x_BLE, use_cache=False, output_hidden_states=True)
    begun = first_blocks(decoder, 2)
    assert torch.equal(begun(inputs_embeds=x_BLE, use_cache=False).last_hidden_state, whole.hidden_states[2])
    own = {id(parameter) for parameter in decoder.parameters()}
    assert {id(parameter) for parameter in begun.parameters()} < own
    again = decoder(inputs_embeds=x_BLE, use_cache=False).last_hidden_state
    assert torch.equal(again, whole.last_hidden_state), "the decoder itself goes on to its end"


@pytest.mark.parametrize("kind", ["distillation", "matching"])
def test_losses_of_captions_reach_what_was_received(link: Link, kind: str) -> None:
    loss_of: CaptionLoss
    if kind == "matching":
        loss_of = Matching(link, CAPTIONS, MatchingTraining())
    else:
        loss_of = Distillation(link, question_bank(5, 1), DistillationTraining(clips=2, questions=3))
    torch.manual_seed(0)
    received = {slot: torch.randn(2, 5, 128, requires_grad=True) for slot in ("visual", "audio")}
    loss, _ = loss_of(received, CAPTIONS, draw_of(1, 2, 3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() > 0.0
    for embeddings in received.values():
        assert embeddings.grad is not None
        assert embeddings.grad.abs().sum() > 0.0
    assert link.embedding.weight.grad is None


def test_the_bank_holds_questions_alone() -> None:
    bank = question_bank(20, 1)
    assert bank == sorted(set(bank))
    assert all(text.endswith("?") for text in bank)
