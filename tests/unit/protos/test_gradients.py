"""Gradients on the wire: what comes back, what int8 carries, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from protos import gradients
from protos.gradients import GradientError
from protos.tokenlink.v1 import cotrain_pb2 as cpb


def block(dtype: str = "float32", rows: int = 12) -> cpb.BlockGradient:
    g_RC = (np.random.default_rng(0).standard_normal((rows, 6)) * 1e-6).astype(np.float32)
    return gradients.encode("visual", g_RC, dtype)[0]


@pytest.mark.parametrize(
    ("dtype", "worst", "size"), [("float32", 0.0, 4), ("float16", 1e-3, 2), ("int8", 0.02, 1)]
)
def test_small_gradients_survive(dtype: str, worst: float, size: int) -> None:
    g_RC = (np.random.default_rng(0).standard_normal((12, 6)) * 1e-6).astype(np.float32)
    packed, _ = gradients.encode("visual", g_RC, dtype)
    assert len(packed.data) == 72 * size
    found = gradients.decode(packed, rows=12, channel_dim=6)
    assert np.abs(found - g_RC).max() <= worst * np.abs(g_RC).max()


def test_what_int8_cannot_say_is_carried_to_the_next_row_and_block() -> None:
    rng = np.random.default_rng(1)
    carried = None
    told, meant = np.zeros(6), np.zeros(6)
    for _ in range(20):
        g_RC = rng.standard_normal((16, 6)).astype(np.float32)
        packed, carried = gradients.encode("visual", g_RC, "int8", carried)
        told += gradients.decode(packed, rows=16, channel_dim=6).sum(axis=0)
        meant += g_RC.sum(axis=0)
    # 320 roundings; together they are off by less than one.
    assert np.abs(told + carried - meant).max() < 1e-3
    assert np.abs(told - meant).max() < packed.scale


def test_zeros_can_be_said() -> None:
    for dtype in gradients.GRADIENT_DTYPES:
        packed, _ = gradients.encode("visual", np.zeros((2, 4), np.float32), dtype)
        assert not gradients.decode(packed, rows=2, channel_dim=4).any()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("dtype", {"dtype": 4}),
        ("shape", {"shape": [11, 6]}),
        ("data", {"data": b"123"}),
        ("crc32", {"crc32": 1}),
        ("scale", {"scale": float("nan")}),
        ("scale", {"scale": 0.0}),
        ("data", {"scale": 1e30}),
    ],
)
def test_what_is_not_usable_is_refused_by_name(field: str, change: dict[str, object]) -> None:
    packed = block("int8")
    for name, value in change.items():
        packed.ClearField(name)
        if name == "shape":
            packed.shape.extend(value)  # type: ignore[arg-type]
        else:
            setattr(packed, name, value)
    with pytest.raises(GradientError) as caught:
        gradients.decode(packed, rows=12, channel_dim=6)
    assert caught.value.field == field


def test_no_number_is_sent() -> None:
    with pytest.raises(GradientError, match="finite"):
        gradients.encode("visual", np.array([[np.nan]], np.float32), "float32")


def test_heads_come_whole_or_not_at_all() -> None:
    weights = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
    message = gradients.heads_message(3, {"visual": weights})
    shapes = {"visual": {"a": (2, 3), "b": (4,)}}
    found = gradients.read_heads(message, shapes)
    np.testing.assert_array_equal(found["visual"]["a"], weights["a"])
    for wrong in (
        {"visual": {"a": (2, 3)}},
        {"visual": {"a": (3, 2), "b": (4,)}},
        {"visual": {**shapes["visual"], "c": (1,)}},
        {**shapes, "audio": {}},
        {"audio": shapes["visual"]},
    ):
        with pytest.raises(GradientError):
            gradients.read_heads(message, wrong)
    message.heads[0].tensors[0].data = np.full((2, 3), np.inf, "<f4").tobytes()
    with pytest.raises(GradientError, match="finite"):
        gradients.read_heads(message, shapes)
