"""Malformed messages found by coverage (atheris, the extra ``fuzz``): payload codec, frames, bundle loader.

    python -m tests.chaos --row fuzz_coverage                           each target for a while
    python -m tests.chaos.rows.fuzz_coverage frames -runs=1000000 DIR   one target, as libFuzzer takes it

A target is a process of its own: the fuzzer ends it as soon as something is wrong.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from tests.chaos.row import Row, Scale, exactly

RUNS = {"payloads": 2_000_000, "frames": 1_000_000, "bundles": 100_000}
"""At full scale."""
SHARES: Mapping[Scale, float] = MappingProxyType({"test": 0.001, "quick": 0.02, "full": 1.0})
"""Of it."""

_INSTRUMENTED = ["protos", "device_agent", "edge_server.cell", "edge_server.frontdoor", "tarfile"]
_SECONDS_PER_TARGET = 1800


async def run(scale: Scale, folder: Path) -> Row:
    """Every target in a process of its own."""
    if find_spec("atheris") is None:
        return Row(
            "Malformed messages found by coverage",
            "nothing: atheris is not installed (pip install '.[fuzz]')",
            [exactly("targets fuzzed", 0, len(RUNS))],
        )
    from tests.chaos.fuzz_targets import seeds

    done: dict[str, int] = {}
    broken: dict[str, str] = {}
    for target, runs in RUNS.items():
        corpus = folder / target
        corpus.mkdir()
        for number, seed in enumerate(seeds(target)):
            Path(corpus, str(number)).write_bytes(seed)
        done[target], complaint = await asyncio.to_thread(_fuzz, target, round(runs * SHARES[scale]), corpus)
        if complaint:
            broken[target] = complaint
    return Row(
        "Malformed messages found by coverage",
        ", ".join(f"{count} {target}" for target, count in done.items()) + " through atheris",
        [exactly("targets that crash, hang, or refuse without a field", len(broken), 0)],
        {"runs": done, "broken": broken},
    )


def _fuzz(target: str, runs: int, corpus: Path) -> tuple[int, str]:
    """Runs that were done, and what the fuzzer said if it found something."""
    limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", f"-artifact_prefix={corpus}/"]
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.rows.fuzz_coverage",
            target,
            f"-runs={runs}",
            *limits,
            str(corpus),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS_PER_TARGET,
        check=False,
    )
    counted = re.findall(r"^#(\d+)\s+DONE", ended.stderr, re.M)
    if ended.returncode or not counted:
        return 0, (ended.stdout + ended.stderr)[-2000:]
    return int(counted[-1]), ""


def main() -> None:
    """Entry point: one target under the fuzzer."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.chaos.fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]]())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
