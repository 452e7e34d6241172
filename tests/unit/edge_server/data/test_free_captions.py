"""Free captions, and combinations that training never shows."""

from __future__ import annotations

import itertools

import numpy as np

from edge_server.data.soundstage.combinations import HELD_OUT, is_new
from edge_server.data.soundstage.dataset import sample_scenes
from edge_server.data.soundstage.free_captions import free_caption
from edge_server.data.soundstage.scene import KINDS, PLACES, Performer, Scene, Sound

SCENE = Scene(
    performers=(Performer("violin", "left", "playing"), Performer("drum", "right", "still")),
    sounds=(Sound("violin", "left", 0.0, 0.0), Sound("flute", None, 1.0, -5.0)),
    voice_over=True,
    seed=0,
)


def captions(count: int) -> list[str]:
    return [free_caption(SCENE, np.random.default_rng(i)) for i in range(count)]


def test_no_two_captions_of_a_scene_are_alike() -> None:
    found = captions(300)
    assert found == captions(300), "a seed writes one caption"
    assert len(set(found)) > 295
    assert len({min(caption.find(kind) % 1000 for kind in KINDS) for caption in found}) > 20


def test_facts_come_in_any_order_and_some_are_left_out() -> None:
    found = captions(300)
    for before, after in itertools.permutations(("violin", "drum", "flute"), 2):
        assert any(-1 < c.find(before) < c.find(after) for c in found), (before, after)
    for kind in ("violin", "drum", "flute"):
        assert 0.9 < np.mean([kind in caption for caption in found]) < 1.0
    silent = np.mean(["silent" in c or "rest" in c or "wait" in c or "still" in c for c in found])
    assert 0.2 < silent < 0.95
    assert not any(kind in caption for caption in found for kind in ("piano", "banjo", "trumpet"))
    assert not any("nobody speaks" in caption for caption in found)


def test_held_out_combinations_are_new_and_their_parts_are_not() -> None:
    assert {kind for kind, _, _ in HELD_OUT} == set(KINDS)
    for kind in KINDS:
        shown = {(p, m) for p in PLACES for m in (True, False) if (kind, p, m) not in HELD_OUT}
        assert {place for place, _ in shown} == set(PLACES)
        assert {moves for _, moves in shown} == {True, False}


def test_splits_of_seen_and_of_unseen_combinations() -> None:
    seen, unseen = (sample_scenes("test", 40, 3, which) for which in ("seen", "unseen"))
    assert not any(map(is_new, seen))
    assert all(map(is_new, unseen))
    every = sample_scenes("test", 45, 3)
    assert [s for s in every if not is_new(s)] == list(seen)[: sum(not is_new(s) for s in every)]
