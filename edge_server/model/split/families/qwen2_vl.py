"""Qwen2-VL and Qwen2.5-VL: a tower over patches, two by two of them as one, Qwen2 with M-RoPE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from edge_server.errors import ModelError
from edge_server.model.split.family import Checkpoint, Family, MediaHalf, register_family
from edge_server.model.split.pictures import PictureFrontEnd, PictureSettings, normalisation

_DEFAULTS = {
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
}
#: Rows and columns of a picture where the user says nothing [px]: 256 feature tokens.
_SIDE = 448


class _Segments:
    """Lengths of what attends to itself, known without computing: blocks only ask for their differences."""

    def __init__(self, ends: Tensor) -> None:
        self._lengths = (ends[1:] - ends[:-1]).tolist()

    def __getitem__(self, which: slice) -> _Segments:
        return self

    def __sub__(self, other: _Segments) -> _Segments:
        return self

    def tolist(self) -> list[int]:
        return list(self._lengths)


class _Encoder(nn.Module):
    """The tower over one picture, cut into patches in the order of its processor.

    Where patches stand and which of them see each other is the same for every picture, and found once.
    """

    cos: Tensor
    sin: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, tower: Any, grid: tuple[int, int], patch: int, merge: int, frames: int) -> None:
        super().__init__()
        self.tower, self.grid, self.patch, self.merge, self.frames = tower, grid, patch, merge, frames
        grid_thw = torch.tensor([[1, *grid]])
        count = grid[0] * grid[1]
        positions = get_vision_position_ids(grid_thw, merge)
        turns = tower.rotary_pos_emb(torch.zeros(count, 1), positions)
        order, whole = torch.arange(count // merge**2), torch.tensor([0, count])
        self.segments = [_Segments(whole)] * len(tower.blocks)
        if hasattr(tower, "window_size"):
            order, ends = get_vision_window_index(
                grid_thw, spatial_merge_size=merge, window_size=tower.window_size, patch_size=patch
            )
            windows = _Segments(torch.unique_consecutive(ends))
            full = set(tower.fullatt_block_indexes)
            self.segments = [each if layer in full else windows for layer, each in enumerate(self.segments)]
        for name, each in zip(("cos", "sin"), turns, strict=True):
            self.register_buffer(name, self._ordered(each, order).contiguous(), persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", torch.argsort(order), persistent=False)

    def forward(self, pixels_1CHW: Tensor) -> Tensor:
        rows, columns, patch, merge = *self.grid, self.patch, self.merge
        tiles = pixels_1CHW.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
        # A still picture is the same at all times of a patch.
        tiles = tiles.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        patches = tiles.expand(-1, -1, -1, -1, -1, self.frames, -1, -1).reshape(rows * columns, -1)
        hidden = self._ordered(self.tower.patch_embed(patches), self.order)
        for block, segments in zip(self.tower.blocks, self.segments, strict=True):
            hidden = block(hidden, cu_seqlens=segments, position_embeddings=(self.cos, self.sin))
        return torch.as_tensor(self.tower.merger(hidden))[self.back]

    def _ordered(self, x_PD: Tensor, order: Tensor) -> Tensor:
        """Patches in the order of windows; those that become one token stay together."""
        return x_PD.reshape(len(order), self.merge**2, -1)[order].reshape(len(x_PD), -1)


def _picture(checkpoint: Checkpoint) -> MediaHalf:
    settings = checkpoint.settings("image_processor", _DEFAULTS)
    patch, merge = int(settings["patch_size"]), int(settings["merge_size"])
    size = checkpoint.picture or (_SIDE, _SIDE)
    if any(side % (patch * merge) for side in size):
        raise ModelError(f"picture: {size[0]}x{size[1]}; multiples of {patch * merge} are needed")
    grid = size[0] // patch, size[1] // patch
    return MediaHalf(
        PictureFrontEnd(PictureSettings(size, **normalisation(settings))),
        _Encoder(checkpoint.model.model.visual, grid, patch, merge, int(settings["temporal_patch_size"])),
        (grid[0] // merge, grid[1] // merge),
        written="<|image_pad|>",
        placeholder="<|image_pad|>",
        spans=True,
    )


def _language(model: PreTrainedModel) -> PreTrainedModel:
    """Its blocks are Qwen2's; positions in time, row and column are the runner's business."""
    text = model.config.get_text_config(decoder=True).to_dict()
    for ours in ("model_type", "architectures", "dtype"):
        text.pop(ours, None)
    rope = {k: v for k, v in text.pop("rope_parameters").items() if k != "mrope_section"}
    config = Qwen2Config(**text, rope_parameters=rope)
    config.tie_word_embeddings = bool(model.config.tie_word_embeddings)
    alone = Qwen2ForCausalLM._from_config(config, dtype=model.dtype)
    alone.model.load_state_dict(model.get_decoder().state_dict())
    alone.lm_head.load_state_dict(model.get_output_embeddings().state_dict())
    alone.generation_config = model.generation_config
    return alone.eval()


def _sections(model: PreTrainedModel) -> tuple[int, ...]:
    rope = model.config.get_text_config(decoder=True).rope_parameters
    return tuple(int(pairs) for pairs in rope.get("mrope_section", (16, 24, 24)))


for _model_type, _network in (
    ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
):
    register_family(
        Family(
            _model_type,
            _network,
            {"visual": _picture},
            language=_language,
            sections=_sections,
            resolution="stretched to 448 x 448, or `--picture`",
        )
    )
