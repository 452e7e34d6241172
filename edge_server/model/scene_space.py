"""Where scenes and texts stand together: two small heads behind the receivers, trained for it alone.

    received slots  [B, Q, E] of each ─▶ linear ─▶ side by side ─▶ linear ─▶ unit vector [B, D] ─┐
                                                                                                 ├─ cosine
    language tokens [B, L] ─▶ embedding ─▶ GRU, both ways ─▶ mean ─▶ linear ─▶ unit vector [B, D] ─┘

Receivers fill each slot of a prompt with the word for what is there, so that what is said of a scene is where
it stands among the slots: a mean over them, which the contrastive loss of stage 1 brings near a caption's,
does not tell a violin on the left from one on the right. The heads are not part of the link: a model without
them answers as it does with them.

Words are those of the foundation, as directions seen from the mean of all of them, and stay as they are: it
has read more of them than captions here teach, and what means the same stands near to one another there. With
an embedding of its own a head knows nothing of a word that its captions lacked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_server.errors import ModelError

FILE = "scene_space.safetensors"
_TOLD = "scene_space"


@dataclass(frozen=True)
class SceneSpaceConfig:
    """Sizes of the heads.

    Attributes:
        slots: of the link, in the prompt's order.
        queries: embeddings that a receiver gives for each.
        embedding_size: of them.
        vocabulary: language tokens.
        width: of each slot's embedding behind the first layer.
        text_width: of each way of the GRU.
        dim: of the space; a multiple of 8.
        word_width: of a language token; None: as wide as the GRU, which is what files say that do not tell.
    """

    slots: tuple[str, ...]
    queries: int
    embedding_size: int
    vocabulary: int
    width: int = 24
    text_width: int = 96
    dim: int = 128
    word_width: int | None = None


class SceneSpaceHeads(nn.Module):
    """Both heads.

    Args:
        config: their sizes.
    """

    def __init__(self, config: SceneSpaceConfig) -> None:
        super().__init__()
        self.config = config
        self.inner = nn.ModuleDict(
            {slot: nn.Linear(config.embedding_size, config.width) for slot in config.slots}
        )
        #: What stands for a slot that nothing was received for.
        self.absent = nn.ParameterDict(
            {slot: nn.Parameter(torch.zeros(config.queries * config.width)) for slot in config.slots}
        )
        wide = len(config.slots) * config.queries * config.width
        self.outer = nn.Sequential(nn.GELU(), nn.Linear(wide, config.dim))
        word_width = config.word_width or config.text_width
        self.words = nn.Embedding(config.vocabulary, word_width)
        self.read = nn.GRU(word_width, config.text_width, batch_first=True, bidirectional=True)
        self.say = nn.Linear(2 * config.text_width, config.dim)

    def know_words(self, embedding_VE: Tensor) -> None:
        """Take words from a foundation's embedding, ``word_width`` wide; they learn nothing any more."""
        with torch.no_grad():
            seen_VE = F.normalize(embedding_VE - embedding_VE.mean(dim=0), dim=-1)
            self.words.weight.copy_(seen_VE * seen_VE.shape[1] ** 0.5)  # each number of about 1
        self.words.weight.requires_grad_(False)

    def scenes(self, received: Mapping[str, Tensor]) -> Tensor:
        """Received embeddings of each slot that there is, [B, Q, E], to unit vectors, [B, D]."""
        count = len(next(iter(received.values())))
        parts = [
            self.inner[slot](received[slot]).flatten(1)
            if slot in received
            else self.absent[slot].expand(count, -1)
            for slot in self.config.slots
        ]
        return F.normalize(self.outer(torch.cat(parts, dim=1)), dim=-1)

    def texts(self, texts: Sequence[Sequence[int]], noise: float = 0.0) -> Tensor:
        """Language token ids of texts, at least one each, to unit vectors, [B, D].

        Args:
            texts: their ids.
            noise: standard deviation of what is added to each number of a word, in training: what stands near
                to a word is to mean the same.
        """
        lengths = torch.tensor([len(ids) for ids in texts])
        ids_BL = nn.utils.rnn.pad_sequence([torch.tensor(list(ids)) for ids in texts], batch_first=True)
        words_BLW = self.words(ids_BL)
        if noise:
            words_BLW = words_BLW + noise * torch.randn_like(words_BLW)
        packed = nn.utils.rnn.pack_padded_sequence(words_BLW, lengths, batch_first=True, enforce_sorted=False)
        read_BLW, _ = nn.utils.rnn.pad_packed_sequence(self.read(packed)[0], batch_first=True)
        mean_BW = read_BLW.sum(dim=1) / lengths[:, None]
        return F.normalize(self.say(mean_BW), dim=-1)

    def save(self, model: Path) -> None:
        """Write them into a model folder."""
        told = {_TOLD: json.dumps(asdict(self.config))}
        save_file(
            {name: t.contiguous() for name, t in self.state_dict().items()}, model / FILE, metadata=told
        )

    @classmethod
    def load(cls, model: Path) -> SceneSpaceHeads:
        """Read them from a model folder.

        Raises:
            ModelError: there are none, or they cannot be read.
        """
        try:
            with safe_open(model / FILE, "pt") as file:
                config = json.loads(file.metadata()[_TOLD])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            heads = cls(SceneSpaceConfig(**{**config, "slots": tuple(config["slots"])}))
            heads.load_state_dict(weights)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{model / FILE}: cannot be read: {error}") from error
        return heads.eval()
