"""Makes the demo's clips: scenes of the test split, which no training ever sees, as MP4 with their questions.

    python deploy/demo/make_clips.py

Writes ``clips/*.mp4`` and ``questions.json`` beside this file. Takes the first clips of the split that, one
after the other, have a question of each of the nine types: much goes on in them, and they are harder than
most. A clip's questions begin with the one that a glance at it settles.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edge_server.data.soundstage.clip_file import write_mp4
from edge_server.data.soundstage.dataset import sample_scenes, video_id
from edge_server.data.soundstage.questions import Balancer, types

SEED = 1
CLIPS = 3
SEARCHED = 200
FIRST = ("Visual", "Location")


def main() -> None:
    """Write the clips and their questions."""
    here = Path(__file__).parent
    rng = np.random.default_rng(SEED)
    balancer = Balancer()
    rows: list[dict[str, object]] = []
    chosen = 0
    for index, scene in enumerate(sample_scenes("test", SEARCHED, SEED)):
        questions = balancer.choose(scene, rng)
        if len(questions) < len(types()):
            continue
        name = f"{video_id('test', index)}.mp4"
        write_mp4(scene, here / "clips" / name)
        rows += [
            {"clip": name, "type": list(q.template.type), "question": q.text, "answer": q.answer}
            for q in sorted(questions, key=lambda q: q.template.type != FIRST)
        ]
        chosen += 1
        if chosen == CLIPS:
            break
    (here / "questions.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{chosen} clips, {len(rows)} questions")


if __name__ == "__main__":
    main()
