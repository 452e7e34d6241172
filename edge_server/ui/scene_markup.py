"""What the page shows of scenes, as HTML; whatever somebody else wrote is escaped here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from edge_server.engine import FeatureBlock
from edge_server.frontdoor.scene_blocks import SceneFacts
from edge_server.frontdoor.scenes import SeenRule
from edge_server.scenes import Scene
from edge_server.scenes.store import DeviceScenes
from edge_server.ui import markup
from edge_server.ui.pictures import heatmap

_SPANS_S = (600.0, 3600.0, 6 * 3600.0, 86_400.0, 7 * 86_400.0)
_TURNS_SHOWN = 12
_WIDTH = 600


@dataclass(frozen=True)
class Tile:
    """What is shown of a device.

    Attributes:
        kept: what is kept of it.
        last: its last scene.
        blocks: what that holds; empty where no served model can read it.
        answers: question and answer, the latest first.
        thumbnail: a small JPEG of its last scene; empty: none is kept.
    """

    kept: DeviceScenes
    last: Scene
    blocks: tuple[FeatureBlock, ...]
    answers: Sequence[tuple[str, str]]
    thumbnail: bytes = b""


def tiles(shown: Iterable[Tile], now_s: float) -> str:
    """A tile per device: its last scene, the tokens of it, what was answered last, its link."""
    cells = "".join(_tile(each, now_s) for each in shown)
    return f'<ul class="tl-scenes">{cells}</ul>' if cells else NOTHING_SHARED


NOTHING_SHARED = (
    '<p class="tl-empty">Nothing was shared yet.</p><p class="tl-note">A device shares what it sees with '
    "<code>device-agent share --source SOURCE</code>.</p>"
)


def _tile(tile: Tile, now_s: float) -> str:
    last, name = tile.last, escape(tile.kept.device)
    pictures = "".join(
        f'<img class="tl-heatmap" alt="{escape(block.modality)} tokens of {name}: {len(block.x_TC)} rows of '
        f'values as colours" src="{heatmap(block.x_TC)}">'
        for block in tile.blocks
    )
    if tile.thumbnail:
        jpeg = base64.b64encode(tile.thumbnail).decode()
        seen = f'<img class="tl-thumbnail" alt="What {name} saw last" src="data:image/jpeg;base64,{jpeg}">'
        pictures = seen + pictures
    unreadable = "" if tile.blocks else '<p class="tl-note">Made for a model that is not served any more.</p>'
    link = " · ".join(f"{escape(block.modality)} {markup.decibels(block.snr_db)}" for block in last.blocks)
    answers = "".join(
        f"<li><span>{escape(question)}</span> <strong>{escape(answer) or markup.NOTHING}</strong></li>"
        for question, answer in tile.answers
    )
    return (
        f'<li class="tl-scene"><h3 class="tl-name">{name}</h3>'
        f'<p class="tl-note">{markup.ago(max(now_s - last.end_s, 0.0))} · '
        f"{markup.seconds(last.length_s)} long · "
        f"{markup.counted(tile.kept.scenes, 'scene')}, {markup.size(tile.kept.size_bytes)}</p>"
        f'{pictures}{unreadable}<p class="tl-note">{link}</p>'
        + (f'<ul class="tl-said">{answers}</ul>' if answers else "")
        + "</li>"
    )


def timeline(scenes: Sequence[Scene], now_s: float) -> str:
    """When each device's scenes are, the present at the right."""
    if not scenes:
        return '<p class="tl-empty">No scene to show.</p>'
    span_s = next((s for s in _SPANS_S if now_s - min(x.start_s for x in scenes) <= s), _SPANS_S[-1])
    by_device: dict[str, list[Scene]] = {}
    for scene in scenes:
        by_device.setdefault(scene.device, []).append(scene)
    rows = "".join(
        f'<tr><th scope="row"><span class="tl-name">{escape(device)}</span></th>'
        f"<td>{_marks(device, found, now_s, span_s)}</td></tr>"
        for device, found in sorted(by_device.items())
    )
    return (
        '<table class="tl-table tl-timeline"><caption>Scenes over time</caption>'
        f'<tbody>{rows}</tbody></table><div class="tl-ends"><span>{markup.ago(span_s)}</span>'
        "<span>now</span></div>"
    )


