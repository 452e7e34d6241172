"""The batching engine: questions of many users through one model, a step at a time.

    submit ──▶ queue (fair, bounded) ──▶ scheduler (a thread) ──▶ narrator (a thread) ──▶ AnswerStream
                                            │  prefill, decode, keep
                                            ▼
                                          Core (a port: :mod:`edge_server.engine.model`)

Knows no transport and no model library.
"""

from edge_server.engine.answer import AnswerStream
from edge_server.engine.config import EngineConfig
from edge_server.engine.engine import Engine
from edge_server.engine.model import (
    BatchLostError,
    Core,
    FeatureBlock,
    InvalidPromptError,
    Model,
    Prompt,
    Step,
)
from edge_server.engine.observer import EngineObserver, Outcome, SilentObserver
from edge_server.engine.request import Completion, Delta, Event, Priority, Request

__all__ = [
    "AnswerStream",
    "BatchLostError",
    "Completion",
    "Core",
    "Delta",
    "Engine",
    "EngineConfig",
    "EngineObserver",
    "Event",
    "FeatureBlock",
    "InvalidPromptError",
    "Model",
    "Outcome",
    "Priority",
    "Prompt",
    "Request",
    "SilentObserver",
    "Step",
]
