"""FastVLM: FastViTHD (of timm), two linear layers, Qwen2."""

from __future__ import annotations

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.features import ImageFeatures
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

#: How much smaller than the picture FastViTHD's map is.
_STRIDE = 64
_DEFAULTS = {
    "resample": 3,
    "image_mean": (0.0, 0.0, 0.0),
    "image_std": (1.0, 1.0, 1.0),
    "size": {"shortest_edge": 1024},
    "crop_size": {"height": 1024, "width": 1024},
}


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    crop = int(settings["crop_size"]["height"]), int(settings["crop_size"]["width"])
    edge = int(settings["size"]["shortest_edge"])
    return MediaHalf(
        PictureFrontEnd(PictureSettings(crop, fit="crop", edge=edge, **normalisation(settings))),
        ImageFeatures(checkpoint.model.model),
        (crop[0] // _STRIDE, crop[1] // _STRIDE),
        written="<image>",
        placeholder="<image>",
    )


register_family(
    Family(
        "fast_vlm",
        "FastVlmForConditionalGeneration",
        {"visual": _picture},
        resolution="shortest edge to `size`, the middle of `crop_size`; needs the package timm",
    )
)
