"""gRPC metadata keys that both sides must spell alike."""

from __future__ import annotations

TRACEPARENT_KEY = "traceparent"
"""Metadata of an Ask call and header of a REST request: W3C Trace Context of the span that asks."""

FAILURE_KEY = "tokenlink-failure-bin"
"""Trailing metadata of a call that failed: a serialised ``Failure``, with field and retry delay."""
