"""InternVL 2.5 to 3.5: InternViT, pixel shuffle, Qwen2 or another. A picture is one tile, however large."""

from __future__ import annotations

from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.features import ImageFeatures, pair
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

_DEFAULTS = {
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"height": 448, "width": 448},
}


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    config = checkpoint.model.config
    size = int(settings["size"]["height"]), int(settings["size"]["width"])
    patch = pair(config.vision_config.patch_size)
    ratio = config.downsample_ratio
    return MediaHalf(
        PictureFrontEnd(PictureSettings(size, **normalisation(settings))),
        ImageFeatures(checkpoint.model.model),
        (int(size[0] // patch[0] * ratio), int(size[1] // patch[1] * ratio)),
        written="<IMG_CONTEXT>",
        placeholder="<IMG_CONTEXT>",
        before="<img>",
        after="</img>",
    )


register_family(
    Family(
        "internvl",
        "InternVLForConditionalGeneration",
        {"visual": _picture},
        resolution="one tile of `size`, as with `crop_to_patches=False`",
    )
)
