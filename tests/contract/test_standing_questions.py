"""Standing questions from a shared scene to a real broker and a real webhook: none missed, none doubled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from device_agent.uplink.uplink import Uplink
from edge_server.engine import Prompt
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule
from tests.broker import MOSQUITTO, Broker
from tests.contract.conftest import Running
from tests.contract.test_scenes import ask, share
from tests.waiting import PATIENCE_S, until
from tests.weightless import BUNDLE_HASH, WeightlessModel

pytest.importorskip("aiomqtt", reason="aiomqtt (the extra scenes) is not installed")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto (Debian's package) is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {"scenes": tmp_path / "scenes.db"}


@pytest.fixture
def model() -> WeightlessModel:
    """Says yes where the video has 16 tokens, and no where it has fewer."""

    def answer(prompt: Prompt) -> str:
        return "yes" if len(prompt.blocks[0].x_TC) == 16 else "No."

    return WeightlessModel(answer=answer)


@pytest.fixture
async def uplink(running: Running) -> AsyncIterator[Uplink]:
    async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="d-1", lasting=lambda: 1e6) as made:
        yield made


async def add(running: Running, rule: Rule) -> None:
    await running.server.desk.scenes.call(lambda store: RuleFile(store).add(rule))  # type: ignore[arg-type]


async def share_all(uplink: Uplink, answers: str, device: str = "camera-1", first: int = 0) -> None:
    for number, letter in enumerate(answers, first):
        start_s = 1e6 - 1000.0 + 10.0 * number
        await ask(uplink, share(device, f"{device}-{number}", start_s, video=16 if letter == "y" else 4))


def waiting(running: Running) -> Any:
    async def none() -> bool:
        def left(store: Any) -> int:
            file = RuleFile(store)
            return len(file.unjudged(9)) + len(file.notices(9))

        return await running.server.desk.scenes.call(left) == 0

    return none


@needs_broker
async def test_each_turn_reaches_the_broker_once_in_order(
    running: Running, uplink: Uplink, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.start()
    heard: list[tuple[str, str, bool]] = []
    listening = asyncio.create_task(broker.listen(heard))
    await add(running, Rule("violin", "Is a violin playing?", "camera-*", "yes", 15.0, (broker.url,), 0.0))
    await share_all(uplink, "nyyyynyynnnnyyy")
    await share_all(uplink, "yyyy", "mic")  # no rule asks about it
    await until(waiting(running))
    await until(lambda: sum(topic.endswith("/state") for topic, _, _ in heard) >= 3)
    listening.cancel()
    topic = "tokenlink/rules/violin/camera-1"
    states = [payload for name, payload, _ in heard if name == f"{topic}/state"]
    assert states == ["on", "off", "on"]
    events = [json.loads(payload) for name, payload, _ in heard if name == f"{topic}/event"]
    assert [each["state"] for each in events] == ["on", "off", "on"]
    assert len({each["id"] for each in events}) == 3
    assert events[0]["answer"] == "yes"
    (config,) = [json.loads(body) for name, body, _ in heard if name.startswith("homeassistant/")]
    assert config["state_topic"] == f"{topic}/state"
    assert (config["payload_on"], config["device"]["name"]) == ("on", "camera-1")
    assert "s3cret" not in caplog.text


@needs_broker
async def test_notices_wait_for_a_broker_that_is_away(
    running: Running, uplink: Uplink, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await add(running, Rule("violin", "Is a violin playing?", "*", "yes", 0.0, (broker.url,), 0.0))
    await share_all(uplink, "ynyn")
    await until(lambda: "takes no notices" in caplog.text)
    assert caplog.text.count("takes no notices") == 1
    assert "s3cret" not in caplog.text
    broker.start()
    heard: list[tuple[str, str, bool]] = []
    listening = asyncio.create_task(broker.listen(heard))
    await until(waiting(running))
    await until(lambda: any(topic.endswith("/state") and payload == "off" for topic, payload, _ in heard))
    listening.cancel()


@needs_broker
async def test_a_broker_that_forgot_everything_is_told_how_things_are(
    running: Running, uplink: Uplink, broker: Broker
) -> None:
    broker.start()
    heard: list[tuple[str, str, bool]] = []
    listening = asyncio.create_task(broker.listen(heard))
    await add(running, Rule("violin", "Is a violin playing?", "*", "yes", 0.0, (broker.url,), 0.0))
    await share_all(uplink, "y")
    await share_all(uplink, "n", "mic")
    await until(waiting(running))
    await until(lambda: any(topic.endswith("/state") for topic, _, _ in heard))
    listening.cancel()
    # It keeps nothing on its disk; and nothing turns meanwhile that there were a notice of.
    broker.kill()
    broker.start()
    anew: list[tuple[str, str, bool]] = []
    listening = asyncio.create_task(broker.listen(anew))
    await until(lambda: sum(topic.endswith("/state") for topic, _, _ in anew) >= 2)
    listening.cancel()
    states = {topic: payload for topic, payload, _ in anew if topic.endswith("/state")}
    topic = "tokenlink/rules/violin"
    assert states == {f"{topic}/camera-1/state": "on", f"{topic}/mic/state": "off"}
    configs = [json.loads(body) for name, body, _ in anew if name.startswith("homeassistant/")]
    assert {config["state_topic"] for config in configs} == set(states)
    assert not any(topic.endswith("/event") for topic, _, _ in anew)
    # Whoever comes later is told by the broker.
    late: list[tuple[str, str, bool]] = []
    listening = asyncio.create_task(broker.listen(late))
    await until(lambda: len(late) >= 4)
    listening.cancel()
    assert all(retained for _, _, retained in late)
    assert {(name, payload) for name, payload, _ in late} == {(name, payload) for name, payload, _ in anew}


async def test_a_webhook_is_told_again_until_it_answers(running: Running, uplink: Uplink) -> None:
    told: list[dict[str, Any]] = []
    failures = [503, 500]

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = failures.pop() if failures else 204
            if code == 204:
                told.append(body)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    serving = Thread(target=server.serve_forever)
    serving.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        await add(running, Rule("violin", "Is a violin playing?", "*", "yes", 0.0, (url,), 0.0))
        await share_all(uplink, "ynny")
        await until(waiting(running), within_s=PATIENCE_S)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert [(each["device"], each["state"]) for each in told] == [("camera-1", "on"), ("camera-1", "on")]
    assert len({each["id"] for each in told}) == 2
