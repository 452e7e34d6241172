"""LLaVA-OneVision: SigLIP, two linear layers, Qwen2. A picture is looked at as each of several would be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

_DEFAULTS = {
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"height": 384, "width": 384},
}


class _Encoder(nn.Module):
    """One tile, and the token that ends it: ``get_image_features`` would ask how many tiles there are."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        config = model.config
        self.tower, self.connector, self.newline = (
            model.vision_tower,
            model.multi_modal_projector,
            model.image_newline,
        )
        layer = config.vision_feature_layer
        self.layers = [layer] if isinstance(layer, int) else list(layer)
        self.first = 1 if config.vision_feature_select_strategy == "default" else 0

    def forward(self, pixels_1CHW: Tensor) -> Tensor:
        hidden = self.tower(pixels_1CHW, output_hidden_states=True, return_dict=True).hidden_states
        seen = torch.cat([hidden[layer] for layer in self.layers], dim=-1)
        return torch.cat([self.connector(seen[:, self.first :])[0], self.newline[None]])


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    size = int(settings["size"]["height"]), int(settings["size"]["width"])
    patch = checkpoint.model.config.vision_config.patch_size
    return MediaHalf(
        PictureFrontEnd(PictureSettings(size, **normalisation(settings))),
        _Encoder(checkpoint.model.model),
        # With the token that ends a picture: no rectangle.
        (1, size[0] // patch * (size[1] // patch) + 1),
        written="<image>",
        placeholder="<image>",
    )


register_family(
    Family(
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        {"visual": _picture},
        resolution="one tile of `size`, as each of several pictures",
    )
)
