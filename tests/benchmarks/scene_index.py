"""Search over a million scenes that were made up: how long, how much memory, how much of the truth is found.

    python -m tests.benchmarks.scene_index --out docs/results/scene_index.json

Scenes are rows of a real file, with 600 bytes of tokens each; their vectors lie around centres, as those of
scenes that show the same do, with a mean of their own. The truth is numpy's: every vector of the file against
the question's, in memory. Both answer the same questions in turn, on one thread. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edge_server.model.provenance import current_commit
from edge_server.scenes import Scene, SceneBlock, SceneBounds, SqliteScenes, Wanted
from tests.benchmarks.device_report import machine

DIM, CENTRES, NEAREST = 128, 2000, 10
_SPREAD, _LEAN = 0.6, 1.0
_TOKENS = bytes(600)


def vectors(count: int, rng: np.random.Generator, centres_CD: np.ndarray) -> np.ndarray:
    """Unit vectors around centres, all leaning to one side, [count, DIM]."""
    chosen = rng.integers(0, len(centres_CD), count)
    made = centres_CD[chosen] + _SPREAD * rng.standard_normal((count, DIM)).astype(np.float32) / DIM**0.5
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def fill(store: SqliteScenes, made_ND: np.ndarray) -> float:
    """Put scenes in, many at a time; how long it took [s]."""
    began_s = time.perf_counter()
    rows = (
        (
            *(f"s{n:016x}", f"camera-{n % 50}", float(n), 4.0, "b" * 64),
            json.dumps({"blocks": [["video", 16, 10.0, len(_TOKENS)]]}).encode() + b"\n" + _TOKENS,
            *(1e12, "made", made_ND[n].tobytes(), len(_TOKENS)),
        )
        for n in range(len(made_ND))
    )
    with store.transaction():
        store.connection.executemany(
            "INSERT INTO scene (scene_id, device, start_s, length_s, bundle_hash, blocks, keep_until_s, "
            "space, vector, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    return time.perf_counter() - began_s


def measure(scenes: int, questions: int, folder: Path, seed: int = 1) -> dict[str, Any]:
    """Fill a file, and ask it."""
    rng = np.random.default_rng(seed)
    lean_D = _LEAN * rng.standard_normal(DIM) / DIM**0.5
    centres_CD = (rng.standard_normal((CENTRES, DIM)) / DIM**0.5 + lean_D).astype(np.float32)
    made_ND = vectors(scenes, rng, centres_CD)
    asked_QD = vectors(questions, rng, centres_CD)
    path = folder / "scenes.db"
    store = SqliteScenes(path, SceneBounds(per_device=10**9, in_all=10**9, max_bytes=10**15))
    fill_s = fill(store, made_ND)
    store.close()
    process = psutil.Process()
    before = process.memory_info().rss
    store = SqliteScenes(path, SceneBounds(per_device=10**9, in_all=10**9, max_bytes=10**15))
    began_s = time.perf_counter()
    store.search("made", asked_QD[0], Wanted(), NEAREST)
    index_s = time.perf_counter() - began_s
    memory = process.memory_info().rss - before
    ours_s, brute_s, found, filtered_s = [], [], 0, []
    for asked_D in asked_QD:
        began_s = time.perf_counter()
        ours = store.search("made", asked_D, Wanted(), NEAREST)
        ours_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        scores = made_ND @ asked_D
        truth = np.argpartition(-scores, NEAREST)[:NEAREST]
        brute_s.append(time.perf_counter() - began_s)
        found += len({int(n) for n in truth} & {int(each.scene.start_s) for each in ours})
        began_s = time.perf_counter()
        store.search("made", asked_D, Wanted(("camera-7",), since_s=scenes / 2), NEAREST)
        filtered_s.append(time.perf_counter() - began_s)
    put_s = []
    for number in range(50):
        block = SceneBlock("video", 16, 10.0, _TOKENS)
        scene = Scene(
            f"t{number:016x}", "camera-x", 1e7 + number, 4.0, "b" * 64, (block,), 1e12, "made", asked_QD[0]
        )
        began_s = time.perf_counter()
        store.put(scene)
        put_s.append(time.perf_counter() - began_s)
    store.close()
    recall = found / (NEAREST * questions)
    p50_s = statistics.median(ours_s)
    return {
        "scenes": scenes,
        "dim": DIM,
        "questions": questions,
        "nearest": NEAREST,
        "recall": recall,
        "p50_ms": 1e3 * p50_s,
        "p95_ms": 1e3 * sorted(ours_s)[int(0.95 * len(ours_s))],
        "filtered_p50_ms": 1e3 * statistics.median(filtered_s),
        "brute_force_p50_ms": 1e3 * statistics.median(brute_s),
        "index_memory_bytes": memory,
        "brute_force_memory_bytes": made_ND.nbytes,
        "file_bytes": path.stat().st_size,
        "fill_s": fill_s,
        "index_made_in_s": index_s,
        "put_p50_ms": 1e3 * statistics.median(put_s),
        "met": p50_s < 0.1 and recall >= 0.95,
    }


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.scenes, arguments.questions, Path(folder))
    report = {
        "command": "python -m tests.benchmarks.scene_index",
        "measures": ["edge_server/scenes"],
        "commit": current_commit(),
        "machine": machine(),
        **found,
        "promises": [
            {
                "what": WHAT,
                "measured": f"p50 {found['p50_ms']:.0f} ms; numpy {found['brute_force_p50_ms']:.0f} ms; "
                f"recall {found['recall']:.3f}; {found['index_memory_bytes'] / 2**20:.0f} MiB, "
                f"brute force {found['brute_force_memory_bytes'] / 2**20:.0f} MiB",
                "met": found["met"],
            }
        ],
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


WHAT = "Search over 1 million scenes: p50; recall of the index"
"""As in ``promises/asked/scenes.toml``."""

if __name__ == "__main__":
    main()
