"""SmolVLM and Idefics3: SigLIP, pixel shuffle, Llama. A picture is one tile, however large."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, even_grid, normalisation

_DEFAULTS = {
    "resample": 1,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
}


class _Encoder(nn.Module):
    """The tower over one tile: ``get_image_features`` looks for tiles that are padding; there is none."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.connector = model.vision_model, model.connector

    def forward(self, pixels_1CHW: Tensor) -> Tensor:
        return torch.as_tensor(self.connector(self.tower(pixels_1CHW).last_hidden_state)[0])


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    config = checkpoint.model.config
    side = int(settings["max_image_size"]["longest_edge"])
    tokens = (side // config.vision_config.patch_size) ** 2 // config.scale_factor**2
    front_end = PictureFrontEnd(
        PictureSettings(
            (side, side), through=int(settings["size"]["longest_edge"]), **normalisation(settings)
        )
    )
    around = "<fake_token_around_image>"
    return MediaHalf(
        front_end,
        _Encoder(checkpoint.model.model),
        even_grid(tokens),
        written="<image>",
        placeholder="<image>",
        before=f"{around}<global-img>",
        after=around,
    )


for _model_type, _network in (
    ("smolvlm", "SmolVLMForConditionalGeneration"),
    ("idefics3", "Idefics3ForConditionalGeneration"),
):
    register_family(
        Family(
            _model_type,
            _network,
            {"visual": _picture},
            resolution="one square tile of `max_image_size`, as with `do_image_splitting=False`",
        )
    )
