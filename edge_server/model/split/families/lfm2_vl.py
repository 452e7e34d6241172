"""LFM2-VL: SigLIP 2 over patches, pixel unshuffle, LFM2. A picture is stretched to one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

_DEFAULTS = {
    "resample": 2,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
    "tile_size": 512,
    "encoder_patch_size": 16,
}


class _Encoder(nn.Module):
    """The tower over one tile; where its patches stand is the same for every picture, and computed once."""

    positions: Tensor

    def __init__(self, model: Any, grid: tuple[int, int], patch: int) -> None:
        super().__init__()
        tower = model.vision_tower
        self.tower, self.connector, self.grid, self.patch = tower, model.multi_modal_projector, grid, patch
        embeddings, count = tower.embeddings, grid[0] * grid[1]
        side = embeddings.position_embedding_size
        table = embeddings.position_embedding.weight.detach().reshape(side, side, -1)
        placed = embeddings.resize_positional_embeddings(table, torch.tensor([grid]), count)
        self.register_buffer("positions", placed, persistent=False)

    def forward(self, pixels_1CHW: Tensor) -> Tensor:
        rows, columns = self.grid
        patches = pixels_1CHW.reshape(3, rows, self.patch, columns, self.patch).permute(1, 3, 2, 4, 0)
        patches = patches.reshape(1, rows * columns, -1)
        hidden = self.tower.embeddings.patch_embedding(patches) + self.positions
        hidden = self.tower.encoder(inputs_embeds=hidden).last_hidden_state
        hidden = self.tower.post_layernorm(hidden).reshape(1, rows, columns, -1)
        return torch.as_tensor(self.connector(hidden)).flatten(0, 2)


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    config = checkpoint.model.config
    patch, factor = int(settings["encoder_patch_size"]), config.downsample_factor
    size = checkpoint.picture or (int(settings["tile_size"]),) * 2
    grid = size[0] // patch, size[1] // patch
    return MediaHalf(
        PictureFrontEnd(PictureSettings(size, **normalisation(settings))),
        _Encoder(checkpoint.model.model, grid, patch),
        (grid[0] // factor, grid[1] // factor),
        written="<image>",
        placeholder="<image>",
        before="<|image_start|>",
        after="<|image_end|>",
    )


register_family(
    Family(
        "lfm2_vl",
        "Lfm2VlForConditionalGeneration",
        {"visual": _picture},
        resolution="stretched to one tile of `tile_size`, or `--picture`",
    )
)
