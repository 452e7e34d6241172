"""Scenes at the doors: shared over gRPC, asked about over all of them, and nobody sees what is not theirs."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from device_agent.errors import DeviceAgentError, PermissionDeniedError, RefusedError
from device_agent.uplink.uplink import Uplink
from edge_server.access import keys
from edge_server.access.scene_grants import grant_scenes, withdraw_scenes
from edge_server.cell import Peer
from edge_server.engine import Prompt
from edge_server.frontdoor.backend import Served
from edge_server.frontdoor.ports import LinkShape
from edge_server.frontdoor.scenes import SceneDesk, SeenRule
from edge_server.scenes import SqliteScenes, Wanted
from edge_server.scenes.rule_file import RuleFile
from edge_server.scenes.rules import Rule
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from protos import payload, token_snr
from protos.names import MODALITIES
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.authority import Device, Pki, make_pki
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S, until
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel


def share(device: str, request_id: str = "r1", start_s: float = 100.0, **blocks: int) -> pb.Question:
    report = pb.ChannelReport(effective_snr_db=9.0)
    payloads = [
        payload.encode(np.full((length, CHANNEL_DIM), 0.5, np.float32), modality, "int8", report)
        for modality, length in (blocks or {"video": 16}).items()
    ]
    return pb.Question(
        request_id=request_id,
        payloads=payloads,
        share=pb.Share(device=device, start_s=start_s, length_s=4.0),
        whole_answer=True,
    )


def about(*scenes: pb.SceneRef | str, text: str = "ab", request_id: str = "q1") -> pb.Question:
    named = [pb.SceneRef(device=each) if isinstance(each, str) else each for each in scenes]
    return pb.Question(request_id=request_id, scenes=named, question_text=text)


async def ask(uplink: Uplink, question: pb.Question) -> pb.Answer:
    return (await uplink.ask(question, deadline_s=PATIENCE_S)).answer


def arrives(desk: SceneDesk, late_s: float, monkeypatch: pytest.MonkeyPatch, began_s: float) -> None:
    """What is shared next comes so much later than it was sent."""
    monkeypatch.setattr(desk.incoming, "_wall_clock", lambda: began_s + late_s)


class OneSpot:
    """A space in which everything stands at one place: whatever is looked for, all is found."""

    name = "one-spot"

    def of_scene(self, blocks: Any) -> Any:
        return np.array([1.0, 0.0], np.float32)

    def of_text(self, text: str) -> Any:
        return np.array([1.0, 0.0], np.float32)


async def has_turned(judged: Callable[[], Awaitable[list[SeenRule]]]) -> bool:
    return any(seen.turns for seen in await judged())


class TestWithoutCredentials:
    """A server on one machine: whoever reaches its ports sees all."""

    @pytest.fixture
    async def uplink(self, running: Running) -> AsyncIterator[Uplink]:
        async with Uplink(
            running.addresses.grpc, BUNDLE_HASH, device_id="d-1", lasting=lambda: 110.0
        ) as made:
            yield made

    @pytest.fixture
    async def rest(self, running: Running) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as http:
            yield http

    async def test_what_was_shared_is_asked_about(self, running: Running, uplink: Uplink) -> None:
        before_s = time.time()
        stored = await ask(uplink, share("camera-1", start_s=100.0))
        assert (stored.text, stored.finish_reason, len(stored.scenes)) == ("", "stop", 1)
        # By the server's clock: ten seconds before it was sent, by the device's.
        assert before_s - 10.0 <= stored.scenes[0].start_s <= time.time() - 10.0
        reply = await uplink.ask(about("camera-1"), deadline_s=PATIENCE_S)
        assert reply.answer.text == "2+video:16"
        assert reply.answer.scenes[0].scene_id == stored.scenes[0].scene_id
        assert reply.answer.scenes[0].age_s == pytest.approx(6.0, abs=5.0)
        assert not reply.answer.scenes[0].stale
        assert reply.bytes_on_wire < 100

    async def test_the_snr_of_each_token_is_kept_with_a_scene(self, running: Running, uplink: Uplink) -> None:
        asked: list[Prompt] = []
        running.model.answer = lambda prompt: asked.append(prompt) or "x"  # type: ignore[func-returns-value]
        shared = share("camera-1", video=4)
        shared.payloads[0].channel.token_snr = token_snr.pack(np.array([-3.0, 0.5, 9.0, 20.0], np.float32))
        await ask(uplink, shared)
        await uplink.ask(about("camera-1"), deadline_s=PATIENCE_S)
        (block,) = asked[0].blocks
        assert block.told_db().tolist() == [-3.0, 0.5, 9.0, 20.0]
        shared.request_id, shared.payloads[0].channel.token_snr = "r2", bytes(3)
        with pytest.raises(RefusedError, match=r"payloads\[0\].channel.token_snr"):
            await ask(uplink, shared)

    async def test_it_is_shared_once(self, uplink: Uplink, rest: httpx.AsyncClient) -> None:
        for _ in range(2):
            await ask(uplink, share("camera-1"))
        assert len((await rest.get("/v1/scenes")).json()["scenes"]) == 1

    async def test_windows_stay_in_the_order_of_the_devices_clock(
        self, running: Running, uplink: Uplink, rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk, began_s = running.server.desk, time.time()
        sent_s = [110.0]
        uplink._lasting = lambda: sent_s[0]
        # The first frame was long under way; the third window comes behind the fourth; then a clock is set.
        shared = ((0, 100.0, 9.0), (1, 100.1, 0.0), (3, 104.0, 0.0), (2, 102.0, 3.0), (4, 109.0, 4000.0))
        for number, start_s, arrives_s in shared:
            arrives(desk, arrives_s, monkeypatch, began_s)
            await ask(uplink, share("camera-1", f"r{number}", start_s))
        listed = (await rest.get("/v1/scenes")).json()["scenes"]
        starts_s = [scene["start_s"] - began_s for scene in reversed(listed)]
        # As they were known: too late by what the first was under way, and less so with each.
        assert starts_s == pytest.approx([-1.0, -0.91, 0.6, 2.6, 3999.0], abs=1e-3)

    async def test_one_devices_picture_with_anothers_sound(self, uplink: Uplink) -> None:
        await ask(uplink, share("camera-1", "r1", video=16, audio=8))
        await ask(uplink, share("mic", "r2", audio=4))
        both = about(pb.SceneRef(device="camera-1", modalities=[MODALITIES["video"]]), "mic")
        answer = await ask(uplink, both)
        assert answer.text == "2+video:16+audio:4"
        assert [each.device for each in answer.scenes] == ["camera-1", "mic"]

    async def test_two_pictures_are_refused_with_what_can_be_shown(self, uplink: Uplink) -> None:
        await ask(uplink, share("camera-1", "r1"))
        await ask(uplink, share("camera-2", "r2"))
        with pytest.raises(RefusedError, match=r"scene 2 .*video of 'camera-1' is shown already.*one of"):
            await ask(uplink, about("camera-1", "camera-2"))

    async def test_what_is_missing_is_said(self, uplink: Uplink) -> None:
        await ask(uplink, share("camera-1"))
        answer = await ask(uplink, about("camera-1", "mic"))
        assert answer.text == "2+video:16"
        assert [bool(each.scene_id) for each in answer.scenes] == [True, False]
        with pytest.raises(DeviceAgentError, match="there is no scene of 'mic'"):
            await ask(uplink, about("mic", request_id="q2"))

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (lambda q: q.share.Clear() or q.share.MergeFrom(pb.Share(device="a*")), "share.device"),
            (lambda q: q.question_ids.append(1), "share"),
            (lambda q: q.ClearField("payloads"), "payloads"),
            (lambda q: setattr(q.share, "length_s", float("nan")), "share.length_s"),
            (lambda q: setattr(q.payloads[0], "crc32", 1), r"payloads\[0\].crc32"),
            (lambda q: q.payloads.append(q.payloads[0]), "payloads"),
        ],
    )
    async def test_a_share_that_cannot_be_is_refused_by_name(
        self, uplink: Uplink, rest: httpx.AsyncClient, change: Any, field: str
    ) -> None:
        wrong = share("camera-1")
        change(wrong)
        with pytest.raises(RefusedError, match=f"^{field}"):
            await ask(uplink, wrong)
        assert (await rest.get("/v1/scenes")).json()["scenes"] == []

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            (about(pb.SceneRef(device="camera-1", at="yesterday")), "scenes[0].at"),
            (about(pb.SceneRef(device="")), "scenes[0].device"),
            (about(pb.SceneRef(device="camera-1", modalities=[77])), "scenes[0].modalities"),
            (
                about(pb.SceneRef(device="camera-1", modalities=[MODALITIES["audio"]])),
                "scenes[0].modalities",
            ),
            (about(*["camera-1"] * 9), "scenes"),
            (pb.Question(request_id="q", question_text="ab"), "question_text"),
            (pb.Question(request_id="q", scenes=[pb.SceneRef(device="camera-1")]), "question_text"),
        ],
    )
    async def test_a_question_that_cannot_be_is_refused_by_name(
        self, uplink: Uplink, wrong: pb.Question, field: str
    ) -> None:
        await ask(uplink, share("camera-1"))
        with pytest.raises(RefusedError) as refused:
            await ask(uplink, wrong)
        assert refused.value.field == field

    async def test_a_scene_of_another_model_is_never_misread(self, running: Running, uplink: Uplink) -> None:
        await ask(uplink, share("camera-1"))

        def foreign(store: Any) -> None:
            (kept,) = store.scenes(Wanted(), 2)
            store.delete(Wanted())
            store.put(replace(kept, bundle_hash="cd" * 32))

        await running.server.desk.scenes.call(foreign)
        with pytest.raises(
            DeviceAgentError, match=r"was made with bundle cdcd.*only the model that it was made for"
        ):
            await ask(uplink, about("camera-1"))

    async def test_rest_and_openai_ask_about_scenes(
        self, running: Running, uplink: Uplink, rest: httpx.AsyncClient
    ) -> None:
        stored = await ask(uplink, share("camera-1"))
        scene = {"device": "camera-1", "at": "latest"}
        answered = (await rest.post("/v1/infer", json={"question": "ab", "scenes": [scene]})).json()
        assert (answered["answer"], answered["uplink"]) == ("2+video:16", [])
        assert answered["scenes"][0]["scene_id"] == stored.scenes[0].scene_id
        sdk = openai.AsyncOpenAI(api_key="-", base_url=f"{running.addresses.rest}/v1", max_retries=0)
        content: Any = [{"type": "text", "text": "abc"}, {"type": "scene", "scene": scene}]
        asked = await sdk.chat.completions.create(
            model="weightless", messages=[{"role": "user", "content": content}]
        )
        assert asked.choices[0].message.content == "3+video:16"
        assert asked.model_extra is not None
        assert asked.model_extra["scenes"][0]["device"] == "camera-1"
        content[1]["scene"] = {"device": "mic"}
        with pytest.raises(openai.NotFoundError, match="there is no scene of 'mic'"):
            await sdk.chat.completions.create(
                model="weightless", messages=[{"role": "user", "content": content}]
            )
        await sdk.close()

    async def test_they_are_listed_and_deleted(self, uplink: Uplink, rest: httpx.AsyncClient) -> None:
        await ask(uplink, share("camera-1", "r1", video=16, audio=8))
        await ask(uplink, share("camera-2", "r2"))
        listed = (await rest.get("/v1/scenes", params={"device": "camera-1"})).json()
        assert [each["device"] for each in listed["devices"]] == ["camera-1"]
        assert listed["scenes"][0]["modalities"] == ["video", "audio"]
        assert (await rest.delete("/v1/scenes", params={"device": "camera-1"})).json() == {"deleted": 1}
        assert (await rest.get("/v1/scenes")).json()["devices"][0]["device"] == "camera-2"

    async def test_a_model_without_a_space_says_so(self, rest: httpx.AsyncClient) -> None:
        found = await rest.post("/v1/scenes/search", json={"query": "a trumpet"})
        assert found.status_code == 400
        assert "weightless" in found.json()["error"]["message"]

    async def test_metrics_tell_of_them(self, running: Running, uplink: Uplink) -> None:
        await ask(uplink, share("camera-1"))
        shown = running.server.metrics.exposition().decode()
        assert "tokenlink_scenes 1.0" in shown
        assert "tokenlink_scenes_shared_total 1.0" in shown


class TestThumbnails:
    """Small pictures for people: kept where the server was told to, else dropped."""

    JPEG = b"\xff\xd8\xff" + b"picture" * 9

    @pytest.fixture(params=[False, True])
    def settings(self, request: pytest.FixtureRequest) -> dict[str, object]:
        return {"thumbnails": request.param}

    async def test_they_are_kept_where_the_server_was_told_to(
        self, running: Running, settings: dict[str, object]
    ) -> None:
        async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="d-1") as uplink:
            question = share("camera-1")
            question.share.thumbnail = self.JPEG
            scene_id = (await ask(uplink, question)).scenes[0].scene_id
            kept = await running.server.desk.scenes.call(lambda store: store.thumbnail(scene_id))
            assert kept == (self.JPEG if settings["thumbnails"] else b"")

    @pytest.mark.parametrize("thumbnail", [b"<svg>", JPEG + bytes(16_384)])
    async def test_what_is_no_small_jpeg_is_refused(self, running: Running, thumbnail: bytes) -> None:
        async with Uplink(running.addresses.grpc, BUNDLE_HASH, device_id="d-1") as uplink:
            question = share("camera-1")
            question.share.thumbnail = thumbnail
            with pytest.raises(RefusedError, match=r"share\.thumbnail.*a JPEG of at most 16384"):
                await ask(uplink, question)


class TestSeveralViews:
    """A model that learned to be asked about several pictures and sounds, told apart by their labels."""

    @pytest.fixture
    def shape(self) -> LinkShape:
        return LinkShape(CHANNEL_DIM, 96, views=True)

    @pytest.fixture
    def model(self) -> WeightlessModel:
        """Says which block has which label."""
        return WeightlessModel(
            lambda prompt: "+".join(
                f"{block.modality}:{bytes(block.label).decode()}" for block in prompt.blocks
            )
        )

    async def test_two_pictures_go_into_one_question(self, running: Running) -> None:
        async with Uplink(
            running.addresses.grpc, BUNDLE_HASH, device_id="d-1", lasting=lambda: 10_004.0
        ) as uplink:
            for number, start_s in enumerate((6400.0, 10_000.0)):
                await ask(uplink, share("porch/front-camera", f"r{number}", start_s=start_s))
            await ask(uplink, share("left_camera", "r3", start_s=10_000.0, video=8, audio=4))
            alone = await ask(uplink, about("left_camera", request_id="q1"))
            assert alone.text == "video:+audio:"
            earlier = pb.SceneRef(device="porch/front-camera", at="-1800")
            both = about("left_camera", earlier, "porch/front-camera", request_id="q2")
            both.max_new_tokens = 200
            answer = await ask(uplink, both)
            assert answer.text == (
                "video:left camera+audio:left camera+video:porch front camera an hour ago"
                "+video:porch front camera"
            )
            assert len({each.scene_id for each in answer.scenes}) == 3
            # Of two that were named one is there: it is still said whose it is.
            both = about("left_camera", "mic", request_id="q3")
            both.max_new_tokens = 200
            answer = await ask(uplink, both)
            assert answer.text == "video:left camera+audio:left camera"


class TestAcrossARestart:
    """A server that ends and another that begins with its scenes."""

    async def test_windows_stay_in_the_order_of_the_devices_clock(
        self, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began_s = time.time()
        # The first frame comes in no time, the last of the other server's too, the one before was under way.
        for server_of in (((0, 100.0, 0.0), (1, 100.2, 0.0)), ((2, 100.4, 3.0), (3, 100.6, 0.0))):
            model = WeightlessModel()
            shape = LinkShape(CHANNEL_DIM, 96)
            lengths = (1, 2, 4, 8, 16, 32)
            served: Served = Served(
                model, lambda _, model=model: model, running.server.rest_app, shape, lengths
            )
            config = ServerConfig.model_validate(
                {"grpc_port": 0, "rest_port": 0, "scenes": tmp_path / "scenes.db"}
            )
            server: Server = Server(config, served)
            addresses = await server.start()
            try:
                async with Uplink(
                    addresses.grpc, BUNDLE_HASH, device_id="d-1", lasting=lambda: 110.0
                ) as uplink:
                    for number, start_s, late_s in server_of:
                        arrives(server.desk, late_s, monkeypatch, began_s)
                        await ask(uplink, share("camera-1", f"r{number}", start_s))
            finally:
                await server.stop()
        with contextlib.closing(SqliteScenes(tmp_path / "scenes.db")) as store:
            starts_s = [scene.start_s - began_s for scene in reversed(store.scenes(Wanted(), 9))]
        # By a clock that was not known any more, the third would be told by the three seconds of its frame.
        assert starts_s == pytest.approx([-10.0, -9.8, -9.6, -9.4], abs=1e-2)


class TestAcrossUsers:
    """With certificates and keys: every door, tried by who may not, shows nothing."""

    @pytest.fixture
    def pki(self, tmp_path: Path) -> Pki:
        return make_pki(tmp_path / "certs")

    @pytest.fixture
    def settings(self, pki: Pki, tmp_path: Path) -> dict[str, object]:
        return pki.settings() | {"scenes": tmp_path / "scenes.db"}

    @pytest.fixture
    def camera(self, pki: Pki) -> Device:
        return pki.device("camera-1")

    @pytest.fixture
    def stranger(self, pki: Pki) -> Device:
        return pki.device("camera-10")

    def uplink(self, running: Running, device: Device) -> Uplink:
        return Uplink(
            running.addresses.grpc,
            BUNDLE_HASH,
            device_id=f"{device.name}/x",
            credentials=device.credentials(),
        )

    async def rest(self, running: Running, pki: Pki, name: str) -> httpx.AsyncClient:
        key = keys.add_key(pki.access, name, time.time())
        trust = ssl.create_default_context(cadata=pki.root.decode())
        return httpx.AsyncClient(
            base_url=running.addresses.rest,
            verify=trust,
            timeout=PATIENCE_S,
            headers={"Authorization": f"Bearer {key}"},
        )

    async def test_every_door(self, running: Running, pki: Pki, camera: Device, stranger: Device) -> None:
        served = running.server.backends.current.served
        object.__setattr__(served, "space", OneSpot())

        def add_rule(store: Any) -> None:
            RuleFile(store).add(
                Rule("rule", "ab", "camera-1/*", "2+video:16", 0.0, ("http://127.0.0.1:9/",), 0.0)
            )

        await running.server.desk.scenes.call(add_rule)
        async with self.uplink(running, camera) as own, self.uplink(running, stranger) as other:
            stored = await ask(own, share("camera-1/bedroom"))
            scene_id = stored.scenes[0].scene_id
            assert (await ask(own, about("camera-1/bedroom"))).text == "2+video:16"
            judged = lambda: running.server.desk.rules(Peer("camera-1", "1"), 10)  # noqa: E731
            await until(lambda: has_turned(judged))
            # Over gRPC: by name, by id, beside a scene of one's own, whether it is there or not.
            await ask(other, share("camera-10", "r9"))
            for number, wrong in enumerate(
                (
                    about("camera-1/bedroom"),
                    about(pb.SceneRef(device="camera-1/bedroom", at=scene_id)),
                    about("camera-10", pb.SceneRef(device="camera-1/bedroom")),
                    about("camera-1/nothing"),
                    about("camera-1"),
                )
            ):
                wrong.request_id = f"q{number}"
                with pytest.raises(PermissionDeniedError, match="may not see"):
                    await ask(other, wrong)
            # By its id, as one's own: there is none.
            with pytest.raises(RefusedError, match="there is no scene"):
                await ask(other, about(pb.SceneRef(device="camera-10", at=scene_id), request_id="q8"))
            # Sharing in another's name.
            with pytest.raises(PermissionDeniedError, match="camera-10"):
                await ask(other, share("camera-1", "r3"))
        phone = await self.rest(running, pki, "phone")
        scene = {"device": "camera-1/bedroom"}
        chat = {
            "model": "weightless",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "scene", "scene": scene}],
                }
            ],
        }
        parts = [{"type": "input_text", "text": "a"}, {"type": "scene", "scene": scene}]
        response = {"model": "weightless", "input": [{"role": "user", "content": parts}]}
        async with phone:
            for path, body in (
                ("/v1/infer", {"question": "ab", "scenes": [scene]}),
                ("/v1/infer", {"question": "ab", "scenes": [{**scene, "at": scene_id}]}),
                ("/v1/chat/completions", chat),
                ("/v1/chat/completions", {**chat, "stream": True}),
                ("/v1/responses", response),
                ("/v1/responses", {**response, "stream": True}),
            ):
                refused = await phone.post(path, json=body)
                assert (refused.status_code, scene_id in refused.text) == (403, False)
                if path == "/v1/responses":
                    param = "input[0].content[1].scene.device"
                    assert refused.json()["error"]["param"] == param
            # By a search, which finds everything for who may see it, and by the page's standing questions.
            looked_for = {"query": "anything", "devices": ["*"], "limit": 100}
            assert (await phone.post("/v1/scenes/search", json=looked_for)).json() == {"scenes": []}
            looked_for["devices"] = ["camera-1/bedroom", "camera-1*"]
            assert (await phone.post("/v1/scenes/search", json=looked_for)).json() == {"scenes": []}
            peer = Peer("key:phone", "1")
            assert await running.server.desk.rules(peer, 10) == []
            listed = (await phone.get("/v1/scenes")).json()
            assert listed == {"devices": [], "scenes": []}
            assert (await phone.get("/v1/scenes", params={"device": "camera-1/*"})).json() == listed
            assert (await phone.delete("/v1/scenes", params={"device": "camera-*"})).status_code == 403
            assert (
                await phone.delete("/v1/scenes", params={"device": "camera-1/bedroom"})
            ).status_code == 403
            # Granted, and withdrawn: each counts from the next question on.
            grant_scenes(pki.access, "key:phone", "read:camera-1/*", time.time())
            assert (
                await phone.post("/v1/infer", json={"question": "ab", "scenes": [scene]})
            ).status_code == 200
            shown = (await phone.post("/v1/responses", json=response)).json()
            assert [each["scene_id"] for each in shown["scenes"]] == [scene_id]
            assert len((await phone.get("/v1/scenes")).json()["scenes"]) == 1
            found = (await phone.post("/v1/scenes/search", json=looked_for)).json()["scenes"]
            assert [each["scene_id"] for each in found] == [scene_id]
            (seen,) = await running.server.desk.rules(peer, 10)
            assert set(seen.states) == {turn.device for turn in seen.turns} == {"camera-1/bedroom"}
            assert (
                await phone.delete("/v1/scenes", params={"device": "camera-1/bedroom"})
            ).status_code == 403
            withdraw_scenes(pki.access, "key:phone", "read:camera-1/*")
            assert (
                await phone.post("/v1/infer", json={"question": "ab", "scenes": [scene]})
            ).status_code == 403
            assert (await phone.post("/v1/scenes/search", json=looked_for)).json() == {"scenes": []}
            assert await running.server.desk.rules(peer, 10) == []
            bare = await phone.post("/v1/scenes/search", json=looked_for, headers={"Authorization": ""})
            assert (bare.status_code, scene_id in bare.text) == (401, False)

    async def test_who_is_asked_about_is_audited(
        self, running: Running, pki: Pki, camera: Device, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="tokenlink.audit")
        async with self.uplink(running, camera) as own:
            await ask(own, share("camera-1"))
            with pytest.raises(PermissionDeniedError):
                await ask(own, about("camera-2"))
        told = [record for record in caplog.records if record.name == "tokenlink.audit"]
        assert [(each.by, each.device, each.granted) for each in told] == [("camera-1", "camera-2", False)]  # type: ignore[attr-defined]
