"""Training clips as the frozen encoders see them: encoded once, kept on disk, read by both stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor

from edge_server.data.soundstage.dataset import Split
from edge_server.errors import DatasetError
from edge_server.model.link import Link
from edge_server.training.modality import TRAINING
from edge_server.training.split import TrainingSplit

SplitT = TypeVar("SplitT", bound=TrainingSplit)
SplitT_co = TypeVar("SplitT_co", bound=TrainingSplit, covariant=True)


@dataclass(frozen=True)
class EncodedClips(Generic[SplitT_co]):
    """A split behind the frozen encoders.

    Attributes:
        features: per slot, float16, [N, P, D], mapped from disk.
        split: the split itself: what is said and asked about its clips.
    """

    features: dict[str, npt.NDArray[np.float16]]
    split: SplitT_co

    def __len__(self) -> int:
        return len(self.split)

    def take(self, slot: str, rows: npt.NDArray[np.int64]) -> Tensor:
        """Features of some clips, float32, [len(rows), P, D]."""
        return torch.from_numpy(self.features[slot][rows].astype(np.float32))


def encode_clips(
    link: Link, split: SplitT, directory: Path, note: str, batch_size: int = 32
) -> EncodedClips[SplitT]:
    """Run the encoders over a split, or open what an earlier run left in ``directory``.

    Raises:
        DatasetError: what it left is of another number of clips.
    """
    directory.mkdir(parents=True, exist_ok=True)
    features = {}
    for slot in link.slots:
        path = directory / f"{slot}.npy"
        if not path.exists():
            _encode(link, slot, split, path, note, batch_size)
        features[slot] = np.load(path, mmap_mode="r")
        if len(features[slot]) != len(split):
            raise DatasetError(
                f"{path}: {len(features[slot])} clips, the split has {len(split)}; delete it to encode anew"
            )
    return EncodedClips(features, split)


def encode_batch(link: Link, slot: str, split: Split, begin: int, end: int) -> Tensor:
    """Encoder tokens of clips begin to end - 1 of a Soundstage split, [B, P, D]."""
    return encode_media(link, slot, TRAINING[slot].media(split)[begin:end])


@torch.inference_mode()
def encode_media(link: Link, slot: str, media: npt.NDArray[np.uint8] | npt.NDArray[np.int16]) -> Tensor:
    """Encoder tokens of frames, uint8 [B, F, H, W, 3], or of sound, int16 [B, S]; [B, P, D]."""
    encoder = link.encoder(slot)
    return torch.as_tensor(encoder(TRAINING[slot].inputs(encoder, media)))


def _encode(link: Link, slot: str, split: TrainingSplit, path: Path, note: str, batch_size: int) -> None:
    encoder = link.encoder(slot)
    shape = (len(split), encoder.patches, encoder.hidden_size)
    partial = path.with_suffix(".partial")
    out = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for begin in track(range(0, len(out), batch_size), description=f"encode {slot} {note}"):
        end = min(begin + batch_size, len(out))
        out[begin:end] = split.encode(link, slot, begin, end).float().cpu().numpy()
    out.flush()
    partial.replace(path)
