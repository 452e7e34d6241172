"""The batching engine: questions of many users through one model, a step at a time.

    submit ──▶ queue (fair, bounded) ──▶ scheduler (a thread) ──▶ detokenizer (a thread) ──▶ AnswerStream
                                            │  prefill, decode, keep
                                            ▼
                                          ModelRunner (a port: :mod:`edge_server.engine.ports`)

Knows no transport and no model library.
"""

from edge_server.engine.acceptance import deadline_of
from edge_server.engine.answer import AnswerStream
from edge_server.engine.client import EngineClient, EngineStatus
from edge_server.engine.config import EngineConfig
from edge_server.engine.engine import Engine
from edge_server.engine.observer import EngineObserver, QuestionEnd, SilentObserver
from edge_server.engine.ports import (
    BatchLostError,
    FeatureBlock,
    InvalidPromptError,
    Model,
    ModelRunner,
    Prompt,
    Step,
)
from edge_server.engine.request import AskedAs, Completion, Delta, Event, Priority, Request, Token
from edge_server.engine.sampling import GREEDY, Sampling

__all__ = [
    "GREEDY",
    "AnswerStream",
    "AskedAs",
    "BatchLostError",
    "Completion",
    "Delta",
    "Engine",
    "EngineClient",
    "EngineConfig",
    "EngineObserver",
    "EngineStatus",
    "Event",
    "FeatureBlock",
    "InvalidPromptError",
    "Model",
    "ModelRunner",
    "Priority",
    "Prompt",
    "QuestionEnd",
    "Request",
    "Sampling",
    "SilentObserver",
    "Step",
    "Token",
    "deadline_of",
]
