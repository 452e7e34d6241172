"""What all commands of the project have in common, on the device and at the edge."""

from __future__ import annotations

from typing import Any, Literal

MARKUP: Literal["markdown"] = "markdown"
"""How help is written: units in brackets are text there, not markup."""
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Context settings of every command."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
