"""The second question about a scene against the first: what the server computes, and what the device sends.

    python -m tests.benchmarks.scene_questions --out docs/results/scene_questions.json

Scenes of tokens that were made up are shared with a server of its own; then each is asked about twice, one
question at a time, every scene first once and then once more, in words of their own. Counted is the processor
time of the server and all of its processes. One batch, so that whoever read a scene is asked about it again.
First and second questions take turns in parts of the scenes; told is the median of the parts' ratios, and
between which they lie.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from deploy.with_server import edge_server
from device_agent.bundle.bundle import load_bundle
from device_agent.uplink.uplink import Uplink
from edge_server.model.provenance import current_commit
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.device_report import machine

WHAT = "Second question about a scene over the first: server CPU; uplink"
"""As in ``promises/asked/scenes.toml``."""
QUESTIONS = ("Where is the loudest instrument?", "Which instrument is the loudest?")
_TOKEN_LENGTH, _MEDIA = 16, ("video", "audio")
_PARTS = 7


async def ask_all(address: str, pid: int, bundle: Path, scenes: int) -> dict[str, Any]:
    """Share, ask, ask again."""
    manifest = load_bundle(bundle).manifest
    rng = np.random.default_rng(1)
    server = psutil.Process(pid)

    def cpu_s() -> float:
        found = [server, *server.children(recursive=True)]
        return sum(process.cpu_times().user + process.cpu_times().system for process in found)

    async with Uplink(address, load_bundle(bundle).hash, device_id="bench") as uplink:
        for number in range(scenes):
            blocks = [
                payload.encode(
                    rng.standard_normal((_TOKEN_LENGTH, manifest.channel_dim)).astype(np.float32) * 0.5**0.5,
                    modality,
                    "int8",
                    pb.ChannelReport(effective_snr_db=10.0),
                )
                for modality in _MEDIA
            ]
            share = pb.Share(device=f"camera-{number}", start_s=1.0, length_s=4.0)
            await uplink.ask(
                pb.Question(request_id=uuid.uuid4().hex, payloads=blocks, share=share), deadline_s=60.0
            )
        cpu_s_by_part, largest = [], 0
        for part in np.array_split(np.arange(scenes), _PARTS):
            took_s = []
            for text in QUESTIONS:
                before_s = cpu_s()
                for number in part:
                    question = pb.Question(
                        request_id=uuid.uuid4().hex[:8],
                        scenes=[pb.SceneRef(device=f"camera-{number}")],
                        question_text=text,
                        whole_answer=True,
                    )
                    answered = await uplink.ask(question, deadline_s=60.0)
                    largest = max(largest, answered.bytes_on_wire)
                took_s.append((cpu_s() - before_s) / len(part))
            cpu_s_by_part.append(took_s)
    first_s, second_s = np.median(cpu_s_by_part, axis=0)
    ratios = sorted(second / first for first, second in cpu_s_by_part)
    return {
        "parts": _PARTS,
        "first_cpu_s": first_s,
        "second_cpu_s": second_s,
        "ratio": float(np.median(ratios)),
        "ratio_least": ratios[0],
        "ratio_most": ratios[-1],
        "uplink_bytes": largest,
    }


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("deploy/models/soundstage-small"))
    parser.add_argument("--scenes", type=int, default=700)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings = {"TOKENLINK_SERVER_BATCHES": "1", "TOKENLINK_SERVER_UI": "off"}
    with edge_server(arguments.model, settings) as found:
        told = asyncio.run(
            ask_all(
                found["TOKENLINK_DEVICE_SERVER"],
                int(found["TOKENLINK_SERVER_PID"]),
                arguments.model / "bundle",
                arguments.scenes,
            )
        )
    met = told["ratio"] <= 0.6 and told["uplink_bytes"] < 100
    report = {
        "command": "python -m tests.benchmarks.scene_questions",
        "measures": ["edge_server/runtime", "edge_server/scenes"],
        "commit": current_commit(),
        "machine": machine(),
        "scenes": arguments.scenes,
        **told,
        "promises": [
            {
                "what": WHAT,
                "measured": f"{told['ratio']:.2f}; {told['uplink_bytes']} bytes",
                "met": met,
            }
        ],
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
