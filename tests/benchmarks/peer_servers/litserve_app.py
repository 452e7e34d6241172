"""LitServe with batching, streaming off.

https://lightning.ai/docs/litserve/features/batching : ``max_batch_size`` and ``batch_timeout``.
https://lightning.ai/docs/litserve/api-reference/litserver : on a CPU as many ``workers_per_device`` as cores;
``fast_queue`` (ZeroMQ) above 100 requests per second.
"""

# Annotations are evaluated: LitServe hands them to FastAPI.
from typing import Annotated

import litserve as ls
from fastapi import Body

from tests.benchmarks.peer_servers.answering import Answerer
from tests.benchmarks.peer_servers.settings import Settings


class Served(ls.LitAPI):  # type: ignore[misc]  # typed only where LitServe is installed
    """The model behind LitServe's hooks."""

    def setup(self, device: str) -> None:
        """Once per worker."""
        settings = Settings.from_environment()
        self.answerer = Answerer(settings.model, settings.threads, settings.forward)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/x-protobuf")]) -> bytes:
        """The question as it came; it is read in the batch, like everywhere else."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """No tensors yet."""
        return inputs

    def predict(self, questions: list[bytes]) -> list[str]:
        """Answer a batch."""
        return self.answerer.answer(questions)

    def unbatch(self, output: list[str]) -> list[str]:
        """One answer per question."""
        return output


def main() -> None:
    """Entry point."""
    settings = Settings.from_environment()
    api = Served(max_batch_size=settings.max_batch, batch_timeout=settings.wait_s, stream=False)
    server = ls.LitServer(
        api, accelerator="cpu", workers_per_device=settings.workers, fast_queue=True, timeout=120.0
    )
    server.run(
        host="127.0.0.1",
        port=settings.port,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