def _marks(device: str, scenes: Sequence[Scene], now_s: float, span_s: float) -> str:
    def x_of(at_s: float) -> float:
        return _WIDTH * (1.0 - min(max((now_s - at_s) / span_s, 0.0), 1.0))

    bars = "".join(
        f'<rect x="{min(x_of(scene.start_s), _WIDTH - 2.0):.1f}" y="1" height="12" '
        f'width="{max(x_of(scene.end_s) - x_of(scene.start_s), 2.0):.1f}"/>'
        for scene in scenes
        if now_s - scene.end_s <= span_s
    )
    label = f"{markup.counted(len(scenes), 'scene')} of {device}"
    return (
        f'<svg class="tl-marks" role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} 14" '
        f'preserveAspectRatio="none"><path class="axis" d="M0 7H{_WIDTH}"/>{bars}</svg>'
    )


def rules(seen: Sequence[SeenRule]) -> str:
    """Standing questions: how each stands with each device, and when it turned."""
    if not seen:
        return (
            '<p class="tl-empty">No standing question.</p><p class="tl-note">'
            "<code>edge-server scenes rule add</code> asks one of every new scene.</p>"
        )
    return "".join(map(_rule, seen))


def _rule(seen: SeenRule) -> str:
    rule = seen.rule
    word = {True: "on", False: "off", None: "not known yet"}
    states = [
        (
            f'<span class="tl-name">{escape(device)}</span>',
            f'<span class="tl-turn {"on" if state.is_on else ""}">{word[state.is_on]}</span>',
            escape(state.answer) or markup.NOTHING,
            moment(state.asked_s),
        )
        for device, state in seen.states.items()
    ]
    table = (
        markup.table_of(
            f"Devices of {escape(rule.rule_id)}",
            ("Device", "State", "Last answer", "Of"),
            states,
            "tl-answers",
        )
        if states
        else '<p class="tl-note">Asked of no scene yet.</p>'
    )
    turns = "".join(
        f"<li>{moment(turn.turned_s)} · {escape(turn.device)} · "
        f'<span class="tl-turn {"on" if turn.is_on else ""}">{word[turn.is_on]}</span> '
        f"“{escape(turn.answer)}”</li>"
        for turn in seen.turns[:_TURNS_SHOWN]
    )
    held = f" for {markup.seconds(rule.for_s)}" if rule.for_s else ""
    return (
        f'<section class="tl-rule"><h3>{escape(rule.question)}</h3>'
        f'<p class="tl-note">{escape(rule.rule_id)}: '
        f"becomes “{escape(rule.becomes)}”{held}</p>{table}"
        + (f'<ol class="tl-turns" aria-label="History">{turns}</ol>' if turns else "")
        + "</section>"
    )


def facts(shown: Sequence[SceneFacts]) -> str:
    """What an answer is from, and how old that is."""
    said = []
    for each in shown:
        name = escape(each.device)
        if not each.scene_id:
            said.append(f"nothing of {name}: it is not there")
            continue
        old = ", no longer the present" if each.stale else ""
        said.append(f"{name} at {moment(each.start_s)}, {markup.ago(each.age_s)}{old}")
    return f'<p class="tl-note">From {"; ".join(said)}.</p>'


def found(scene: Scene, score: float, now_s: float) -> str:
    """A scene that a text was found in."""
    kinds = escape(", ".join(block.modality for block in scene.blocks))
    share = f"{score:.2f}" if math.isfinite(score) else markup.NOTHING
    return (
        f'<strong class="tl-name">{escape(scene.device)}</strong> '
        f'<span class="tl-note">{moment(scene.start_s)} · '
        f"{markup.ago(max(now_s - scene.end_s, 0.0))} · {kinds} · {share}</span>"
    )


def moment(at_s: float) -> str:
    """A time by the server's clock, in UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def answers_of(
    device: str, seen: Sequence[SeenRule], asked: Mapping[str, Sequence[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """What was answered last about a device: what was asked here, then what rules ask."""
    of_rules = [
        (each.rule.question, each.states[device].answer)
        for each in seen
        if device in each.states and each.states[device].answer
    ]
    return [*asked.get(device, ()), *of_rules][:3]
