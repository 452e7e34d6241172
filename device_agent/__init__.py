"""The device agent: turns clips into tokens, sends them over an emulated radio channel, asks the edge.

Never imports torch, transformers or the edge server.
"""

from __future__ import annotations
