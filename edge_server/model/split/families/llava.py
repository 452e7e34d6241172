"""LLaVA 1.5 and its like: CLIP, two linear layers, Llama. The middle of a picture is looked at."""

from __future__ import annotations

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.features import ImageFeatures
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

_DEFAULTS = {
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
}


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    config = checkpoint.model.config
    crop = settings["crop_size"]
    crop = (int(crop["height"]), int(crop["width"])) if isinstance(crop, dict) else (int(crop),) * 2
    edge = settings["size"]
    edge = int(edge["shortest_edge"] if isinstance(edge, dict) else edge)
    patch = config.vision_config.patch_size
    grid = crop[0] // patch, crop[1] // patch
    front_end = PictureFrontEnd(PictureSettings(crop, fit="crop", edge=edge, **normalisation(settings)))
    return MediaHalf(
        front_end, ImageFeatures(checkpoint.model.model), grid, written="<image>", placeholder="<image>"
    )


register_family(
    Family(
        "llava",
        "LlavaForConditionalGeneration",
        {"visual": _picture},
        resolution="shortest edge to `size`, the middle of `crop_size`",
    )
)
