"""How a served model is computed: what a setting says once, on its way to whoever loads and computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """What products are computed in, where the processor has instructions for it; else float32.

    Attributes:
        bfloat16: prompts are read in bfloat16.
        integers: decode steps are taken in 8-bit integers.
    """

    bfloat16: bool = False
    integers: bool = False


EXACT = Precision()
AS_SERVED = Precision(bfloat16=True)
"""As a server computes that was told nothing else."""


@dataclass(frozen=True)
class Computing:
    """How a process computes a model.

    Attributes:
        threads: that torch computes with, process-wide.
        device: that it computes on, in torch's words.
        precision: of products.
        prefix_bytes: of keys and values that a model which was split keeps of conversations.
    """

    threads: int = 1
    device: str = "cpu"
    precision: Precision = AS_SERVED
    prefix_bytes: int = 0
