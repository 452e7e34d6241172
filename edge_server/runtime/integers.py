"""Products of a few rows with one matrix in 8-bit integers, for decode steps on a CPU.

A decode step reads every weight to say one language token a row: what it takes is reading them. In integers
there is a quarter to read, and several times as many products in an instruction.

    x ─▶ each row by its largest, to -127 ... 127, and what that leaves ─▶ integers x integers ─▶ times scales

A matrix has a scale for each of its columns. A row is two rows of integers, 15 bits: those of a language
model have few values that are many times as large as the others, which 8 bits would round away, and where
weights are what is read, twice the rows cost little. Sums of integers are exact and each row has a scale of
its own: a row gives the same beside any others. oneDNN multiplies, with the instructions that there are for
it; without them it would be slower, and sums of two products may overflow: :func:`has_integers` says where.

Called by :mod:`edge_server.runtime.matmul`. Shapes: N rows, M twice as many, X by Y the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST = 127.0
# A row of zeros stays one.
_LEAST = 1e-30
# Any of them multiplies integers of 8 bits and sums them in 32.
_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")


def has_integers(device: torch.device) -> bool:
    """Whether a device multiplies integers of 8 bits faster than floats, here."""
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in _INSTRUCTIONS)


@dataclass(frozen=True)
class IntegerRows:
    """Rows as integers.

    Attributes:
        q_MX: the integers, then as many rows of what they leave, of which 127 are worth one of theirs.
        scale_N1: what one of them is worth, in float32.
    """

    q_MX: Tensor
    scale_N1: Tensor

    @classmethod
    def of(cls, x_NX: Tensor) -> IntegerRows:
        """Rows, rounded."""
        count = len(x_NX)
        scale_N1 = torch.linalg.vector_norm(x_NX, torch.inf, dim=-1, keepdim=True, dtype=torch.float32)
        scale_N1 = scale_N1.clamp_min_(_LEAST).mul_(1 / _MOST)
        q_MX = torch.empty(2 * count, x_NX.shape[1], dtype=torch.int8)
        # What does not fit an integer is cut off, and is less than one: it fits the second.
        x_NX = x_NX / scale_N1
        q_MX[:count] = x_NX
        q_MX[count:] = x_NX.sub_(q_MX[:count]).mul_(_MOST).round_()
        return cls(q_MX, scale_N1)


@dataclass(frozen=True)
class IntegerMatrix:
    """A matrix as integers, laid out as oneDNN reads it.

    Attributes:
        packed: the integers.
        scale_Y: what one of a column is worth.
        zero_Y: the integer that stands for zero, zero.
        dtype: of the matrix that was rounded.
    """

    packed: Tensor
    scale_Y: Tensor
    zero_Y: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, weight_XY: Tensor) -> IntegerMatrix:
        """A matrix, rounded."""
        weight_YX = weight_XY.t().float()
        scale_Y = weight_YX.abs().amax(dim=1).clamp_min_(_LEAST).div_(_MOST)
        q_YX = (weight_YX / scale_Y[:, None]).round_().to(torch.int8).contiguous()
        packed = torch.ops.onednn.qlinear_prepack(q_YX, None)
        return cls(packed, scale_Y, torch.zeros(len(q_YX), dtype=torch.int64), weight_XY.dtype)

    def unscaled(self, rows: IntegerRows) -> Tensor:
        """Rows times the matrix, before each row is multiplied by its scale; float32, [N, Y]."""
        out_MY: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows.q_MX,
            1.0,
            0,
            self.packed,
            self.scale_Y,
            self.zero_Y,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        count = len(rows.scale_N1)
        return out_MY[:count].add_(out_MY[count:], alpha=1 / _MOST)

    def times(self, rows: IntegerRows) -> Tensor:
        """Rows times the matrix, in the type of what it was made of, [N, Y]."""
        return self.unscaled(rows).mul_(rows.scale_N1).to(self.dtype)

    def add_times(self, x_NY: Tensor, rows: IntegerRows) -> None:
        """Add rows times the matrix to x."""
        x_NY.addcmul_(self.unscaled(rows).to(x_NY.dtype), rows.scale_N1.to(x_NY.dtype))
