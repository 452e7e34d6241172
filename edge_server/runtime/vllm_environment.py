"""Where vLLM is installed. Light to import: no torch."""

from __future__ import annotations

from pathlib import Path

from device_agent.places import cache


def interpreter() -> Path:
    """The interpreter of vLLM's environment, which ``edge-server engines install vllm`` makes."""
    return cache() / "engines" / "vllm" / "bin" / "python"
