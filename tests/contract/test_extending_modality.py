"""Adding a modality takes its records and what is particular to it: no loop spells modalities' names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from device_agent.bundle.bundle import MANIFEST, load_bundle
from device_agent.channel import Channel, ChannelConfig
from edge_server.engine import FeatureBlock, InvalidPromptError, Prompt
from edge_server.export.bundle import export_bundle
from edge_server.export.graphs import GRAPHS, Graph
from edge_server.frontdoor.http.rest_schema import BlockPart, MediaPart
from edge_server.model import tokenizer as tk
from edge_server.model.config import FoundationConfig, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import ENCODERS, Link
from edge_server.model.modality import MODALITIES as RECORDS
from edge_server.model.modality import SLOTS, Modality, register
from edge_server.model.prompt import context_pieces
from edge_server.runtime.model_runner import ServedLink
from edge_server.training.clips import encode_clips
from edge_server.training.forward import UplinkTraining, draw_of, receive_clips
from edge_server.training.modality import TRAINING
from edge_server.training.radio import RadioTraining
from edge_server.training.run import PRETRAININGS
from protos import payload
from protos.names import MODALITIES, SLOT_OF
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.spelling import ROOT, files_that_spell
from tests.weightless import CHANNEL_DIM

NUMBER = 1002
NAME = "thermal"

LISTED = {
    "protos/tokenlink/v1/tokenlink.proto",
    "protos/names.py",
    "device_agent/media/clip.py",
    "device_agent/media/decoding.py",
    "device_agent/bundle/bundle.py",
    "device_agent/transmitter.py",
    "edge_server/model/modality.py",
    "edge_server/model/config.py",
    "edge_server/model/tokenizer.py",
    "edge_server/model/transmitter.py",
    "edge_server/model/description.py",
    "edge_server/model/link.py",
    "edge_server/export/graphs.py",
    "edge_server/training/modality.py",
    "edge_server/training/recipes.py",
}
"""Product files that one touches to add a modality; CONTRIBUTING has the same list."""

OF_TODAY = {
    # Sends something through the graphs that it knows.
    "device_agent/doctor/device.py",
    # Published encoders, and data made for those that are trained here.
    "edge_server/training/paper.py",
    "edge_server/evaluation/held_out.py",
    # What is measured of eyes and ears: questions for pictures, files from elsewhere, mixes of both.
    "edge_server/cell/allocation/surface_file.py",
    "edge_server/evaluation/cli.py",
    "edge_server/evaluation/loss_surface.py",
    "edge_server/evaluation/named.py",
    "edge_server/evaluation/named_honesty.py",
    "edge_server/evaluation/out_of_domain.py",
    "edge_server/export/calibration.py",
    # Rooms have cameras and microphones.
    "edge_server/training/room_rows.py",
    # Models of others, which look at pictures or listen to sound.
    "edge_server/export/families.py",
    "edge_server/export/split.py",
    "edge_server/export/split_graphs.py",
    "edge_server/weights/open_small.py",
}
"""Files that name a slot because they are about what it is today, and stay as they are."""


@dataclass(frozen=True)
class ThermalConfig:
    """A thermometer's encoder."""

    hidden_size: int = 16
    patches: int = 32


class ThermalEncoder(nn.Module):
    """Temperatures to tokens."""

    def __init__(self, config: ThermalConfig) -> None:
        super().__init__()
        self.patches, self.hidden_size = config.patches, config.hidden_size
        self.inner = nn.Linear(1, config.hidden_size)

    def front_end(self, kelvin_S: Tensor) -> Tensor:
        """[S] to [patches], whatever S."""
        return nn.functional.interpolate(kelvin_S[None, None], size=self.patches)[0, 0] / 300.0

    def forward(self, x_BP: Tensor) -> Tensor:
        """[B, P] to [B, P, D]."""
        return torch.tanh(self.inner(x_BP[..., None]))


