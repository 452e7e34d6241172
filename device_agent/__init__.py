"""The device agent: turns clips into tokens, sends them over an emulated radio channel, asks the edge.

Never imports torch, transformers or the edge server.
"""

from __future__ import annotations

import os

# From 1.29 on, ONNX Runtime's Linux builds report models and machines to their maker, unless this is set
# before it is imported. What a device does is nobody else's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
