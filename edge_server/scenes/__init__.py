"""Scenes: tokens that devices shared, kept at the edge to be asked about and found again.

    share ─▶ Scenes (a thread) ─▶ SceneStore: memory, or an SQLite file
    question: device, when ─▶ may they see it? ─▶ Scene ─▶ its tokens into the prompt
    text ─▶ vector ─▶ the nearest scenes

Knows no transport and no model library.
"""

from edge_server.scenes.clocks import SenderClock
from edge_server.scenes.keeper import Readers, Scenes, SceneSpace, may_read
from edge_server.scenes.memory import MemoryScenes
from edge_server.scenes.scene import At, Scene, SceneBlock, parse_at, scene_id_of
from edge_server.scenes.sqlite import SqliteScenes
from edge_server.scenes.store import Change, Found, SceneBounds, SceneStore, Wanted, matches

__all__ = [
    "At",
    "Change",
    "Found",
    "MemoryScenes",
    "Readers",
    "Scene",
    "SceneBlock",
    "SceneBounds",
    "SceneSpace",
    "SceneStore",
    "Scenes",
    "SenderClock",
    "SqliteScenes",
    "Wanted",
    "matches",
    "may_read",
    "parse_at",
    "scene_id_of",
]
