"""A bundle is run once, in another process, before it takes the place of one that works.

    unpacked, verified ─▶ a process of its own: tokenizer, every graph, within memory and time ─▶ it may stay
                                └─ no end, too much memory, broken: killed, and nothing is installed

Checksums say that a bundle is the server's; they do not say that its graphs end. The kernel keeps the limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from device_agent.errors import BundleError
from device_agent.stopping import Stop

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
_WALL_PER_CPU = 4.0
_WALL_SPARE_S = 20.0
"""A busy machine gives the process less than a processor, and it loads a library first."""


@dataclass(frozen=True)
class ProofLimits:
    """What running a bundle once may take.

    Attributes:
        cpu_s: of the processor, all graphs together [s].
        memory_bytes: the most, however large its graphs are.
    """

    cpu_s: float = 60.0
    memory_bytes: int = 2 * 2**30


def prove(folder: Path, limits: ProofLimits, stop: Stop | None = None) -> None:
    """Run the verified bundle in a folder once.

    Args:
        folder: of the bundle.
        limits: what that may take.
        stop: ends it early, from another thread.

    Raises:
        BundleError: it does not end within them, fails, or returns what its manifest rules out.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    process = subprocess.Popen(  # noqa: S603 (this interpreter, a module of ours)
        [sys.executable, "-P", "-m", "device_agent.prover", str(folder), json.dumps(asdict(limits))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the process that asks
    )
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(_WALL_SPARE_S + _WALL_PER_CPU * limits.cpu_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        with (stop or Stop()).ending(give_up):
            said, _ = process.communicate()
    finally:
        timer.cancel()
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
    if process.returncode == 0:
        with contextlib.suppress(ValueError, AttributeError):
            why = json.loads(said).get("error")
            if why is None:
                return
            raise BundleError(f"the bundle does not work, and is not installed: {why}")
    why = _ended(process.returncode, late.is_set(), limits)
    raise BundleError(f"the bundle does not work, and is not installed: {why}")


def _ended(code: int, late: bool, limits: ProofLimits) -> str:
    if late or code == -signal.SIGXCPU:
        return f"its graphs do not end within {limits.cpu_s:g} s of the processor (bundle_proof_s)"
    if code in (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGKILL, -signal.SIGSEGV):
        return f"its graphs take more memory than is allowed (bundle_max_memory_bytes: {limits.memory_bytes})"
    return "the process that ran its graphs broke"
