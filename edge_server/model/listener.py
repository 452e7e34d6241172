"""A small classifier of sounds as an audio encoder: what is heard, and how loud.

    log-mel spectrogram ─▶ convolutions ─▶ mean, maximum over time ─▶ classes ─▶ codes, loudness ─▶ [B, 1, D]

As the classifier of pictures (:mod:`edge_server.model.published.lite`) it sends the average of the codes of
the classes that are likely; a class's code is a direction of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_server.model.config import ListenerAudio
from edge_server.model.preprocess import AudioFrontEnd

# As of pictures: the likeliest class is to be nearest, and the power that the other field has.
_SHARPER = 2.0
_OTHERS_SHARE = 0.1
# Bands of frequency that are looked at one by one in the end.
_BANDS = 4
# A loud sound has more than this on average in the loudest tenth of its log-mel spectrogram.
_LOUD = 0.1
# Mean and deviation of a spectrogram of ordinary sounds.
_MEAN, _DEVIATION = -0.55, 0.45


class ListenerEncoder(nn.Module):
    """What is heard, and whether it is loud."""

    codes: Tensor

    def __init__(self, config: ListenerAudio) -> None:
        super().__init__()
        self.config = config
        self.front_end = AudioFrontEnd(config.format)
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((1, *config.channels), config.channels, strict=False)):
            # The first step of time is short beside most sounds.
            stride = (2, 1) if number == 0 else (1, 1)
            layers.append(nn.Conv2d(before, after, 3, stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.maps = nn.Sequential(*layers)
        rows = config.format.mel_bins // 2 ** len(config.channels)
        self.bands = nn.AvgPool2d((1, max(rows // _BANDS, 1)))
        width = 2 * config.channels[-1] * min(rows, _BANDS)
        self.forget = nn.Dropout(0.3)
        self.tell = nn.Linear(width, config.classes)
        self.register_buffer("codes", torch.eye(config.classes, config.class_width), persistent=False)

    @property
    def patches(self) -> int:
        """Encoder tokens P: one of the whole."""
        return 1

    @property
    def hidden_size(self) -> int:
        """Width D of an encoder token."""
        return self.config.code_size

    def logits(self, mel_BTM: Tensor) -> Tensor:
        """Of the classes, [B, classes].

        Args:
            mel_BTM: float32, [B, spectra, mel_bins], as the front end gives.
        """
        maps_BCTM = self.bands(self.maps((mel_BTM[:, None] - _MEAN) / _DEVIATION))
        over_time = torch.cat([maps_BCTM.mean(dim=2), maps_BCTM.amax(dim=2)], dim=1)
        out: Tensor = self.tell(self.forget(over_time.flatten(1)))
        return out

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """What the front end gives of sounds, [B, spectra, mel_bins], to codes of all fields [B, 1, D]."""
        return self.joined(torch.softmax(_SHARPER * self.logits(mel_BTM), dim=-1), self.levels(mel_BTM))

    def joined(self, likely_BK: Tensor, level_BK: Tensor) -> Tensor:
        """Codes of all fields, [B, 1, D]."""
        return torch.cat([torch.matmul(likely_BK, self.codes), _OTHERS_SHARE**0.5 * level_BK], dim=-1)[
            :, None
        ]

    def levels(self, mel_BTM: Tensor) -> Tensor:
        """Which of nothing, quiet and loud, as 0 and 1, [B, 3]."""
        # The loudest tenth of times: what is quiet in between does not make a bark quiet.
        loudest_BT = mel_BTM.mean(dim=2).topk(max(mel_BTM.shape[1] // 10, 1), dim=1).values
        loud_B = (loudest_BT.mean(dim=1) > _LOUD).float()
        return torch.stack([torch.zeros_like(loud_B), 1 - loud_B, loud_B], dim=-1)