class ThermalGraph(nn.Module):
    """Temperatures to channel tokens."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.encoder, self.head = link.encoder(NAME), link.heads[NAME]

    def forward(self, kelvin: Tensor, token_length: Tensor) -> Tensor:
        """float32 [S] and int64 [1] to float32 [token_length, C]."""
        tokens: Tensor = self.head(self.encoder(self.encoder.front_end(kelvin)[None]), token_length)[0]
        return tokens


@dataclass(frozen=True)
class ThermalIds(tk.SpecialIds):
    """Two tokens more."""

    thermal: int = -1
    thermal_end: int = -1


@dataclass(frozen=True)
class ThermalFoundation(FoundationConfig):
    """A foundation whose tokenizer has them."""

    marks: ThermalIds = field(default_factory=ThermalIds)

    @property
    def special(self) -> ThermalIds:
        return self.marks


@dataclass(frozen=True)
class ThermalLinkConfig(LinkConfig):
    """A link with one modality more."""

    thermal: ThermalConfig = field(default_factory=ThermalConfig)


class Readings:
    """A training split of clips that are warm."""

    def __len__(self) -> int:
        return 6

    def encode(self, link: Link, slot: str, begin: int, end: int) -> Tensor:
        encoder = link.encoder(slot)
        return torch.ones(end - begin, encoder.patches, encoder.hidden_size)


@pytest.fixture
def thermal() -> Iterator[str]:
    MODALITIES.add(NAME, NUMBER)  # type: ignore[arg-type]
    SLOT_OF[NAME] = NAME
    register(Modality(NAME, of_clip=NAME, opens="thermal", closes="thermal_end", word="heat"))
    ENCODERS[ThermalConfig] = ThermalEncoder  # type: ignore[assignment]
    GRAPHS[NAME] = Graph(
        build=ThermalGraph,
        example=lambda: {"kelvin": torch.full((50,), 300.0)},
        dynamic={"kelvin": {0: "samples"}},
        described=lambda config: {"modalities": [NAME]},
        samples=lambda generator: ({"kelvin": torch.rand(n, generator=generator) * 300} for n in (9, 80)),
    )
    yield NAME
    del GRAPHS[NAME], ENCODERS[ThermalConfig], RECORDS[NAME], SLOT_OF[NAME]
    MODALITIES.remove(NAME)


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = tk.train_tokenizer(["what is warm", "how warm is it", "warm"], 300)
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<thermal>", "</thermal>")])
    return made


def link_of(tokenizer: Tokenizer, **encoders: Any) -> Link:
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    config = ThermalLinkConfig(
        name="warm",
        foundation=ThermalFoundation(
            size,
            hidden_size=32,
            layers=2,
            heads=2,
            intermediate_size=64,
            marks=ThermalIds(thermal=size - 2, thermal_end=size - 1),
        ),
        receiver=ReceiverConfig(width=32, heads=2, query_layers=1, num_queries=4),
        channel_dim=8,
        **encoders,
    )
    return Link(config, tokenizer).eval()


def alone(tokenizer: Tokenizer) -> Link:
    """A link that sends nothing else."""
    return link_of(tokenizer, visual=None, audio=None)


def test_a_model_with_it_is_asked_through_the_channel(thermal: str, tokenizer: Tokenizer) -> None:
    link = link_of(tokenizer)
    assert link.slots == ("visual", "audio", thermal)
    assert {name.split(".")[1] for name in link.link_parameters() if name.startswith("receivers.")} == set(
        SLOTS
    )
    features = torch.as_tensor(link.encoder(thermal)(torch.ones(1, 32)))
    sent_TC = link.send(thermal, features, 8)[0].detach().numpy()
    reception = Channel(ChannelConfig(), np.random.default_rng(0)).transmit(sent_TC)
    served = ServedLink(link, bundle_hash="")
    block = FeatureBlock(thermal, reception.x_TC, reception.effective_snr_db)
    question = tuple(tk.encode(tokenizer, "what is warm"))
    prompt = Prompt((block,), question)
    # <bos>, marks and four queries, <question> ... <answer>.
    assert served.check(prompt) == 1 + (1 + 4 + 1) + (1 + len(question) + 1)
    _, (step,) = served.prefill([prompt])
    assert 0 < step.probability <= 1
    colder = FeatureBlock(thermal, -reception.x_TC, reception.effective_snr_db)
    _, (other,) = served.prefill([Prompt((colder,), question)])
    assert other.probability != step.probability


def test_its_slot_has_its_own_marks_after_the_others(thermal: str) -> None:
    ids = ThermalIds(thermal=90, thermal_end=91)
    assert context_pieces({thermal: [7], "audio": [5]}, ids=ids) == [[5], [5], [6], [90], [7], [91]]


def test_a_model_without_it_names_what_it_takes(thermal: str, tokenizer: Tokenizer) -> None:
    link = link_of(tokenizer, thermal=None)
    block = FeatureBlock(thermal, np.ones((8, 8), np.float32), 10.0)
    with pytest.raises(InvalidPromptError, match="'thermal'; allowed: image, video, audio, text"):
        ServedLink(link, bundle_hash="").check(Prompt((block,), (20,)))


def test_training_sends_and_receives_it(thermal: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    link = alone(tokenizer)
    clips = encode_clips(link, Readings(), tmp_path, "")  # type: ignore[type-var]
    assert clips.features[thermal].shape == (6, 32, 16)
    training = UplinkTraining(RadioTraining(odds=(("rayleigh", "block", 1.0),)), token_lengths=((4, 1.0),))
    received = receive_clips(link, clips, np.array([0, 3]), training, draw_of(0, 1, 0))  # type: ignore[arg-type]
    assert received[thermal].shape == (2, 4, 32)
    received[thermal].sum().backward()
    assert link.heads[thermal].get_parameter("inner.weight").grad is not None


def test_its_graph_goes_into_the_bundle_and_agrees_with_torch(
    thermal: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    exported = export_bundle(alone(tokenizer), tmp_path, commit="")
    assert set(exported.parity) == {thermal, "text"}
    bundle = load_bundle(tmp_path)
    assert f"{thermal}.onnx" in bundle.manifest.files
    assert f'"{thermal}"' in (tmp_path / MANIFEST).read_text()


async def test_a_block_of_it_passes_both_doors(thermal: str, running: Running) -> None:
    x_TC = np.full((4, CHANNEL_DIM), 0.5, np.float32)
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id="oven", bundle_hash=running.model.bundle_hash)
    )
    question = pb.Question(request_id="1", question_ids=[1, 2], payloads=[payload.encode(x_TC, thermal)])
    request = pb.AskRequest(
        session_id=opened.session_id, bundle_hash=running.model.bundle_hash, question=question
    )
    frames = [frame async for frame in running.stub.Ask(request)]
    assert frames[-1].answer.text == "2+thermal:4"
    for part, name in ((BlockPart, "modality"), (MediaPart, "type")):
        assert thermal in part.model_json_schema()["properties"][name]["enum"]


def test_today_s_records_are_complete() -> None:
    assert list(RECORDS) == list(SLOTS) == ["visual", "audio"]
    assert [record.wire for record in RECORDS.values()] == [("image", "video"), ("audio",)]
    assert set(SLOT_OF) == set(MODALITIES) - {"text"}
    assert set(TRAINING) == set(SLOTS)
    assert set(GRAPHS) == {*SLOTS, "text"}
    assert ("foundation", *SLOTS) == PRETRAININGS
    configs = {type(getattr(LinkConfig("", FoundationConfig(10)), slot)) for slot in SLOTS}
    assert configs <= set(ENCODERS)
    assert all(hasattr(tk.OWN_IDS, mark) for each in RECORDS.values() for mark in (each.opens, each.closes))


@pytest.mark.parametrize(
    ("slot", "of_clip", "message"), [("audio", "audio", "already"), ("smell", "smell", "not on the wire")]
)
def test_a_record_that_cannot_be_is_refused(slot: str, of_clip: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(Modality(slot, of_clip, "text", "text", "smell"))


def test_a_slot_is_spelled_where_a_modality_is_added_and_where_it_is_meant() -> None:
    # The study compares with codecs of pictures and of sound.
    # A family of published models is registered by what it looks at.
    apart = ("edge_server/study/", "edge_server/model/split/families/")
    spelled = {path for path in files_that_spell("visual") if not path.startswith(apart)}
    assert spelled - LISTED == OF_TODAY
    assert len(LISTED) <= 15
    assert all((ROOT / path).is_file() for path in LISTED)
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("**A modality**")[2].partition("\n## ")[0]
    listed = {path for path in re.findall(r"`([\w/.]+\.(?:py|proto))`", told) if "/" in path}
    assert listed == {path for path in LISTED if path.endswith(".py")}
