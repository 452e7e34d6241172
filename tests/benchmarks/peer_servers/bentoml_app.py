"""BentoML with adaptive batching; started with ``bentoml serve``.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html : ``batchable``, ``max_batch_size``,
``max_latency_ms``.
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html : one worker per core.

A batchable API takes a list from every client, in JSON: questions travel in base64.
"""

# Annotations are evaluated: BentoML makes its schema of them.
import base64

import bentoml

from tests.benchmarks.peer_servers.answering import Answerer
from tests.benchmarks.peer_servers.settings import Settings

_SETTINGS = Settings.from_environment()


@bentoml.service(
    name="tokenlink",
    workers=_SETTINGS.workers,
    # One thread per worker calls the model; requests wait in the batcher, not at the door.
    threads=1,
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class TokenLink:
    """The model as a service."""

    def __init__(self) -> None:
        self._answerer = Answerer(_SETTINGS.model, _SETTINGS.threads, _SETTINGS.forward)

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True,
        max_batch_size=_SETTINGS.max_batch,
        # The latency that the batcher aims at, no fixed wait: it learns how long a batch takes.
        max_latency_ms=round(1000 * _SETTINGS.wait_s),
    )
    def predict(self, questions: list[str]) -> list[str]:
        """Answer a batch."""
        return self._answerer.answer([base64.b64decode(each) for each in questions])
