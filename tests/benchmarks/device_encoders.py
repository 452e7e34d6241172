"""The same encoders in three guises: fp32 graphs, int8 graphs, torch. Each on one thread."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from device_agent.bundle.bundle import Bundle
from device_agent.media.clip import Clip
from device_agent.transmitter import Transmitter
from edge_server.export.graphs import AudioGraph, VisualGraph
from edge_server.model.link import Link
from edge_server.model.modality import SLOTS

Tokens = npt.NDArray[np.float32]


class Encoders(Protocol):
    """Turns a clip into tokens."""

    def encode(self, clip: Clip, token_length: int) -> dict[str, Tokens]:
        """Tokens per slot, float32, [token_length, C]."""

    def sizes_bytes(self) -> dict[str, int]:
        """What each slot's encoder takes on disk."""


class GraphEncoders:
    """A device bundle's graphs in ONNX Runtime, run as a device runs them."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._transmitter = Transmitter(bundle, threads=1)

    def encode(self, clip: Clip, token_length: int) -> dict[str, Tokens]:
        assert clip.frames_THWC is not None
        assert clip.pcm_S is not None
        return {
            "visual": self._transmitter.encode_visual(clip.frames_THWC, token_length),
            "audio": self._transmitter.encode_audio(clip.pcm_S, token_length),
        }

    def sizes_bytes(self) -> dict[str, int]:
        parts, files = self._bundle.manifest.transmitters, self._bundle.manifest.files
        assert parts.visual is not None
        assert parts.audio is not None
        return {"visual": files[parts.visual.graph].bytes, "audio": files[parts.audio.graph].bytes}


class TorchEncoders:
    """What the graphs were exported from, in eager torch."""

    def __init__(self, link: Link) -> None:
        self._parts: dict[str, nn.Module] = {"visual": VisualGraph(link), "audio": AudioGraph(link)}

    @torch.inference_mode()
    def encode(self, clip: Clip, token_length: int) -> dict[str, Tokens]:
        length = torch.tensor([token_length])
        media = {"visual": torch.tensor(clip.frames_THWC), "audio": torch.tensor(clip.pcm_S)}
        # Behind the tokens stand the features that a device learns its head from.
        return {slot: self._parts[slot](media[slot], length)[0].numpy() for slot in SLOTS}

    def sizes_bytes(self) -> dict[str, int]:
        return {
            slot: sum(tensor.nbytes for tensor in part.state_dict().values())
            for slot, part in self._parts.items()
        }


def encode_all(encoders: Encoders, clips: Iterable[Clip], token_length: int) -> dict[str, Tokens]:
    """Tokens of many clips, per slot, [N, token_length, C]."""
    encoded = [encoders.encode(clip, token_length) for clip in clips]
    return {slot: np.stack([tokens[slot] for tokens in encoded]) for slot in SLOTS}


def time_encoders(
    variants: Mapping[str, Encoders], clip: Clip, token_length: int, repeats: int
) -> dict[str, list[float]]:
    """How long each variant takes for a clip [s]; they take turns, so that all meet the same disturbances."""
    for encoders in variants.values():
        for _ in range(2):  # opens graphs, fills arenas
            encoders.encode(clip, token_length)
    taken_s: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, encoders in variants.items():
            began_s = time.perf_counter()
            encoders.encode(clip, token_length)
            taken_s[name].append(time.perf_counter() - began_s)
    return taken_s
