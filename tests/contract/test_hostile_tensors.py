"""Tensors from strangers, over both doors: each attack that befell a peer, by name.

Every attack is sent beside honest questions that share its batch; their answers, which depend on every value
that the model was given, are compared with those that they get alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import pickle
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import torch

from edge_server.engine import Prompt
from protos import payload
from protos.names import DTYPES
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests.contract.conftest import Running
from tests.waiting import PATIENCE_S
from tests.weightless import BUNDLE_HASH, CHANNEL_DIM, WeightlessModel

TOKENS = 4
SHAPE = (TOKENS, CHANNEL_DIM)
VALUES = TOKENS * CHANNEL_DIM
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@dataclass(frozen=True)
class Attack:
    """A token block of a stranger, and the field of it that is at fault."""

    block: pb.TokenPayload
    field: str
    leaves: Callable[[], bool] = field(default=lambda: False)
    """Whether the attack came through."""


def block_of(
    data: bytes, *, dtype: str = "float32", shape: tuple[int, ...] = SHAPE, scale: float = 0.0
) -> pb.TokenPayload:
    """A block with whatever bytes, under a checksum that is right."""
    return pb.TokenPayload(
        modality=pb.MODALITY_VIDEO,
        dtype=DTYPES[dtype],
        shape=shape,
        scale=scale,
        data=data,
        crc32=zlib.crc32(data),
        channel=pb.ChannelReport(effective_snr_db=10.0),
    )


def filled(value: float, dtype: str = "<f4") -> bytes:
    x_TC = np.full(SHAPE, 0.5, dtype)
    with np.errstate(over="ignore"):
        x_TC[2, 3] = value
    return x_TC.tobytes()


class Bait:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def saved(thing: object) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def padded(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The same bytes as a block that they could be, whole rows of float32."""
    row = 4 * CHANNEL_DIM
    rows = -(-len(data) // row)
    return data.ljust(rows * row, b"\0"), (rows, CHANNEL_DIM)


def attacks(folder: Path) -> dict[str, Attack]:
    bait = folder / "unpickled"
    pickled, torched = pickle.dumps(Bait(bait)), saved(Bait(bait))
    beyond = torch.sparse_coo_tensor(torch.tensor([[2**40]]), torch.ones(1), (2,), check_invariants=False)
    sparse = saved(beyond)
    rows, shape = padded(pickled)
    made = {
        "pickled bytes (CVE-2026-25874)": Attack(block_of(pickled), "data", bait.exists),
        "torch.save bytes (CVE-2025-62164)": Attack(block_of(torched), "data", bait.exists),
        "a saved sparse tensor": Attack(block_of(sparse), "data"),
        "a byte too few": Attack(block_of(filled(0.5)[:-1]), "data"),
        "a byte too many": Attack(block_of(filled(0.5) + b"\0"), "data"),
        "no bytes": Attack(block_of(b""), "data"),
        "a size that is 0 in 32 bits": Attack(block_of(b"", shape=(2**27, CHANNEL_DIM)), "shape"),
        "a size that is right in 32 bits": Attack(
            block_of(filled(0.5), shape=(2**27 + TOKENS, CHANNEL_DIM)), "shape"
        ),
        "a shape of four thousand million squared": Attack(
            block_of(b"", shape=(2**32 - 1, 2**32 - 1)), "shape"
        ),
        "no tokens": Attack(block_of(b"", shape=(0, CHANNEL_DIM)), "shape"),
        "a wrong channel_dim": Attack(block_of(bytes(4 * TOKENS * 9), shape=(TOKENS, 9)), "shape"),
        "the hidden size of the model instead": Attack(
            block_of(bytes(4 * TOKENS * 896), shape=(TOKENS, 896)), "shape"
        ),
        "an empty channel": Attack(block_of(b"", shape=(TOKENS, 0)), "shape"),
        "NaN": Attack(block_of(filled(np.nan)), "data"),
        "infinity": Attack(block_of(filled(np.inf)), "data"),
        "negative infinity in float16": Attack(block_of(filled(-np.inf, "<f2"), dtype="float16"), "data"),
        "an absurd norm": Attack(block_of(filled(1e30)), "data"),
        "a norm that overflows": Attack(block_of(np.full(SHAPE, 3e38, "<f4").tobytes()), "data"),
        "a scale of infinity": Attack(block_of(b"\1" * VALUES, dtype="int8", scale=np.inf), "scale"),
        "a scale of NaN": Attack(block_of(b"\1" * VALUES, dtype="int8", scale=np.nan), "scale"),
        "a scale of 0": Attack(block_of(b"\1" * VALUES, dtype="int4"), "data"),
        "a scale that overflows": Attack(block_of(b"\x7f" * VALUES, dtype="int8", scale=3e38), "data"),
        "an integer out of range": Attack(block_of(b"\x80" * VALUES, dtype="int8", scale=1.0), "data"),
    }
    dimensions = block_of(filled(0.5))
    dimensions.shape[:] = [1] * 100_000
    made["a hundred thousand dimensions"] = Attack(dimensions, "shape")
    checksum = block_of(filled(0.5))
    checksum.crc32 ^= 1
    made["a wrong checksum"] = Attack(checksum, "crc32")
    disguised = block_of(rows, shape=shape)
    # As numbers, these bytes may even be sound: what counts is that they stay numbers.
    made["pickled bytes of the right size"] = Attack(disguised, "", bait.exists)
    return made


NAMES = [
    *(
        "pickled bytes (CVE-2026-25874)",
        "torch.save bytes (CVE-2025-62164)",
        "pickled bytes of the right size",
    ),
    *(
        "a saved sparse tensor",
        "a byte too few",
        "a byte too many",
        "no bytes",
        "a size that is 0 in 32 bits",
    ),
    *("a size that is right in 32 bits", "a shape of four thousand million squared", "no tokens"),
    *("a wrong channel_dim", "the hidden size of the model instead", "an empty channel"),
    *("a hundred thousand dimensions", "NaN", "infinity", "negative infinity in float16", "an absurd norm"),
    *("a norm that overflows", "a scale of infinity", "a scale of NaN", "a scale of 0"),
    *("a scale that overflows", "an integer out of range", "a wrong checksum"),
]


def fingerprint(prompt: Prompt) -> str:
    """An answer that depends on all that the model was given."""
    seen = hashlib.sha256(repr((prompt.question_ids, prompt.context_ids)).encode())
    for block in prompt.blocks:
        seen.update(f"{block.modality}{block.x_TC.shape}{block.snr_db}".encode() + block.x_TC.tobytes())
    return seen.hexdigest()[:12]


@pytest.fixture
def model() -> WeightlessModel:
    return WeightlessModel(answer=fingerprint)


@pytest.fixture
async def http(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.addresses.rest, timeout=PATIENCE_S) as client:
        yield client


async def session_of(running: Running, device_id: str = "stranger") -> str:
    opened = await running.stub.OpenSession(
        pb.OpenSessionRequest(device_id=device_id, bundle_hash=BUNDLE_HASH)
    )
    return str(opened.session_id)


def honest(number: int, request_id: str) -> pb.Question:
    x_TC = np.random.default_rng(number).standard_normal((8, CHANNEL_DIM)).astype(np.float32)
    return pb.Question(
        request_id=request_id, payloads=[payload.encode(x_TC, "video")], question_ids=[number + 1, 2]
    )


async def ends_of(
    running: Running, session_id: str, questions: list[pb.Question]
) -> dict[str, pb.DownlinkFrame]:
    frames = [
        pb.UplinkFrame(session_id=session_id, bundle_hash=BUNDLE_HASH, question=each) for each in questions
    ]
    ends: dict[str, pb.DownlinkFrame] = {}
    async for frame in running.stub.Converse(iter(frames)):
        if frame.WhichOneof("body") != "delta":
            ends[frame.request_id] = frame
    return ends


@pytest.mark.parametrize("name", NAMES)
async def test_an_attack_over_grpc_is_refused_and_its_neighbours_answers_are_unchanged(
    running: Running, tmp_path: Path, name: str
) -> None:
    attack = attacks(tmp_path)[name]
    session_id = await session_of(running)
    alone = await ends_of(running, session_id, [honest(n, f"alone{n}") for n in range(4)])
    bad = pb.Question(request_id="bad", payloads=[attack.block], question_ids=[1])
    beside = [honest(n, f"beside{n}") for n in range(4)]
    ends = await ends_of(running, session_id, [*beside[:2], bad, *beside[2:]])
    for n in range(4):
        assert ends[f"beside{n}"].answer.text == alone[f"alone{n}"].answer.text
    assert not attack.leaves()
    if attack.field:
        assert ends["bad"].failure.code == INVALID
        assert ends["bad"].failure.field == f"payloads[0].{attack.field}"


@pytest.mark.parametrize("name", [name for name in NAMES if "dimensions" not in name])
async def test_an_attack_over_rest_is_refused_and_its_neighbours_answers_are_unchanged(
    http: httpx.AsyncClient, tmp_path: Path, name: str
) -> None:
    attack = attacks(tmp_path)[name]
    block = attack.block
    sent = {
        "modality": "video",
        "dtype": DTYPES.of_number[block.dtype],
        "shape": list(block.shape),
        "data": base64.b64encode(block.data).decode(),
        "crc32": block.crc32,
        "snr_db": 10.0,
    }
    if np.isfinite(block.scale):
        sent["scale"] = block.scale
    neighbours = [{"question": f"honest {n}"} for n in range(3)]
    alone = [(await http.post("/v1/infer", json=each)).json()["answer"] for each in neighbours]
    bad, *beside = await asyncio.gather(
        http.post("/v1/infer", json={"question": "a", "blocks": [sent]}),
        *(http.post("/v1/infer", json=each) for each in neighbours),
    )
    assert [each.json()["answer"] for each in beside] == alone
    assert not attack.leaves()
    if name == "the hidden size of the model instead":
        # More than any block of this model can hold: over REST its text is not even decoded.
        assert (bad.status_code, bad.json()["error"]["param"]) == (413, "blocks[0].data")
    elif attack.field:
        assert bad.status_code == 400
        assert bad.json()["error"]["param"] == f"blocks[0].{attack.field}"


async def test_all_names_are_attacks_and_all_attacks_are_named(tmp_path: Path) -> None:
    assert sorted(attacks(tmp_path)) == sorted(NAMES)


def test_the_bait_is_one(tmp_path: Path) -> None:
    for load in (pickle.loads, lambda data: torch.load(io.BytesIO(data), weights_only=False)):
        bait = tmp_path / "unpickled"
        load(pickle.dumps(Bait(bait)) if load is pickle.loads else saved(Bait(bait)))
        assert bait.exists()
        bait.unlink()


async def test_a_lie_about_the_shape_costs_no_memory() -> None:
    # 2^27 tokens would take four gigabytes: nothing is allocated for them.
    import tracemalloc

    bad = block_of(filled(0.5), shape=(2**27 + TOKENS, CHANNEL_DIM))
    tracemalloc.start()
    try:
        with pytest.raises(payload.PayloadError, match="shape"):
            payload.decode(bad, max_token_length=2**31, channel_dim=CHANNEL_DIM + 1)
        with pytest.raises(payload.PayloadError, match="data"):
            payload.decode(bad, max_token_length=2**31, channel_dim=CHANNEL_DIM)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("carried", ["blocks alone", "context alone", "nothing"])
async def test_a_request_of_tokens_alone_is_refused(
    running: Running, http: httpx.AsyncClient, carried: str
) -> None:
    asked = honest(1, "bad")
    asked.ClearField("question_ids")
    if carried != "blocks alone":
        asked.ClearField("payloads")
    if carried == "context alone":
        asked.context_ids.extend([1, 2, 3])
    ends = await ends_of(running, await session_of(running), [asked, honest(2, "good")])
    assert (ends["bad"].failure.code, ends["bad"].failure.field) == (INVALID, "question_ids")
    assert ends["good"].answer.text
    body: dict[str, object] = {"context": "a b c"} if carried == "context alone" else {}
    refused = await http.post("/v1/infer", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "question")


def unknown(number: int, content: bytes) -> bytes:
    """A field that the contract does not have, on the wire."""
    key = number << 3 | 2
    return bytes([key & 0x7F | 0x80, key >> 7, len(content)]) + content


@pytest.mark.parametrize("where", ["frame", "question", "payload"])
async def test_cache_keys_and_placeholder_ranges_over_grpc_change_nothing(
    running: Running, where: str
) -> None:
    """CVE-2026-105754: what a client adds is neither a key nor a place, whatever it is called elsewhere."""
    session_id = await session_of(running)
    plain = await ends_of(running, session_id, [honest(1, "plain"), honest(2, "other")])
    extra = unknown(77, b"cache_key=other") + unknown(78, b"\x08\x00\x10\xff\xff\xff\xff\x0f")
    asked = honest(1, "spiked")
    if where == "payload":
        asked.payloads[0].MergeFromString(extra)
    elif where == "question":
        asked.MergeFromString(extra)
    frame = pb.UplinkFrame(session_id=session_id, bundle_hash=BUNDLE_HASH, question=asked)
    data = frame.SerializeToString() + (extra if where == "frame" else b"")
    assert b"cache_key=other" in data
    converse = running.channel.stream_stream(
        "/tokenlink.v1.TokenLink/Converse", response_deserializer=pb.DownlinkFrame.FromString
    )
    async for end in converse(iter([data])):
        if end.HasField("answer"):
            assert end.answer.text == plain["plain"].answer.text != plain["other"].answer.text
            break
    else:
        pytest.fail("no answer")


@pytest.mark.parametrize(
    "key",
    [
        *("cache_salt", "cache_key", "mm_hashes", "multi_modal_uuids", "placeholder_ranges", "prompt_embeds"),
        *("prompt_token_ids", "kv_transfer_params", "mm_processor_kwargs", "chat_template", "__class__"),
    ],
)
async def test_cache_keys_and_placeholder_ranges_over_rest_are_refused_or_ignored(
    http: httpx.AsyncClient, key: str
) -> None:
    smuggled = {key: [[0, 2**31], "other", {"offset": -1, "length": 2**63}]}
    refused = await http.post("/v1/infer", json={"question": "a"} | smuggled)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)
    chat = {"model": "weightless", "messages": [{"role": "user", "content": "what plays?"}]}
    plain, spiked = [
        (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
        for body in (chat, chat | smuggled)
    ]
    assert plain == spiked


async def test_one_users_key_never_brings_anothers_answer(running: Running) -> None:
    first, second = await session_of(running, "first"), await session_of(running, "second")
    mine = await ends_of(running, first, [honest(1, "q")])
    theirs = await ends_of(running, second, [honest(2, "q")])
    assert mine["q"].answer.text != theirs["q"].answer.text
    # Nor does a session of one's own with the words of another.
    again = await ends_of(running, second, [honest(1, "q")])
    assert again["q"].failure.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    assert again["q"].failure.field == "request_id"
