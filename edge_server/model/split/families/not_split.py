"""Models that cannot be split where a radio link goes, and why: one codeword would not do."""

from __future__ import annotations

from edge_server.model.split.family import Family, register_family

_DEEP = (
    "its language model takes features of several depths of the vision tower, in several of its blocks; "
    "they are more than one block of tokens"
)
for _model_type in ("qwen3_vl", "qwen3_vl_moe"):
    register_family(Family(_model_type, refused=_DEEP))
register_family(
    Family(
        "mllama",
        refused="its language model looks at pictures in cross-attention blocks, not in place of tokens",
    )
)
register_family(
    Family(
        "gemma3",
        refused="the tokens of a picture look at one another both ways inside its language model; "
        "its text part alone (gemma3_text) can be served",
    )
)
