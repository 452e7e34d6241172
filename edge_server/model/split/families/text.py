"""Models of text alone: nothing is left to a device but its tokenizer."""

from __future__ import annotations

from edge_server.model.foundation_classes import known_classes
from edge_server.model.split.family import Family, register_family

# Every class that our own runner computes, and those that transformers answers with.
for _model_type in (*sorted(known_classes()), "gemma3_text", "smollm3"):
    register_family(Family(_model_type))
