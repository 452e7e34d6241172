"""Ray Serve with ``@serve.batch``.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html : batching, its size and its wait.
https://docs.ray.io/en/latest/serve/advanced-guides/performance.html : ``max_ongoing_requests`` well above the
batch size, no access log, ``OMP_NUM_THREADS`` and ``num_cpus`` per replica.
https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html : high-throughput mode and
HAProxy, by environment variables that :mod:`tests.benchmarks.peers.contestants` sets.
https://docs.ray.io/en/latest/serve/advanced-guides/asyncio-best-practices.html : what blocks runs in a
thread.
"""

# Annotations are evaluated: Ray Serve looks for a request's type.
import asyncio
import os
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tests.benchmarks.peer_servers.answering import Answerer
from tests.benchmarks.peer_servers.settings import Settings

CORES = 2
_OBJECT_STORE_BYTES = 128 * 2**20
_MOST_ONGOING = 1024


def application(settings: Settings) -> serve.Application:
    """The deployment, set up."""

    class Served:
        def __init__(self) -> None:
            self._answerer = Answerer(settings.model, settings.threads, settings.forward)
            self._thread = ThreadPoolExecutor(1)

        @serve.batch(  # type: ignore[untyped-decorator]
            max_batch_size=settings.max_batch, batch_wait_timeout_s=settings.wait_s
        )
        async def answer(self, questions: list[bytes]) -> list[str]:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._answerer.answer, questions)

        async def __call__(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse(await self.answer(await request.body()))

    deployment = serve.deployment(
        name="tokenlink",
        num_replicas=settings.workers,
        max_ongoing_requests=_MOST_ONGOING,
        # Replicas share half of what the cluster has; the rest is for proxy and controller.
        ray_actor_options={"num_cpus": CORES / settings.workers / 2},
    )(Served)
    return deployment.bind()


def main() -> None:
    """Entry point."""
    settings = Settings.from_environment()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    with tempfile.TemporaryDirectory(prefix="tl-ray-") as scratch:
        ray.init(
            num_cpus=CORES,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=scratch,
            configure_logging=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": settings.port}, logging_config=quiet)
            serve.run(application(settings), route_prefix="/predict", logging_config=quiet)
            done.wait()
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    main()
