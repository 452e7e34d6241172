"""The reference that serving is held against: a link asked with Hugging Face's own classes.

Prompts are padded on the left to the longest, as for ``generate``; what computes is the class as it comes out
of the library, with a ``DynamicCache``. Receivers are called as they were trained, blocks padded at their
ends. Rows neither join nor leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from edge_server.engine import FeatureBlock, Prompt
from edge_server.model.link import Link
from edge_server.model.prompt import Piece, View, embed_pieces, prompt_pieces, tag_of
from protos.names import SLOT_OF


@dataclass(frozen=True)
class EagerRows:
    """Rows that are being answered.

    Attributes:
        cache: the library's.
        mask_BT: 1 where a position holds something.
        logits_BV: after each row's last position.
    """

    cache: DynamicCache
    mask_BT: Tensor
    logits_BV: Tensor

    @property
    def tokens(self) -> list[int]:
        """Each row's likeliest next language token."""
        return [int(token) for token in self.logits_BV.argmax(-1).tolist()]


def read_embeddings(foundation: PreTrainedModel, rows: Sequence[Tensor]) -> EagerRows:
    """Prefill of prompts given as embeddings, each [L, E]."""
    longest = max(len(row) for row in rows)
    x_BTE = torch.stack([F.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    mask_BT = torch.stack([F.pad(torch.ones(len(row)), (longest - len(row), 0)) for row in rows])
    mask_BT = mask_BT.to(x_BTE.device)
    with torch.inference_mode():
        out = foundation(
            inputs_embeds=x_BTE,
            attention_mask=mask_BT,
            position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0).long(),
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
        )
    return EagerRows(out.past_key_values, mask_BT, out.logits[:, -1])


def go_on(foundation: PreTrainedModel, rows: EagerRows) -> EagerRows:
    """One more step for every row, with its likeliest token."""
    mask_BT = F.pad(rows.mask_BT, (0, 1), value=1.0)
    with torch.inference_mode():
        out = foundation(
            input_ids=rows.logits_BV.argmax(-1, keepdim=True),
            attention_mask=mask_BT,
            position_ids=(mask_BT.sum(1, keepdim=True) - 1).long(),
            past_key_values=rows.cache,
            use_cache=True,
        )
    return EagerRows(out.past_key_values, mask_BT, out.logits[:, -1])


class EagerLink:
    """A link whose LoRA is merged, or for media only, asked with the library's classes.

    Args:
        link: receivers and foundation.
    """

    def __init__(self, link: Link) -> None:
        assert link.keeps_lora_apart or not link.has_lora, "its LoRA is not merged"
        self._link = link
        self._device = link.device
        self.foundation = link.causal
        self._media: list[bool] = []

    def prefill(self, prompts: Sequence[Prompt]) -> EagerRows:
        """Read prompts."""
        with torch.inference_mode():
            rows = [embed_pieces(self._link.embedding, pieces) for pieces in self._lay_out(prompts)]
        self._media = [any(block.modality != "text" for block in prompt.blocks) for prompt in prompts]
        self._link.tell_media(self._media)
        # What was received is float32.
        return self._sayable(
            read_embeddings(self.foundation, [row.to(self.foundation.dtype) for row in rows])
        )

    def decode(self, rows: EagerRows) -> EagerRows:
        """One more step for every row."""
        self._link.tell_media(self._media)
        return self._sayable(go_on(self.foundation, rows))

    def _sayable(self, rows: EagerRows) -> EagerRows:
        """The same, the marks around the parts of a prompt never likeliest."""
        marks = torch.tensor(self._link.special.marks, device=rows.logits_BV.device)
        return replace(rows, logits_BV=rows.logits_BV.index_fill(1, marks, -torch.inf))

    def _lay_out(self, prompts: Sequence[Prompt]) -> list[list[Piece]]:
        views: list[list[View]] = [[] for _ in prompts]
        questions: list[Piece] = [prompt.question_ids for prompt in prompts]
        by_slot: dict[str, list[tuple[int, FeatureBlock]]] = {}
        for row, prompt in enumerate(prompts):
            for block in prompt.blocks:
                if block.modality == "text":
                    x_1LC = torch.from_numpy(block.x_TC)[None].to(self._device)
                    told_1L = torch.from_numpy(block.told_db())[None].to(self._device)
                    questions[row] = self._link.text_receiver(x_1LC, told_1L)[0]
                else:
                    by_slot.setdefault(SLOT_OF[block.modality], []).append((row, block))
        for slot, blocks in by_slot.items():
            lengths_B = torch.tensor([len(block.x_TC) for _, block in blocks], device=self._device)
            longest = max(len(block.x_TC) for _, block in blocks)
            x_BTC = torch.stack(
                [F.pad(torch.from_numpy(b.x_TC), (0, 0, 0, longest - len(b.x_TC))) for _, b in blocks]
            )
            told_BT = torch.stack(
                [F.pad(torch.from_numpy(b.told_db()), (0, longest - len(b.x_TC))) for _, b in blocks]
            )
            receiver = self._link.receiver(slot)
            received = receiver(x_BTC.to(self._device), told_BT.to(self._device), lengths_B)
            for (row, block), embeddings in zip(blocks, received, strict=True):
                filled = embeddings[: self._link.config.receiver.embeddings(len(block.x_TC))]
                if block.label:
                    filled = filled + tag_of(self._link.embedding, block.label)
                views[row].append(View(slot, filled, block.label))
        return [
            prompt_pieces(shown, question, prompt.context_ids, self._link.special)
            for prompt, shown, question in zip(prompts, views, questions, strict=True)
        ]
