"""A plain loop over perfect batches, through the same model code that serves.

python -m tests.benchmarks.serving.offline_loop MODEL SEED BATCHES USERS THREADS

Questions are those of the load test's users, read by the server's own code; batches are as large as a
server's and full, and a row that has ended leaves its batch. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from deploy.loadtest.profile import Group
from deploy.loadtest.questions import Bundle
from deploy.loadtest.users import Users
from device_agent.bundle.bundle import load_bundle
from edge_server.engine import FeatureBlock, Prompt
from edge_server.runtime.model_runner import ServedLink, load
from edge_server.server.config import ServerConfig
from protos import payload
from protos.names import MODALITIES
from protos.tokenlink.v1 import tokenlink_pb2 as pb

WARM_BATCHES = 5


def prompts_of(model: Path, seed: int, count: int, users: int) -> list[Prompt]:
    """So many questions of these users, as the front door would hand them on."""
    installed = load_bundle(model / "bundle")
    manifest = installed.manifest
    words = Tokenizer.from_file(str(installed.folder / "tokenizer.json"))
    bundle = Bundle(installed.hash, manifest.channel_dim, tuple(manifest.token_lengths), words)
    asking = Users(Group(count=users, token_lengths=(16,)), bundle, 0, seed)
    questions = [pb.Question.FromString(asking.draw(n % users).data) for n in range(count)]
    return [
        Prompt(
            tuple(
                FeatureBlock(
                    MODALITIES.of_number[block.modality],
                    payload.decode(block, max_token_length=block.shape[0], channel_dim=block.shape[1]),
                    payload.reported_snr_db(block),
                )
                for block in question.payloads
            ),
            tuple(question.question_ids),
        )
        for question in questions
    ]


def answer(model: ServedLink, prompts: Sequence[Prompt], most_tokens: int) -> list[list[int]]:
    """One batch to its end: language token ids of each answer."""
    state, steps = model.prefill(prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    while True:
        going_on = []
        for place, (row, step) in enumerate(zip(rows, steps, strict=True)):
            if step.token_id != model.eos_id:
                answers[row].append(step.token_id)
                if len(answers[row]) < most_tokens:
                    going_on.append(place)
        if not going_on:
            return answers
        if len(going_on) < len(rows):
            state = model.keep(state, going_on)
            rows = [rows[place] for place in going_on]
        state, steps = model.decode(state)


def main() -> None:
    model_folder, seed, batches, users, threads = Path(sys.argv[1]), *map(int, sys.argv[2:6])
    config = ServerConfig(model=model_folder)
    model = load(model_folder, replace(config.runtime.computing, threads=threads))
    size = config.engine.max_batch
    # Perfect: no batch pads a short question for a long one's sake.
    prompts = sorted(prompts_of(model_folder, seed, batches * size, users), key=model.check)
    made = [prompts[begin : begin + size] for begin in range(0, len(prompts), size)]
    for batch in made[:WARM_BATCHES]:
        answer(model, batch, config.engine.default_new_tokens)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for batch in made:
        answer(model, batch, config.engine.default_new_tokens)
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    found = {"cpu_s_per_question": took_cpu_s / len(prompts), "answered_hz": len(prompts) / took_s}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
