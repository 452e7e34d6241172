"""Questions that a server takes for real ones, made without a transmitter.

A load test fetches the device bundle as any agent does and learns from it what tokens look like. Its blocks
are random, of unit symbol energy: for the server as much work as real ones, for the machine that asks none.

Shapes: T token_length, C channel_dim.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from deploy.loadtest.target import Template
from protos import payload
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from protos.tokenlink.v1.tokenlink_pb2_grpc import TokenLinkStub

DEMO = Path(__file__).resolve().parents[1] / "demo"
BUNDLE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Bundle:
    """What a device has to know to speak to a server.

    Attributes:
        hash: names the bundle.
        channel_dim: reals per token.
        token_lengths: that the model was trained for.
        tokenizer: of the questions.
    """

    hash: str
    channel_dim: int
    token_lengths: tuple[int, ...]
    tokenizer: Tokenizer

    def ids(self, text: str) -> list[int]:
        """Language token ids of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def fetch_bundle(stub: TokenLinkStub) -> Bundle:
    """Fetch the device bundle that the server answers for.

    Raises:
        grpc.RpcError: it cannot be had.
    """
    chunks = list(stub.GetBundle(pb.GetBundleRequest(), timeout=BUNDLE_WITHIN_S))
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunk.data for chunk in chunks))) as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        texts = {name: files[name] for name in ("manifest.json", "tokenizer.json")}
        manifest, tokenizer = (file.read().decode() for file in texts.values() if file is not None)
    shape = json.loads(manifest)
    words = Tokenizer.from_str(tokenizer)
    words.encode_special_tokens = True  # as the agent does
    return Bundle(
        hash=chunks[0].bundle_hash,
        channel_dim=shape["channel_dim"],
        token_lengths=tuple(shape["token_lengths"]),
        tokenizer=words,
    )


def demo_questions() -> list[dict[str, Any]]:
    """Questions about the demo's clips, with ``clip``, ``question`` and ``answer``."""
    rows: list[dict[str, Any]] = json.loads((DEMO / "questions.json").read_text(encoding="utf-8"))
    return rows


def random_block(
    rng: np.random.Generator, channel_dim: int, modality: str, token_length: int, snr_db: float = 10.0
) -> pb.TokenPayload:
    """Random tokens of unit symbol energy, [token_length, channel_dim], in float16.

    Args:
        rng: of the values.
        channel_dim: reals per token.
        modality: a name in :data:`protos.names.MODALITIES`.
        token_length: tokens.
        snr_db: what the receiver is told [dB].
    """
    x_TC = rng.standard_normal((token_length, channel_dim)).astype(np.float32)
    x_TC *= np.sqrt(0.5 / np.mean(np.square(x_TC)))
    report = pb.ChannelReport(
        model=pb.CHANNEL_MODEL_AWGN,
        fading=pb.FADING_BLOCK,
        effective_snr_db=snr_db,
        channel_uses=x_TC.size // 2,
    )
    return payload.encode(x_TC, modality, channel=report)


def template_of(
    bundle: Bundle,
    text: str,
    blocks: Sequence[pb.TokenPayload] = (),
    *,
    clip: str = "",
    max_new_tokens: int = 0,
    deadline_s: float = 0.0,
) -> Template:
    """A question as a device would send it that waits for the whole answer.

    Args:
        bundle: that the server answers for.
        text: the question.
        blocks: at most one per modality.
        clip: name of the clip that it is about, for agents that make tokens themselves.
        max_new_tokens: 0: the server's default.
        deadline_s: 0: the server's default [s].
    """
    message = pb.Question(
        question_ids=bundle.ids(text),
        payloads=blocks,
        max_new_tokens=max_new_tokens,
        deadline_ms=round(deadline_s * 1000),
        whole_answer=True,
    )
    return Template.of(message, text, clip)
