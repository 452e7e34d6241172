"""Models of text alone: nothing is left to a device but its tokenizer."""

from __future__ import annotations

from edge_server.model.split.family import Family, register_family

for _model_type in ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "smollm3"):
    register_family(Family(_model_type))
