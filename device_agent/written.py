"""Text that people wrote, with whatever editor they have: settings, questions, traces, keys.

Editors and shells of Windows put a mark before the text that says how it is coded; some write UTF-16. The
mark is no part of the text.
"""

from __future__ import annotations

import codecs
from pathlib import Path

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def written_text(path: Path) -> str:
    """A file's text: UTF-8, marked or not, or UTF-16 that is marked.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is neither.
    """
    data = path.read_bytes()
    return data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
