"""llama.cpp's part of :mod:`tests.benchmarks.decode_cost`, for an interpreter with ``llama-cpp-py-sync``.

    PYTHON decode_cost_llama.py GGUF FOLDER

Each line from standard input is JSON, ``{"type": "q8_0", "prompts": [[ids]], "tokens": N}``; each line to
standard output is the CPU time of a language token of its decode steps [s]. Weights of another type than the
file's are made from it, into FOLDER. One thread; nothing of this project is imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib  # type: ignore[import-not-found]

ffi: Any = get_ffi()
lib: Any = get_lib()
#: llama_ftype of each type of weights.
_TYPES = {"f32": 0, "q8_0": 7}


def weights(gguf: Path, folder: Path, kind: str) -> Path:
    """The model with weights of a type."""
    made = folder / f"{kind}.gguf"
    if not made.exists():
        asked = lib.llama_model_quantize_default_params()
        asked.ftype, asked.allow_requantize, asked.nthread = _TYPES[kind], True, 1
        if lib.llama_model_quantize(str(gguf).encode(), str(made).encode(), ffi.addressof(asked)):
            raise SystemExit(f"{gguf}: cannot be made {kind}")
    return made


class Context:
    """A model that is loaded, with room for so many rows."""

    def __init__(self, path: Path, rows: int, positions: int) -> None:
        asked = lib.llama_model_default_params()
        self._model = lib.llama_model_load_from_file(str(path).encode(), asked)
        if self._model == ffi.NULL:
            raise SystemExit(f"{path}: cannot be loaded")
        context = lib.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_seq_max = rows * positions, rows * positions, rows
        context.n_threads = context.n_threads_batch = 1
        self._context = lib.llama_init_from_model(self._model, context)
        self._width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._batch = lib.llama_batch_init(rows * positions, 0, 1)

    def decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """One pass over (token, position, row, whether something is said after it)."""
        for place, (token, position, row, says) in enumerate(entries):
            self._batch.token[place] = token
            self._batch.pos[place] = position
            self._batch.n_seq_id[place] = 1
            self._batch.seq_id[place][0] = row
            self._batch.logits[place] = says
        self._batch.n_tokens = len(entries)
        if lib.llama_decode(self._context, self._batch):
            raise SystemExit("llama_decode failed")

    def likeliest(self, place: int) -> int:
        """The likeliest token after an entry of the last pass."""
        logits = ffi.buffer(lib.llama_get_logits_ith(self._context, place), 4 * self._width)
        return int(np.frombuffer(logits, np.float32).argmax())

    def token_s(self, prompts: list[list[int]], tokens: int) -> float:
        """CPU time of a language token of the decode steps after prompts [s]."""
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        entries = [
            (token, position, row, position == len(prompt) - 1)
            for row, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        self.decode(entries)
        said = [self.likeliest(place) for place, entry in enumerate(entries) if entry[3]]
        began = time.process_time()
        for step in range(tokens - 1):
            self.decode([(token, len(prompts[row]) + step, row, True) for row, token in enumerate(said)])
            said = [self.likeliest(row) for row in range(len(prompts))]
        return (time.process_time() - began) / (tokens - 1) / len(prompts)


def main() -> None:
    """Answer lines until there are none."""
    gguf, folder = map(Path, sys.argv[1:])
    lib.llama_backend_init()
    known: dict[tuple[str, int], Context] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        prompts, tokens = asked["prompts"], asked["tokens"]
        key = asked["type"], len(prompts)
        if key not in known:
            positions = max(map(len, prompts)) + tokens
            known[key] = Context(weights(gguf, folder, asked["type"]), len(prompts), positions)
        print(json.dumps(known[key].token_s(prompts, tokens)), flush=True)


if __name__ == "__main__":
    main()
