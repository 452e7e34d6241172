"""What a device is asked for next: what was lost once more, else what helps most by measured loss."""

from __future__ import annotations

from edge_server.cell import Arrived, Ladder
from edge_server.cell.allocation import LossFit

STEEP, FLAT = LossFit(a=0.0, b=0.6, p=1.0, c=0.01, d=0.5), LossFit(a=0.1, b=0.02, p=1.0, c=0.01, d=0.5)
SPENT = LossFit(a=0.1, b=0.0, p=1.0, c=0.01, d=0.5)


def ladder(loss: dict[str, LossFit], *, nested: bool = True) -> Ladder:
    return Ladder((2, 4, 16), nested, -12.0, dict(loss))


def there(visual: int = 2, audio: int = 2, **lost_db: float) -> dict[str, Arrived]:
    return {
        "video": Arrived("visual", visual, lost_db.get("video", 10.0)),
        "audio": Arrived("audio", audio, lost_db.get("audio", 10.0)),
    }


def test_the_modality_is_asked_for_whose_loss_falls_fastest_with_what_it_takes() -> None:
    by_sight = ladder({"visual": STEEP, "audio": FLAT})
    assert by_sight.next(there()) == {"video": 4}
    assert by_sight.next(there(visual=4)) == {"video": 16}
    assert by_sight.next(there(visual=16)) == {"audio": 4}, "what is complete is not asked for"
    assert by_sight.next(there(visual=16, audio=16)) == {}
    assert ladder({"visual": FLAT, "audio": STEEP}).next(there()) == {"audio": 4}


def test_tokens_that_come_anew_cost_all_of_their_block() -> None:
    """Behind 4 there are 12 more of 16, or all 16: what is nested is the cheaper to go on with."""
    loss = {
        "visual": LossFit(a=0.0, b=0.52, p=1.0, c=0.01, d=0.5),
        "audio": LossFit(0.0, 0.4, 1.0, 0.01, 0.5),
    }
    arrived = there(visual=4, audio=4)
    assert ladder(loss).next(arrived) == ladder(loss, nested=False).next(arrived) == {"video": 16}
    gained = {nested: ladder(loss, nested=nested)._helps(arrived["video"], (16,)) for nested in (True, False)}
    assert gained[True] * 12 == gained[False] * 16


def test_where_nothing_is_known_to_help_all_that_are_shortest_are_asked_for() -> None:
    for loss in ({}, {"visual": SPENT, "audio": SPENT}):
        assert ladder(loss).next(there()) == {"video": 4, "audio": 4}
        assert ladder(loss).next(there(visual=4)) == {"audio": 4}


def test_what_was_lost_is_asked_for_again_but_not_for_ever() -> None:
    climbing = ladder({"visual": STEEP})
    assert climbing.lost(there()) == {}
    assert climbing.lost(there(audio=4, video=-12.1)) == {"video": 2}
    arrived = {"audio": Arrived("audio", 4, -20.0, repeats=2)}
    assert climbing.lost(arrived) == {"audio": 4}
    assert climbing.lost({"audio": Arrived("audio", 4, -20.0, repeats=3)}) == {}
