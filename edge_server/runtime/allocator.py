"""What the process does with memory that was freed: it keeps it.

A batch's tensors are megabytes that come and go with every step. glibc gives blocks of that size back to the
kernel at once, and the kernel makes every page of the next one anew, which takes long where prompts are read.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's names for them, of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 256 * 2**20
# The most that glibc takes.
_BLOCK_BYTES = 32 * 2**20


def keep_freed_memory() -> bool:
    """Keep up to 256 MiB that were freed, in blocks of up to 32 MiB, for what needs memory next.

    Returns:
        Whether the process does now; only glibc's allocator can be told.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = [mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES), mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)]
    return all(done)
