"""Memory that was freed and is needed again does not come from the kernel anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from edge_server.runtime.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
def step():
    # As in a step: megabytes, some of them freed last.
    blocks = [np.ones(1_000_000, np.float32) for _ in range(8)]
    del blocks
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    code = COUNT.replace("{keep}", str(keep))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_steps_that_free_and_take_memory_meet_few_new_pages() -> None:
    # 32 MB a step are 8,000 pages; a process that was told nothing meets them all anew.
    assert faults(keep=True) < 1_000 < faults(keep=False)


def test_elsewhere_it_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_server.runtime.allocator import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
