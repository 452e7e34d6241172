"""Copies small arrays from host memory to the device that the model computes on, without waiting for it."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def on_device(numbers: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on a device.

    On a CPU it is the same memory. To a GPU it goes from pinned memory: who sends it on its way waits neither
    for it, nor for what the GPU has been told to compute before.
    """
    here = torch.from_numpy(numbers)
    if device.type == "cpu":
        return here
    if device.type != "cuda":
        return here.to(device)
    return here.pin_memory().to(device, non_blocking=True)
