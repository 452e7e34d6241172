"""Where a model's scenes and texts stand together: its receivers, and the heads that were trained for it.

Loaded when it is first needed, on the thread that asks; light to import: no torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_server.engine.ports import FeatureBlock
from edge_server.scenes.scene import SceneBlock, Vector

if TYPE_CHECKING:
    from edge_server.model.answering import AnswersWith
    from edge_server.model.scene_space import SceneSpaceHeads

FILE = "scene_space.safetensors"
"""Of a model folder: :data:`edge_server.model.scene_space.FILE`."""
MAX_IDS = 96
"""Language tokens of a text that are looked at."""
_NAME_DIGITS = 16


class LinkSpace:
    """Implements :class:`edge_server.scenes.SceneSpace` with a model's receivers and its heads.

    Args:
        folder: of the model; holds :data:`FILE`.
        read: a scene's blocks as the model takes them.
    """

    def __init__(self, folder: Path, read: Callable[[Sequence[SceneBlock]], Sequence[FeatureBlock]]) -> None:
        self._folder = folder
        self._name = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()[:_NAME_DIGITS]
        self._read = read
        self._loading = threading.Lock()
        self._loaded: tuple[AnswersWith, SceneSpaceHeads] | None = None

    @property
    def name(self) -> str:
        """Of the space: other heads have another."""
        return self._name

    def of_scene(self, blocks: Sequence[SceneBlock]) -> Vector | None:
        """Where a scene stands, of unit length; None: nothing of it has a place."""
        import torch

        from edge_server.model.modality import place_of

        link, heads = self._parts()
        received = {}
        with torch.inference_mode():
            for block in self._read(blocks):
                slot = place_of(block.modality)
                if slot in heads.config.slots:
                    x_1TC = torch.from_numpy(np.array(block.x_TC, np.float32))[None]
                    received[str(slot)] = link.receiver(str(slot))(
                        x_1TC, torch.from_numpy(block.told_db())[None]
                    )
            if not received:
                return None
            return np.asarray(heads.scenes(received)[0].numpy(), np.float32)

    def of_text(self, text: str) -> Vector | None:
        """Where a text stands, of unit length; None: it holds nothing that the tokenizer knows."""
        import torch

        from edge_server.model import tokenizer as tk

        link, heads = self._parts()
        ids = tk.encode(link.tokenizer, text)[:MAX_IDS]
        if not ids:
            return None
        with torch.inference_mode():
            return np.asarray(heads.texts([ids])[0].numpy(), np.float32)

    def _parts(self) -> tuple[AnswersWith, SceneSpaceHeads]:
        with self._loading:
            if self._loaded is None:
                from edge_server.model.scene_space import SceneSpaceHeads
                from edge_server.runtime.answering import load_answering

                self._loaded = load_answering(self._folder), SceneSpaceHeads.load(self._folder)
            return self._loaded
