"""The comparison's parts: envelopes, processes, environments, what is asked, and what the turns say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.loadtest.target import Failed, Question, Refused, Template
from edge_server.server.config import ServerConfig
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.benchmarks.peer_servers import offline
from tests.benchmarks.peer_servers.answering import Answerer
from tests.benchmarks.peer_servers.settings import Settings
from tests.benchmarks.peers import environments, rows
from tests.benchmarks.peers.contestants import PEERS
from tests.benchmarks.peers.processes import ServerDiedError, ServerProcess
from tests.benchmarks.peers.questions import Group, draw_from, make_questions
from tests.benchmarks.peers.record import Record
from tests.benchmarks.peers.summary import summarise
from tests.benchmarks.peers.turns import Checked
from tests.benchmarks.peers.wires import JSON_LIST, JSON_TEXT, TENSOR, TEXT, HttpTarget, Wire
from tests.waiting import until_true

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / ServerConfig().runtime.model
QUESTION = Template.of(pb.Question(question_ids=[7, 8, 0]), "Is it?").ask()


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Group]]:
    return make_questions(MODEL)


def of_text(data: bytes) -> web.Response:
    assert pb.Question.FromString(data).request_id == QUESTION.request_id
    return web.Response(text="ja, ß")


def of_json(data: bytes) -> web.Response:
    of_text(data)
    return web.json_response("ja, ß")


def of_json_list(body: bytes) -> web.Response:
    import base64

    (data,) = json.loads(body)["questions"]
    of_text(base64.b64decode(data))
    return web.json_response(["ja, ß"])


def of_tensor(body: bytes, described: int) -> web.Response:
    """As Triton reads and writes tensors of strings."""
    (question,) = json.loads(body[:described])["inputs"]
    data = body[described:]
    assert question["parameters"]["binary_data_size"] == len(data)
    assert int.from_bytes(data[:4], "little") == len(data) - 4
    of_text(data[4:])
    text = "ja, ß".encode()
    said = json.dumps({"outputs": [{"name": "answer"}]}).encode()
    return web.Response(
        body=said + len(text).to_bytes(4, "little") + text,
        headers={"Inference-Header-Content-Length": str(len(said))},
    )


@pytest.fixture
async def door() -> AsyncIterator[
    Callable[[Callable[[web.Request], Awaitable[web.Response]]], Awaitable[int]]
]:
    """Opens an HTTP door that answers as a test says; returns its port."""
    servers = []

    async def open_door(answer: Callable[[web.Request], Awaitable[web.Response]]) -> int:
        app = web.Application()
        app.router.add_post("/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        assert server.port is not None
        return server.port

    yield open_door
    for server in servers:
        await server.close()


async def ask(port: int, wire: Wire) -> str:
    target = HttpTarget(port, wire)
    try:
        connection = await target.connect(0)
        return await connection.ask(QUESTION)
    finally:
        await target.close()


@pytest.mark.parametrize(
    ("wire", "read"),
    [(TEXT, of_text), (JSON_TEXT, of_json), (JSON_LIST, of_json_list), (TENSOR, of_tensor)],
)
async def test_every_envelope_holds_the_same_question(wire: Wire, read: Any, door: Any) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == wire.path
        body = await request.read()
        if read is of_tensor:
            return of_tensor(body, int(request.headers["Inference-Header-Content-Length"]))
        found: web.Response = read(body)
        return found

    assert await ask(await door(answer), wire) == "ja, ß"


@pytest.mark.parametrize(("status", "ending"), [(429, Refused), (503, Refused), (500, Failed)])
async def test_what_is_no_answer_ends_as_the_generator_expects(status: int, ending: Any, door: Any) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="no room")

    with pytest.raises(ending, match="no room"):
        await ask(await door(answer), TEXT)


async def test_a_closed_door_is_a_failure() -> None:
    with pytest.raises(Failed, match="connection"):
        await ask(9, TEXT)


def test_a_server_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    # A grandchild in a session of its own, as Ray has them.
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    log = tmp_path / "log"
    with ServerProcess([sys.executable, "-c", program], {}, log, tmp_path) as server:

        def lives_until(condition: Callable[[], bool]) -> None:
            # Looking without a pause would take the processor from what is looked at.
            def looked_at() -> bool:
                server.check()
                return condition()

            until_true(looked_at)

        lives_until(lambda: bool(log.read_text().strip()))
        child = psutil.Process(int(log.read_text()))
        before_s = server.cpu_s()
        lives_until(lambda: server.cpu_s() >= before_s + 0.05)
        assert child.is_running()
    assert not child.is_running()


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with ServerProcess(
        [sys.executable, "-c", "raise SystemExit('no such model')"], {}, tmp_path / "log", tmp_path
    ) as server:
        assert server._process is not None
        server._process.wait()
        with pytest.raises(ServerDiedError, match="no such model"):
            server.check()


def test_every_peer_is_pinned_whole() -> None:
    own = {peer.name for peer in PEERS if peer.own_environment}
    assert set(environments.names()) == own
    for peer in PEERS:
        assert peer.version()
        if peer.own_environment:
            lines = environments.requirements_of(peer.name).splitlines()
            assert all("==" in line for line in lines if not line.startswith("#"))


def test_an_environment_sees_what_this_one_has_behind_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = tmp_path / "requirements"
    pins.mkdir()
    (pins / "nothing.txt").write_text("# no package at all\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", pins)
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    with pytest.raises(environments.MissingEnvironmentError, match="make peers"):
        environments.python_of("nothing")
    python = environments.build("nothing")
    program = (
        "import numpy, pip, sys\nprint(*(module.__file__.startswith(sys.prefix) for module in (pip, numpy)))"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
    made_at = python.stat().st_ctime_ns
    assert environments.build("nothing").stat().st_ctime_ns == made_at
    (pins / "nothing.txt").write_text("# another list\n")
    with pytest.raises(environments.MissingEnvironmentError, match="outdated"):
        environments.python_of("nothing")


def test_settings_travel_in_the_environment() -> None:
    settings = Settings("m", 1, 2, 3, 4, 0.5)
    assert Settings.from_environment(settings.to_environment()) == settings


def test_everybody_is_asked_the_same_in_the_same_mix(groups: dict[str, list[Group]]) -> None:
    for workload, captions in (("words", 0), ("captions", 1)):
        size = len(groups[workload][0])
        count = sum(map(len, groups[workload]))
        first, second = draw_from(groups[workload], 3), draw_from(groups[workload], 3)
        drawn = [first(user) for user in range(count)]
        assert [each.template for each in drawn] == [second(0).template for _ in range(count)]
        assert (
            len({each.request_id for each in drawn}) == len({each.template.data for each in drawn}) == count
        )
        for begin in range(0, count, size):
            kinds = Counter(each.template.text for each in drawn[begin : begin + size])
            assert kinds["Describe what happens."] == captions


def test_a_static_batch_answers_as_each_question_alone(groups: dict[str, list[Group]]) -> None:
    answerer = Answerer(MODEL, threads=1)
    asked = [each.data for each in groups["captions"][0]]
    together = answerer.answer(asked)
    assert together == [answerer.answer([data])[0] for data in asked]
    assert Counter(len(text.split()) > 5 for text in together) == {True: 1, False: len(asked) - 1}
    limited = pb.Question.FromString(asked[-1])
    limited.max_new_tokens = 3
    (short,) = answerer.answer([limited.SerializeToString()])
    assert together[-1].startswith(short)
    assert len(short.split()) == 3
    found = offline.run(answerer, [asked[:2]], batch=3, seconds=0.0)
    assert found["questions"] == 6
    assert found["texts"] == [together[:2]]


async def test_other_answers_are_counted() -> None:
    class Fixed:
        async def connect(self, user: int) -> Fixed:
            return self

        async def ask(self, question: Question) -> str:
            return "left"

        async def close(self) -> None:
            pass

    for expected, wrong in (("left", 0), ("right", 1)):
        checked = Checked(Fixed(), {QUESTION.template.data: expected})
        assert await (await checked.connect(0)).ask(QUESTION) == "left"
        assert checked.wrong == wrong


async def test_a_run_that_was_cut_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "peers.part"
    calls = []

    async def run() -> dict[str, Any]:
        calls.append(1)
        return {"figure": len(calls)}

    for about, expected in (({"a": 1}, 1), ({"a": 1}, 1), ({"a": 2}, 2)):
        assert await Record(path, about).turn("closed 0 ours", run) == {"figure": expected}
    path.write_text(path.read_text() + '["closed 1 ou')
    record = Record(path, {"a": 2})
    assert await record.turn("closed 0 ours", run) == {"figure": 2}
    assert await record.turn("closed 1 ours", run) == {"figure": 3}
    record.close()
    assert not path.exists()


def turns(figures: dict[tuple[str, str], list[float]], wrong: str = "") -> dict[str, Any]:
    """A result with so many answers per second (closed), or seconds of latency (open), by phase and name."""
    made = []
    for (phase, name), values in figures.items():
        for number, value in enumerate(values):
            turn = {"answered_hz": value, "p50_s": value, "p99_s": value, "cpu_s_per_question": 1.0}
            turn |= {"answered": 1000, "not_answered": 0, "dropped": 0, "generator_lag_p99_s": 0.0}
            turn |= {"generator_cpu_s_per_question": 1.0, "wrong": 500 if name == wrong else 0}
            made.append({"phase": phase, "round": number, "name": name, "words": turn})
    contestants = [
        {"name": name, "label": name.upper()} for name in dict.fromkeys(name for _, name in figures)
    ]
    return {"workloads": {"words": "one word"}, "contestants": contestants, "turns": made}


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was half as fast in the second round.
    found = turns(
        {
            ("closed", "ours"): [90.0, 45.0, 90.0],
            ("closed", "limit"): [100.0, 50.0, 100.0],
            ("closed", "ray"): [45.0, 22.5, 45.0],
            ("closed", "bentoml"): [30.0, 15.0, 30.0],
            ("library", "ray"): [18.0, 9.0, 18.0],
            ("library", "bentoml"): [22.5, 11.25, 22.5],
            ("open", "ours"): [0.1, 0.2, 0.1],
            ("open", "ray"): [0.4, 0.8, 0.4],
            ("open", "bentoml"): [0.2, 0.4, 0.2],
        }
    )
    result = summarise(found)
    throughput, library, latency = rows(result)
    assert result["ratios"]["words"]["ours_over_limit"]["median"] == pytest.approx(0.9)
    assert throughput["measured"] == {"words": pytest.approx(2.0)}
    assert throughput["best"] == {"words": "ray"}
    assert library["measured"] == {"words": pytest.approx(4.0)}
    assert library["best"] == {"words": "bentoml"}
    assert latency["measured"] == {"words": pytest.approx(0.5)}
    assert latency["best"] == {"words": "bentoml"}
    assert [row["met"] for row in (throughput, library, latency)] == [True, True, True]
    assert throughput["spread"]["words"]["low"] == throughput["spread"]["words"]["high"] == pytest.approx(2.0)


def test_what_falls_short_and_what_was_not_measured_is_said() -> None:
    slow = {("closed", "ours"): [10.0], ("closed", "limit"): [20.0], ("closed", "ray"): [15.0]}
    result = summarise(turns(slow))
    throughput, library, latency = rows(result)
    assert throughput["met"] is False
    for row in (library, latency):
        assert row["met"] is None
        assert "words" in row["missing"]


def test_a_peer_that_answers_otherwise_is_not_compared() -> None:
    figures = {("closed", "ours"): [20.0], ("closed", "ray"): [100.0], ("closed", "bentoml"): [10.0]}
    throughput, *_ = rows(summarise(turns(figures, wrong="ray")))
    assert throughput["best"] == {"words": "bentoml"}
