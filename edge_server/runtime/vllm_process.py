"""vLLM as a process of its own: what its interpreter runs. Knows nothing of TokenLink.

    python vllm_process.py DESCRIPTOR SETTINGS     a socket that it inherits; JSON

    ◀─ {"add": [{"id", "shape", "sampling", "bias"}...], "drop": [id...], "step": [id...]}, and embeddings
    ─▶ {"said": {id: [token, logprob, [[token, logprob]...]]}}, or {"fault": text} and its end; meanwhile,
       every second, {"alive": true}: one that says nothing is stopped, or stuck

A message is its length and that of what follows it, eight bytes each, JSON, and the bytes that follow it. Of
each request in ``step`` one token is told. vLLM goes on with all requests at once: what others have said
meanwhile waits until it is asked for.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections import deque
from typing import Any

_ALIVE_EACH_S = 1.0
_LENGTHS = struct.Struct("<QQ")


def send(to: socket.socket, message: dict[str, Any], data: bytes = b"") -> None:
    """Send a message, and bytes behind it."""
    text = json.dumps(message).encode()
    to.sendall(_LENGTHS.pack(len(text), len(data)) + text)
    if data:
        to.sendall(data)


def receive(source: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """The next message, and the bytes behind it.

    Raises:
        EOFError: nobody is left who could send one.
    """
    text_bytes, data_bytes = _LENGTHS.unpack(_exactly(source, _LENGTHS.size))
    message: dict[str, Any] = json.loads(_exactly(source, text_bytes))
    return message, _exactly(source, data_bytes)


def _exactly(source: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        count = source.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return found


class Computing:
    """One engine of vLLM, in this process.

    Args:
        settings: ``model``, its folder; ``dtype``; ``max_positions``; ``max_rows``; ``compiled``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        from vllm import EngineArgs, LLMEngine

        arguments = EngineArgs(
            model=settings["model"],
            tokenizer=None,
            skip_tokenizer_init=True,
            enable_prompt_embeds=True,
            dtype=settings["dtype"],
            max_model_len=settings["max_positions"],
            max_num_seqs=settings["max_rows"],
            # Short prompts share what they begin with too.
            block_size=32,
            enforce_eager=not settings["compiled"],
            disable_log_stats=True,
            seed=0,
        )
        self._engine = LLMEngine.from_engine_args(arguments)
        self._positions = int(settings["max_positions"])
        self._ahead: dict[str, deque[list[Any]]] = {}

    def add(self, request: dict[str, Any], x_LE: Any) -> None:
        """Begin a request."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            **request["sampling"],
            logit_bias={int(token): float(bias) for token, bias in request["bias"]} or None,
            # Whoever asks says when it ends.
            max_tokens=self._positions - len(x_LE),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._ahead[request["id"]] = deque()
        self._engine.add_request(request["id"], {"prompt_embeds": x_LE}, sampling)

    def drop(self, ids: list[str]) -> None:
        """End requests."""
        for each in ids:
            self._ahead.pop(each, None)
        if ids:
            self._engine.abort_request(ids)

    def step(self, ids: list[str]) -> dict[str, list[Any]]:
        """A token of each request: as many steps as that takes."""
        while any(not self._ahead[each] for each in ids):
            if not self._engine.has_unfinished_requests():
                raise RuntimeError("a request ended by itself")
            for output in self._engine.step():
                (completion,) = output.outputs
                for token, logprobs in zip(completion.token_ids, completion.logprobs, strict=True):
                    others = [[each, found.logprob] for each, found in logprobs.items()]
                    said = [int(token), logprobs[token].logprob, others]
                    if output.request_id in self._ahead:
                        self._ahead[output.request_id].append(said)
        return {each: self._ahead[each].popleft() for each in ids}


class SignsOfLife:
    """Says every second that this process lives, for as long as it is entered; from a thread of its own.

    Args:
        to: whom it is said to; nothing else is sent there meanwhile.
    """

    def __init__(self, to: socket.socket) -> None:
        self._to = to
        self._busy = threading.Event()
        self._turn = threading.Lock()
        threading.Thread(target=self._say, daemon=True).start()

    def __enter__(self) -> None:
        self._busy.set()

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._busy.clear()

    def _say(self) -> None:
        while True:
            self._busy.wait()
            with self._turn:
                if self._busy.is_set():
                    try:
                        send(self._to, {"alive": True})
                    except OSError:
                        return
            time.sleep(_ALIVE_EACH_S)


def main() -> None:
    """Compute until nobody is left who asks."""
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        signs = SignsOfLife(asking)
        try:
            with signs:
                import numpy as np
                import torch

                computing = Computing(json.loads(sys.argv[2]))
            send(asking, {"ready": True})
            while True:
                message, data = receive(asking)
                begin = 0
                with signs:
                    for request in message["add"]:
                        rows, width = request["shape"]
                        values = np.frombuffer(data, np.float32, rows * width, begin).copy()
                        begin += values.nbytes
                        computing.add(request, torch.from_numpy(values.reshape(rows, width)))
                    computing.drop(message["drop"])
                    said = computing.step(message["step"])
                send(asking, {"said": said})
        except EOFError:
            pass
        except Exception as error:
            send(asking, {"fault": f"{type(error).__name__}: {error}"})
    # Threads of its libraries need not come to an end.
    os._exit(0)


if __name__ == "__main__":
    main()
