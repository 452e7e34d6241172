"""Malformed messages found by coverage (atheris, the extra ``fuzz``): payload codec, frames, bundle loader.

    python -m tests.chaos.fuzz_coverage                            each target for a while, as a row
    python -m tests.chaos.fuzz_coverage frames -runs=1000000 DIR   one target, as libFuzzer takes it

A target is a process of its own: the fuzzer ends it as soon as something is wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.chaos.row import Row, main_of

RUNS = {"payloads": 2_000_000, "frames": 1_000_000, "bundles": 100_000}
"""At full scale."""

_INSTRUMENTED = ["protos", "device_agent", "edge_server.cell", "edge_server.frontdoor", "tarfile"]
_SECONDS_PER_TARGET = 1800


def run(scale: float = 1.0) -> Row:
    """Every target in a process, with so many runs of the full counts.

    Raises:
        RuntimeError: the fuzzer is not installed.
    """
    if find_spec("atheris") is None:
        raise RuntimeError("atheris is missing; install the extra: pip install '.[fuzz]'")
    from tests.chaos.fuzz_targets import seeds

    done: dict[str, int] = {}
    broken: dict[str, str] = {}
    for target, most in RUNS.items():
        with tempfile.TemporaryDirectory() as corpus:
            for number, seed in enumerate(seeds(target)):
                Path(corpus, str(number)).write_bytes(seed)
            done[target], complaint = _fuzz(target, max(2_000, round(most * scale)), corpus)
        if complaint:
            broken[target] = complaint
    figures: dict[str, float | int | str] = {f"{target}_runs": count for target, count in done.items()}
    return Row(
        "Malformed messages found by coverage",
        "0 crashes, 0 hangs; every refusal names its field",
        ", ".join(f"{count} {target}" for target, count in done.items()) + f"; {len(broken)} targets broken",
        not broken,
        figures | {f"{target}_broken": complaint for target, complaint in broken.items()},
    )


def _fuzz(target: str, runs: int, corpus: str) -> tuple[int, str]:
    """Runs that were done, and what the fuzzer said if it found something."""
    limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", f"-artifact_prefix={corpus}/"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.fuzz_coverage", target, f"-runs={runs}", *limits, corpus],
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
    """Entry point: a row of all targets, or one target under the fuzzer."""
    if len(sys.argv) < 2 or sys.argv[1] not in RUNS:
        main_of(run, str(__doc__).splitlines()[0])
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.chaos.fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]]())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
