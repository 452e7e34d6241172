"""The same users for Locust, for those who want its web page: devices over gRPC, clients over REST.

    make locust                                          beside a server of its own, on http://localhost:8089
    python -m locust -f deploy/loadtest/locustfile.py --host http://127.0.0.1:8080 --grpc 127.0.0.1:50051

Run from the root of the repository.
"""

from __future__ import annotations

import base64
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from grpc.experimental import gevent as grpc_gevent
from locust import FastHttpUser, User, between, events, task
from locust.env import Environment

from deploy.loadtest.questions import DEMO, demo_questions, fetch_bundle, random_block, template_of
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub

grpc_gevent.init_gevent()  # Locust has patched the standard library by now; gRPC needs its own

CALL_WITHIN_S = 30.0
SEED = 1
_user_numbers = itertools.count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument(
        "--grpc",
        default=os.environ.get("TOKENLINK_DEVICE_SERVER", "127.0.0.1:50051"),
        help="gRPC door of the edge server, host:port",
    )


@events.init.add_listener  # type: ignore[untyped-decorator]
def _default_host(environment: Environment, **_: Any) -> None:
    environment.host = environment.host or os.environ.get("TOKENLINK_REST_URL", "http://127.0.0.1:8080")


class DeviceUser(User):
    """A device: opens a session, then asks over gRPC."""

    weight = 3
    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        """Fetch the bundle, open a session."""
        number = next(_user_numbers)
        self.rng = np.random.default_rng([SEED, number])
        self.channel = grpc.insecure_channel(self.environment.parsed_options.grpc)
        self.stub = TokenLinkStub(self.channel)  # type: ignore[no-untyped-call]  # generated
        self.bundle = fetch_bundle(self.stub)
        self.questions = [row["question"] for row in demo_questions()]
        opened = self.stub.OpenSession(
            pb.OpenSessionRequest(
                device_id=f"loadtest-{number}",
                bundle_hash=self.bundle.hash,
                agent_version="loadtest",
                snr_db=10.0,
            ),
            timeout=CALL_WITHIN_S,
        )
        self.session_id, self.most_tokens = opened.session_id, opened.grant.max_token_length

    def on_stop(self) -> None:
        """Give the session back."""
        self.stub.CloseSession(pb.CloseSessionRequest(session_id=self.session_id), timeout=CALL_WITHIN_S)
        self.channel.close()

    @task(3)
    def ask_about_video_and_sound(self) -> None:
        """Both feature modalities."""
        self._ask("Ask (video, audio)", ("video", "audio"))

    @task(1)
    def ask_about_sound(self) -> None:
        """One of them missing."""
        self._ask("Ask (audio)", ("audio",))

    def _ask(self, name: str, modalities: tuple[str, ...]) -> None:
        lengths = [length for length in self.bundle.token_lengths if length <= self.most_tokens]
        text = self.questions[self.rng.integers(len(self.questions))]
        blocks = [
            random_block(self.rng, self.bundle.channel_dim, modality, int(self.rng.choice(lengths)))
            for modality in modalities
        ]
        question = pb.Question.FromString(template_of(self.bundle, text, blocks).ask().data)
        request = pb.AskRequest(session_id=self.session_id, bundle_hash=self.bundle.hash, question=question)
        self._measured(name, lambda: self.stub.Ask(request, timeout=CALL_WITHIN_S))

    def _measured(self, name: str, call: Callable[[], Iterator[pb.DownlinkFrame]]) -> None:
        """Read a stream to its end and tell Locust; every question has to end with one answer."""
        began_s = time.perf_counter()
        fault: Exception | None = None
        received_bytes = 0
        try:
            frames = list(call())
            received_bytes = sum(frame.ByteSize() for frame in frames)
            if [frame.WhichOneof("body") == "answer" for frame in frames].count(True) != 1:
                fault = AssertionError(f"{len(frames)} frames, not one answer")
        except grpc.RpcError as error:
            fault = error
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=received_bytes,
            exception=fault,
            context={},
        )


class RestUser(FastHttpUser):
    """A client of the OpenAI API, and of TokenLink's own."""

    weight = 1
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Learn the model's name; read the clips."""
        self.rng = np.random.default_rng([SEED, next(_user_numbers)])
        self.model = self.client.get("/v1/models").json()["data"][0]["id"]
        self.rows = demo_questions()
        names = {row["clip"] for row in self.rows}
        self.clips = {name: base64.b64encode((DEMO / "clips" / name).read_bytes()).decode() for name in names}

    @task(2)
    def ask_in_words(self) -> None:
        """Text only."""
        row = self._any_row()
        self._chat("chat (text)", [{"type": "text", "text": row["question"]}])

    @task(1)
    def ask_about_a_clip(self) -> None:
        """A whole MP4, which the server decodes and tokenises."""
        row = self._any_row()
        url = f"data:video/mp4;base64,{self.clips[row['clip']]}"
        content = [
            {"type": "text", "text": row["question"]},
            {"type": "video_url", "video_url": {"url": url}},
        ]
        self._chat("chat (video)", content)

    @task(1)
    def infer(self) -> None:
        """The native door."""
        row = self._any_row()
        self.client.post("/v1/infer", json={"question": row["question"]}, name="/v1/infer")

    def _any_row(self) -> dict[str, Any]:
        return self.rows[self.rng.integers(len(self.rows))]

    def _chat(self, name: str, content: list[dict[str, Any]]) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        self.client.post("/v1/chat/completions", json=body, name=name)
