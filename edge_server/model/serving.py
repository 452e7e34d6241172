"""The link and its foundation behind the engine's model port: batched prefill and decoding in torch.

    prompts ─check─▶ receivers (one call per slot, blocks of any length) ─▶ embeddings, left-padded
            ─prefill─▶ Running ─decode─▶ Running ─ ... merge, keep ...

Rows of a running batch may have prompts of any length: they are padded on the left, masked, and every row
counts its own positions, so that a row's answer does not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, Qwen2ForCausalLM

from edge_server.engine.model import FeatureBlock, InvalidPromptError, Prompt, Step
from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.foundation import Piece, embed_pieces, pieces_length, prompt_pieces
from edge_server.model.link import SLOT_OF_MODALITY, Link


@dataclass(frozen=True)
class Running:
    """A running batch.

    Attributes:
        keys: per layer, [B, heads, T, head_dim].
        values: per layer, [B, heads, T, head_dim].
        mask_BT: 1 where a position holds something.
        last_B: each row's newest language token, not yet in the cache.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask_BT: Tensor
    last_B: Tensor


class ServedLink:
    """Implements :class:`edge_server.engine.model.Model` (greedy decoding).

    Args:
        link: a trained link; its LoRA is merged into the foundation.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(self, link: Link, bundle_hash: str) -> None:
        self._link = link.eval()
        link.merge_lora()
        assert isinstance(link.foundation, Qwen2ForCausalLM)  # noqa: S101 - narrows the type
        self._foundation = link.foundation
        self._bundle_hash = bundle_hash
        self._vocab_size = link.tokenizer.get_vocab_size(with_added_tokens=True)
        self._special = tk.special_ids_of(link.tokenizer)

    @property
    def name(self) -> str:
        """Name of the model, as shown to clients."""
        return self._link.config.name

    @property
    def bundle_hash(self) -> str:
        """SHA-256 (hexadecimal) of the device bundle this model answers for."""
        return self._bundle_hash

    @property
    def eos_id(self) -> int:
        """Language token id that ends an answer."""
        return self._link.special.eos

    @property
    def channel_dim(self) -> int:
        """Reals per feature token."""
        return self._link.config.channel_dim

    @property
    def token_lengths(self) -> tuple[int, ...]:
        """Token lengths that a feature block may have."""
        return self._link.config.token_lengths

    @property
    def max_positions(self) -> int:
        """Longest prompt with its answer."""
        return self._link.config.foundation.max_positions

    def check(self, prompt: Prompt) -> int:
        """Validate a prompt without running it; see the port."""
        used: dict[str, str] = {}
        positions = 4 + len(prompt.question_ids) + (1 + len(prompt.context_ids) if prompt.context_ids else 0)
        for i, block in enumerate(prompt.blocks):
            field = f"blocks[{i}]"
            slot = "question" if block.modality == "text" else SLOT_OF_MODALITY.get(block.modality)
            if slot is None:
                allowed = ", ".join((*SLOT_OF_MODALITY, "text"))
                raise InvalidPromptError(
                    f"{field}.modality", f"{field}.modality is {block.modality!r}; allowed: {allowed}"
                )
            if slot in used:
                raise InvalidPromptError(
                    f"{field}.modality",
                    f"{field}.modality is {block.modality!r}, but {used[slot]} already fills its place",
                )
            used[slot] = block.modality
            positions += self._check_block(field, slot, block)
        if "question" in used and prompt.question_ids:
            raise InvalidPromptError(
                "question_ids", "question_ids: the question came as a text block too; send one of the two"
            )
        if "question" not in used and not prompt.question_ids:
            raise InvalidPromptError(
                "question_ids", "question_ids is empty; a question needs at least one language token"
            )
        self._check_ids("question_ids", prompt.question_ids)
        self._check_ids("context_ids", prompt.context_ids)
        if positions >= self.max_positions:
            raise InvalidPromptError(
                "question_ids",
                f"the prompt takes {positions} positions; at most {self.max_positions - 1} fit the model",
            )
        return positions

    def prefill(self, prompts: Sequence[Prompt]) -> tuple[Running, list[Step]]:
        """Start answering prompts; see the port."""
        with torch.inference_mode():
            rows = [embed_pieces(self._link.embedding, pieces) for pieces in self._lay_out(prompts)]
            longest = max(len(row) for row in rows)
            x_BTE = torch.stack([F.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
            x_BTE = x_BTE.to(self._link.embedding.weight.dtype)
            mask_BT = torch.stack([F.pad(torch.ones(len(row)), (longest - len(row), 0)) for row in rows])
            out = self._foundation(
                inputs_embeds=x_BTE,
                attention_mask=mask_BT,
                position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0).long(),
                past_key_values=DynamicCache(),
                use_cache=True,
                logits_to_keep=1,
            )
            return self._advance(out, mask_BT)

    def decode(self, state: Running) -> tuple[Running, list[Step]]:
        """One more step for every row; see the port."""
        with torch.inference_mode():
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(zip(state.keys, state.values, strict=True)):
                cache.update(keys, values, layer)
            mask_BT = F.pad(state.mask_BT, (0, 1), value=1.0)
            out = self._foundation(
                input_ids=state.last_B[:, None],
                attention_mask=mask_BT,
                position_ids=(mask_BT.sum(1, keepdim=True) - 1).long(),
                past_key_values=cache,
                use_cache=True,
            )
            return self._advance(out, mask_BT)

    def merge(self, first: Running, second: Running) -> Running:
        """Rows of both; the shorter is padded on the left."""
        longest = max(first.mask_BT.shape[1], second.mask_BT.shape[1])

        def grown(state: Running, tensors: tuple[Tensor, ...]) -> list[Tensor]:
            missing = longest - state.mask_BT.shape[1]
            return [F.pad(t, (0, 0, missing, 0)) if missing else t for t in tensors]

        with torch.inference_mode():
            return Running(
                keys=tuple(map(_cat, zip(grown(first, first.keys), grown(second, second.keys), strict=True))),
                values=tuple(
                    map(_cat, zip(grown(first, first.values), grown(second, second.values), strict=True))
                ),
                mask_BT=torch.cat(
                    [F.pad(s.mask_BT, (longest - s.mask_BT.shape[1], 0)) for s in (first, second)]
                ),
                last_B=torch.cat([first.last_B, second.last_B]),
            )

    def keep(self, state: Running, rows: Sequence[int]) -> Running:
        """Only these rows; columns that none of them uses are dropped too."""
        with torch.inference_mode():
            picked = torch.tensor(list(rows), dtype=torch.int64)
            mask_BT = state.mask_BT[picked]
            used = int(mask_BT.sum(1).max()) if len(rows) else 0
            begin = mask_BT.shape[1] - used
            return Running(
                keys=tuple(t[picked, :, begin:] for t in state.keys),
                values=tuple(t[picked, :, begin:] for t in state.values),
                mask_BT=mask_BT[:, begin:],
                last_B=state.last_B[picked],
            )

    def text(self, token_ids: Sequence[int]) -> str:
        """The text that language token ids spell, special tokens left out."""
        return tk.decode(self._link.tokenizer, token_ids)

    def _check_block(self, field: str, slot: str, block: FeatureBlock) -> int:
        """Validate one block; returns the positions it takes."""
        shape = block.x_TC.shape
        if len(shape) != 2 or shape[1] != self.channel_dim:
            raise InvalidPromptError(
                f"{field}.shape", f"{field}.shape is {list(shape)}; [token_length, {self.channel_dim}] needed"
            )
        if not math.isfinite(block.snr_db):
            raise InvalidPromptError(f"{field}.snr_db", f"{field}.snr_db is {block.snr_db}; must be finite")
        limit = self._link.config.max_text_tokens
        if slot == "question":
            if not 1 <= shape[0] <= limit:
                raise InvalidPromptError(
                    f"{field}.shape", f"{field}.shape is {list(shape)}; 1 to {limit} tokens allowed"
                )
            return int(shape[0])
        if shape[0] not in self.token_lengths:
            allowed = ", ".join(map(str, self.token_lengths))
            raise InvalidPromptError(
                f"{field}.shape", f"{field}.shape has token length {shape[0]}; allowed: {allowed}"
            )
        return 2 + self._link.receiver(slot).slots(shape[0])

    def _check_ids(self, field: str, ids: Sequence[int]) -> None:
        limit = self._link.config.max_text_tokens
        if len(ids) > limit:
            raise InvalidPromptError(
                field, f"{field} has {len(ids)} language tokens; at most {limit} allowed"
            )
        for i, token_id in enumerate(ids):
            if not 0 <= token_id < self._vocab_size or token_id in self._special:
                raise InvalidPromptError(
                    f"{field}[{i}]",
                    f"{field}[{i}] is {token_id}; allowed: 0 to {self._vocab_size - 1}, no special token",
                )

    def _lay_out(self, prompts: Sequence[Prompt]) -> list[list[Piece]]:
        """Run the receivers over all blocks of the batch; put the pieces of each prompt in order."""
        slots: list[dict[str, Piece]] = [{} for _ in prompts]
        questions: list[Piece] = [prompt.question_ids for prompt in prompts]
        by_slot: dict[str, list[tuple[int, FeatureBlock]]] = {}
        for i, prompt in enumerate(prompts):
            for block in prompt.blocks:
                if block.modality == "text":
                    x_1LC = torch.from_numpy(block.x_TC)[None]
                    questions[i] = self._link.text_receiver(x_1LC, torch.tensor([block.snr_db]))[0]
                else:
                    by_slot.setdefault(SLOT_OF_MODALITY[block.modality], []).append((i, block))
        for slot, blocks in by_slot.items():
            lengths_B = torch.tensor([len(block.x_TC) for _, block in blocks])
            longest = int(lengths_B.max())
            x_BTC = torch.stack(
                [F.pad(torch.from_numpy(b.x_TC), (0, 0, 0, longest - len(b.x_TC))) for _, b in blocks]
            )
            snr_db_B = torch.tensor([block.snr_db for _, block in blocks])
            receiver = self._link.receiver(slot)
            received = receiver(x_BTC, snr_db_B, lengths_B)
            for (i, block), embeddings in zip(blocks, received, strict=True):
                slots[i][slot] = embeddings[: receiver.slots(len(block.x_TC))]
        laid_out = []
        for prompt, filled, question in zip(prompts, slots, questions, strict=True):
            pieces = prompt_pieces(filled, question, prompt.context_ids, self._link.special)
            assert pieces_length(pieces) < self.max_positions  # noqa: S101 - check() has seen to it
            laid_out.append(pieces)
        return laid_out

    def _advance(self, out: object, mask_BT: Tensor) -> tuple[Running, list[Step]]:
        logits_BV = out.logits[:, -1].float()  # type: ignore[attr-defined]
        probabilities, tokens_B = logits_BV.softmax(-1).max(-1)
        layers = out.past_key_values.layers  # type: ignore[attr-defined]
        state = Running(
            keys=tuple(layer.keys for layer in layers),
            values=tuple(layer.values for layer in layers),
            mask_BT=mask_BT,
            last_B=tokens_B,
        )
        steps = [Step(t, p) for t, p in zip(tokens_B.tolist(), probabilities.tolist(), strict=True)]
        return state, steps


def load(directory: Path, threads: int, device: str = "cpu") -> ServedLink:
    """Load a model folder for serving.

    Args:
        directory: the model folder, with its device bundle in ``bundle/``.
        threads: threads torch computes with, process-wide.
        device: what it computes on, in torch's words.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read, or there is no such device.
    """
    from device_agent.bundle import read_manifest

    torch.set_num_threads(threads)
    link = Link.load(directory)
    try:
        link.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # what torch raises without CUDA is an AssertionError
        raise ModelError(f"device is {device!r}: {str(error).splitlines()[0]}") from error
    return ServedLink(link, read_manifest(directory / "bundle").bundle_hash)


def _cat(pair: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat(pair)
