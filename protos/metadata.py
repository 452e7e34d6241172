"""gRPC metadata keys that both sides must spell alike."""

from __future__ import annotations

FAILURE_KEY = "tokenlink-failure-bin"
"""Trailing metadata of a call that failed: a serialised ``Failure``, with field and retry delay."""
