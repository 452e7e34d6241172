"""PyTriton: Triton's dynamic batcher before Python functions.

https://triton-inference-server.github.io/pytriton/latest/inference_callables/ : ``@batch``, numpy in and out.
https://triton-inference-server.github.io/pytriton/latest/binding_models/ : ``max_batch_size``,
``DynamicBatcher``, several callables for several instances.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html : a batch is as
large as what waits, and by default does not wait for more; a delay only where that gains throughput.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.benchmarks.peer_servers.answering import Answerer
from tests.benchmarks.peer_servers.settings import Settings

Strings = npt.NDArray[np.object_]


def instance(settings: Settings) -> Callable[..., Any]:
    """A callable with a copy of the model; Triton calls it from one thread."""
    answerer = Answerer(settings.model, settings.threads, settings.forward)

    @batch  # type: ignore[untyped-decorator]
    def infer(question: Strings) -> dict[str, Strings]:
        texts = answerer.answer(question[:, 0].tolist())
        answers = np.array([text.encode() for text in texts], dtype=object)
        return {"answer": answers[:, None]}

    served: Callable[..., Any] = infer
    return served


def main() -> None:
    """Entry point."""
    settings = Settings.from_environment()
    logging.basicConfig(level=logging.WARNING)
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=settings.port,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with (
        tempfile.TemporaryDirectory(prefix="triton-") as scratch,
        Triton(config=config, workspace=Path(scratch, "workspace")) as triton,
    ):
        triton.bind(
            model_name="tokenlink",
            infer_func=[instance(settings) for _ in range(settings.workers)],
            inputs=[Tensor(name="question", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="answer", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=settings.max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(1e6 * settings.wait_s)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
