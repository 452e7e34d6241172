"""A trained bottleneck of a split model: feature tokens of E reals are sent as R, and received again as E.

    device   x_TE ─▶ down ─▶ y_TR ─▶ scale ─▶ [T, R + 2] ─▶ channel
    edge     scale ─▶ y_TR ─▶ up ─▶ + what is learned of noise, told the SNR ─▶ x_TE

It begins as the principal directions of tokens, so that before any training as little as possible is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_server.errors import ModelError
from edge_server.model.receiver import SnrFilm

#: In a model folder.
FILE = "bottleneck.safetensors"


class Bottleneck(nn.Module):
    """Both ends of the link of one kind of media.

    Args:
        width: of a feature token E.
        reals: of a sent one R.
    """

    def __init__(self, width: int, reals: int) -> None:
        super().__init__()
        self.width, self.reals = width, reals
        self.down = nn.Linear(width, reals, bias=False)
        self.up = nn.Linear(reals, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.film = SnrFilm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @torch.no_grad()
    def begin_with(self, x_NE: Tensor) -> None:
        """Send what tokens like these have most in common; their scale stays about what it was."""
        normal_NE = F.normalize(x_NE.float(), dim=1)
        directions = torch.linalg.svd(normal_NE, full_matrices=False).Vh
        scale = math.sqrt(self.reals / self.width)
        kept = directions[: self.reals]
        self.down.weight[: len(kept)] = kept * scale
        self.up.weight[:, : len(kept)] = kept.t() / scale

    def send(self, x_TE: Tensor) -> Tensor:
        """Feature tokens, [..., E], to what is sent of them, [..., R]."""
        y_TR: Tensor = self.down(x_TE)
        return y_TR

    def receive(self, y_BTR: Tensor, snr_db: Tensor) -> Tensor:
        """What arrived, [B, T, R], at the SNR told, [B] or [B, T] [dB], to feature tokens [B, T, E]."""
        x_BTE = self.up(y_BTR)
        rms = x_BTE.square().mean(dim=(1, 2), keepdim=True).clamp(min=1e-12).sqrt()
        learned = self.outer(F.gelu(self.inner(self.film(self.norm(x_BTE), snr_db))))
        out: Tensor = x_BTE + rms * learned
        return out


def save_bottlenecks(bottlenecks: Mapping[str, Bottleneck], model: Path) -> None:
    """Write them into a model folder."""
    weights = {
        f"{slot}.{name}": each.detach().float().cpu().contiguous()
        for slot, bottleneck in bottlenecks.items()
        for name, each in bottleneck.state_dict().items()
    }
    save_file(weights, model / FILE)


def read_bottlenecks(model: Path) -> dict[str, Bottleneck]:
    """Those of a model folder, by slot; none where it has no such file.

    Raises:
        ModelError: the file cannot be read.
    """
    path = model / FILE
    if not path.is_file():
        return {}
    try:
        weights = load_file(path)
        found: dict[str, Bottleneck] = {}
        for slot in dict.fromkeys(name.split(".")[0] for name in weights):
            reals, width = weights[f"{slot}.down.weight"].shape
            own = {
                name.removeprefix(f"{slot}."): each
                for name, each in weights.items()
                if name.startswith(f"{slot}.")
            }
            found[slot] = Bottleneck(width, reals)
            found[slot].load_state_dict(own)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return {slot: each.eval().requires_grad_(False) for slot, each in found.items()}
