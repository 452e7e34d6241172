"""Colours by their names: which of eleven words fits what is seen of a thing.

The words are those that English has for basic colours (Berlin and Kay, *Basic Color Terms*, 1969). Every
small square of a picture speaks for the names of the shades that it is nearest to in CIELAB; squares count as
much as they belong to the thing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Shades by the place of their name in :data:`edge_server.weights.captions.COLOURS`, as sRGB.
_SHADES: dict[int, tuple[str, ...]] = {
    1: ("000000", "1a1a1a", "262420"),
    2: ("ffffff", "e8e8e8", "f0ead8"),
    3: ("808080", "a8a8a8", "5c5c5c", "8a9098"),
    4: ("c00000", "e02020", "8a1018", "d84040"),
    5: ("f08000", "e87030", "ffa030", "d06010"),
    6: ("f0d000", "ffe860", "d8b820", "f8e020"),
    7: ("208020", "40b040", "90c040", "205828", "607830", "88a060"),
    8: ("2040c0", "4080e0", "80b8f0", "102868", "3068a0"),
    9: ("702090", "9858c0", "502868", "b090d0"),
    10: ("f080b0", "f8b8c8", "e04898", "e8a0a8"),
    11: ("603818", "805030", "a07048", "4a3020", "b89068", "987858"),
}
_SIDE = 28
_SOFTNESS = 60.0
# Grey is what shades and lights make of anything: it is told where little else is seen.
_GREY, _OF_GREY = 3, 0.4
#: A colour is told where so much of a thing has it.
_ENOUGH = 0.34
# sRGB, once linear, to CIE XYZ over the white of D65 (IEC 61966-2-1).
_TO_XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8728))
_TO_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))


class ColourNames(nn.Module):
    """Which colour a thing has."""

    xyz: Tensor
    lab: Tensor
    shades: Tensor
    named: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("xyz", torch.tensor(_TO_XYZ).T.contiguous(), persistent=False)
        self.register_buffer("lab", torch.tensor(_TO_LAB).T.contiguous(), persistent=False)
        shades = [bytes.fromhex(each) for of_name in _SHADES.values() for each in of_name]
        names = torch.tensor([name for name, of_name in _SHADES.items() for _ in of_name])
        named = F.one_hot(names, max(_SHADES) + 1).float()
        named[:, _GREY] *= _OF_GREY
        self.register_buffer("named", named, persistent=False)
        rgb_NC = torch.tensor([list(each) for each in shades]) / 255.0
        self.register_buffer("shades", self._to_lab(rgb_NC), persistent=False)

    def forward(self, rgb_BCHW: Tensor, counts_BYX: Tensor) -> Tensor:
        """The colour's name.

        Args:
            rgb_BCHW: a picture, sRGB from 0 to 1; its sides are multiples of 28.
            counts_BYX: how much each cell of it counts, 1 in all; 28 is a multiple of its sides.

        Returns:
            0 and 1, [B, 12]: in the order of COLOURS, the first for a thing of many colours.
        """
        small = F.avg_pool2d(rgb_BCHW, rgb_BCHW.shape[-1] // _SIDE).flatten(2).transpose(1, 2)
        lab_BSC = self._to_lab(small.clamp(0.0, 1.0))
        far_BSN = (lab_BSC[:, :, None] - self.shades).square().sum(dim=-1)
        votes_BSK = torch.matmul(torch.softmax(-far_BSN / _SOFTNESS, dim=-1), self.named)
        times = _SIDE // counts_BYX.shape[-1]
        counts = counts_BYX.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2) / times**2
        share_BK = torch.matmul(counts.flatten(1)[:, None], votes_BSK)[:, 0, 1:]
        share_BK = share_BK / share_BK.sum(dim=-1, keepdim=True)
        most_B1 = share_BK.amax(dim=-1, keepdim=True)
        told_B1 = (most_B1 >= _ENOUGH).float()
        return torch.cat([1 - told_B1, (share_BK >= most_B1).float() * told_B1], dim=-1)

    def _to_lab(self, rgb: Tensor) -> Tensor:
        """[..., 3] in sRGB to CIELAB."""
        # A power alone, without the straight piece near black, which is a shade of black either way.
        linear = rgb.clamp_min(1e-4) ** 2.2
        root = torch.matmul(linear, self.xyz).clamp_min(1e-6) ** (1 / 3)
        return torch.matmul(root, self.lab)
