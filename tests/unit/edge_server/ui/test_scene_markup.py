"""The tab of scenes as HTML: nothing that others wrote becomes markup, and times are where they belong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_server.engine import FeatureBlock
from edge_server.frontdoor.scene_blocks import SceneFacts
from edge_server.frontdoor.scenes import SeenRule
from edge_server.scenes import Scene, SceneBlock
from edge_server.scenes.rule_file import Turn
from edge_server.scenes.rules import Rule, RuleState
from edge_server.scenes.store import DeviceScenes

pytest.importorskip("PIL", reason="the extra ui is not installed")
from edge_server.ui import scene_markup

EVIL = "<img src=x onerror=alert(1)>"


def scene(device: str = "porch", start_s: float = 100.0) -> Scene:
    return Scene("s1", device, start_s, 4.0, "ab" * 32, (SceneBlock("video", 4, -2.5, b"wire"),))


def test_nothing_of_others_becomes_markup() -> None:
    block = FeatureBlock("video", np.zeros((4, 8), np.float32), 3.0)
    tile = scene_markup.Tile(DeviceScenes(EVIL, 1, 9, 100.0, 100.0), scene(EVIL), (block,), [(EVIL, EVIL)])
    rule = Rule("rule", EVIL, "*", EVIL, 30.0, (), 0.0)
    seen = SeenRule(
        rule, {EVIL: RuleState(True, True, 0.0, EVIL, 100.0)}, (Turn(EVIL, True, EVIL, "s1", 1.0),)
    )
    shown = "".join(
        (
            scene_markup.tiles([tile], 110.0),
            scene_markup.timeline([scene(EVIL)], 110.0),
            scene_markup.rules([seen]),
            scene_markup.facts([SceneFacts(EVIL), SceneFacts(EVIL, "s1", 100.0)]),
            scene_markup.found(scene(EVIL), 0.5, 110.0),
        )
    )
    assert "<img src=x" not in shown
    assert shown.count("&lt;img src=x") >= 8


def test_a_tile_says_how_old_how_long_and_over_which_link() -> None:
    tile = scene_markup.Tile(DeviceScenes("porch", 2, 1200, 90.0, 100.0), scene(), (), [])
    shown = re.sub(r"<[^>]+>|\s", " ", scene_markup.tiles([tile], 134.0)).replace("\u202f", " ")
    for said in ("30 s ago", "4 s long", "2 scenes", "1.2 kB", "video \u22122.5 dB", "not served any more"):
        assert said in " ".join(shown.split()), (said, shown)
    assert scene_markup.tiles([], 0.0) == scene_markup.NOTHING_SHARED


def test_a_thumbnail_is_shown_where_there_is_one() -> None:
    kept = DeviceScenes("porch", 1, 9, 100.0, 100.0)
    seen, unseen = (
        scene_markup.tiles([scene_markup.Tile(kept, scene(), (), [], jpeg)], 110.0)
        for jpeg in (b"\xff\xd8\xff\x00", b"")
    )
    assert 'alt="What porch saw last" src="data:image/jpeg;base64,/9j/AA=="' in seen
    assert "image/jpeg" not in unseen


def test_the_timeline_spans_what_there_is() -> None:
    shown = scene_markup.timeline([scene(start_s=100.0), scene(start_s=400.0)], 700.0)
    found = [(float(x), float(width)) for x, width in re.findall(r'x="([\d.]+)".*?width="([\d.]+)"', shown)]
    # Ten minutes; 600 units wide.
    assert found == [(0.0, 4.0), (300.0, 4.0)]
    assert "10" in shown[shown.index("tl-ends") :]
    assert scene_markup.timeline([], 700.0).count("<svg") == 0


def test_what_was_answered_last_comes_first() -> None:
    rule = Rule("rule", "Is it?", "*", "yes", 0.0, (), 0.0)
    seen = [SeenRule(rule, {"porch": RuleState(True, True, 0.0, "yes", 1.0)}, ())]
    asked = {"porch": [("What?", "a drum")]}
    assert scene_markup.answers_of("porch", seen, asked) == [("What?", "a drum"), ("Is it?", "yes")]
    assert scene_markup.answers_of("hall", seen, asked) == []
