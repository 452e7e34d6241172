"""Adding a channel model takes its class and its value in the contract: nothing else knows one by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
import torch
import typer

from device_agent.channel import MODELS, Channel, ChannelConfig, ChannelModel, channel_model, register
from device_agent.channel.application import Signal
from device_agent.channel.models import Draws
from device_agent.cli.flags import FLAGS
from device_agent.config import load_settings
from device_agent.errors import ConfigurationError
from edge_server.evaluation.cli import evaluate
from edge_server.frontdoor.http.rest_schema import LinkPart
from edge_server.training.radio import RadioTraining, transmit
from protos import payload
from protos.names import CHANNEL_MODELS
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.contract.test_rest_contract import image
from tests.spelling import files_that_spell

NUMBER = 1001


@dataclass(frozen=True)
class Keyhole(ChannelModel):
    """All paths pass one hole: the gain is a product of two."""

    name: ClassVar[str] = "keyhole"
    label: ClassVar[str] = "Keyhole"

    def sample(self, draws: Draws, codewords: tuple[int, ...], gains: tuple[int, ...]) -> Signal:
        return draws.normal(gains) * draws.normal(gains)

    def paths(self) -> tuple[float, float]:
        return 0.0, 1.0


@pytest.fixture
def keyhole() -> Iterator[str]:
    CHANNEL_MODELS.add(Keyhole.name, NUMBER)  # type: ignore[arg-type]
    register(Keyhole)
    yield Keyhole.name
    del MODELS[Keyhole.name]
    CHANNEL_MODELS.remove(Keyhole.name)


def block() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32) * np.float32(0.5**0.5)


def test_every_value_of_the_contract_is_registered_and_nothing_else() -> None:
    assert list(MODELS) == list(CHANNEL_MODELS)
    assert all(channel_model(name).name == name for name in CHANNEL_MODELS)


@pytest.mark.parametrize("csi", ["perfect", "estimated"])
def test_a_device_sends_through_it_and_its_report_travels(keyhole: str, csi: Any) -> None:
    config = ChannelConfig(model=keyhole, snr_db=40.0, csi=csi)
    reception = Channel(config, np.random.default_rng(1)).transmit(block())
    # A gain that is undone at a high SNR leaves what was sent.
    np.testing.assert_allclose(reception.x_TC, block(), atol=0.2)
    report = pb.ChannelReport(model=CHANNEL_MODELS[keyhole], effective_snr_db=reception.effective_snr_db)
    arrived = payload.encode(reception.x_TC, "video", "float16", report).SerializeToString()
    assert CHANNEL_MODELS.of_number[pb.TokenPayload.FromString(arrived).channel.model] == keyhole


def test_the_trainer_sends_through_it_and_gradients_come_back(keyhole: str) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = 4000
    sent = (torch.randn(rows, 2, 4, generator=generator) * 0.5**0.5).requires_grad_()
    received, told = transmit(sent, keyhole, "block", torch.zeros(rows), generator)
    received.square().sum().backward()
    assert sent.grad is not None
    gain = 10 ** (told.detach() / 10)
    # Mean 1 and second moment E|h|^4 = 2 * 2, unlike Rayleigh's 2.
    assert float(gain.mean()) == pytest.approx(1.0, abs=4 * 3**0.5 / rows**0.5)
    assert float(gain.square().mean()) == pytest.approx(4.0, rel=0.4)
    radio = RadioTraining(odds=((keyhole, "fast", 1.0),))
    assert radio.draw(2, generator)[:2] == (keyhole, "fast")


async def test_a_request_over_http_is_sent_through_it(keyhole: str, running: Running) -> None:
    assert LinkPart.model_json_schema()["properties"]["channel"]["enum"][-1] == keyhole
    transport = httpx.ASGITransport(running.server.rest_app, raise_app_exceptions=False)
    asked = {"question": "a", "media": [image()], "link": {"channel": keyhole, "snr_db": 10, "seed": 3}}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        response = await http.post("/v1/infer", json=asked)
    assert response.status_code == 200, response.text
    # It fades: what is told is not the mean SNR.
    assert response.json()["uplink"][0]["effective_snr_db"] != pytest.approx(10.0, abs=0.01)


def test_settings_and_flags_take_it(keyhole: str) -> None:
    assert load_settings({"channel": keyhole}).channel_config(1e6).model == keyhole
    (flag,) = FLAGS["channel"].__metadata__
    assert keyhole in flag.autocompletion()
    (option,) = inspect.signature(evaluate, eval_str=True).parameters["channel"].annotation.__metadata__
    assert option.callback(keyhole) == keyhole


async def test_without_it_all_of_them_refuse_its_name(running: Running) -> None:
    with pytest.raises(ConfigurationError, match="'keyhole'; allowed: none, awgn, rayleigh, rician"):
        ChannelConfig(model="keyhole")
    with pytest.raises(ConfigurationError, match=r"--channel.*'keyhole': allowed: none, awgn"):
        load_settings({"channel": "keyhole"})
    (option,) = inspect.signature(evaluate, eval_str=True).parameters["channel"].annotation.__metadata__
    with pytest.raises(typer.BadParameter, match="keyhole"):
        option.callback("keyhole")
    transport = httpx.ASGITransport(running.server.rest_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        refused = await http.post("/v1/infer", json={"question": "a", "link": {"channel": "keyhole"}})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == f"link.channel: allowed: {', '.join(MODELS)}"


def test_a_model_that_the_contract_lacks_or_that_is_there_is_not_registered() -> None:
    with pytest.raises(ValueError, match="'keyhole' is not in the contract: none, awgn"):
        register(Keyhole)
    with pytest.raises(ValueError, match="'rician' is registered already"):
        register(MODELS["rician"])


def test_one_product_file_knows_a_channel_model_by_name() -> None:
    assert files_that_spell("rician", "Rician") == {"device_agent/channel/models.py"}
