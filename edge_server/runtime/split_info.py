"""A split model without its weights: bounds, the check of a prompt, its language tokens. Light to import."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from edge_server.engine.ports import FeatureBlock, InvalidPromptError, Prompt, PromptTooLongError
from edge_server.model import tokenizer as tk
from edge_server.model.split.chat import Chat, ChatError, Shown, Turn, Written
from edge_server.model.split.description import SplitConfig, read_split
from edge_server.runtime.described import Described
from edge_server.runtime.model_info import bundle_hash_of
from edge_server.runtime.prompt_check import check_biases, check_ids, check_snr
from protos.names import SLOT_OF


class SplitInfo(Described):
    """Implements :class:`edge_server.engine.ports.Model`.

    Args:
        config: of the model.
        tokenizer: its own.
        bundle_hash: of the device bundle whose tokens it understands.
    """

    def __init__(self, config: SplitConfig, tokenizer: Tokenizer, bundle_hash: str) -> None:
        super().__init__(config, tokenizer, bundle_hash)
        self._config = config
        self._chat = Chat(config, tokenizer)
        self._special = tk.special_ids_of(tokenizer)
        self._text_ids = tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def eos_id(self) -> int:
        """Language token id that ends an answer; whichever the model ended it with, it is told as this."""
        return self._config.eos_ids[0]

    @property
    def max_positions(self) -> int:
        """Longest prompt with its answer."""
        return self._config.max_positions

    def check(self, prompt: Prompt) -> int:
        """Validate a prompt without running it; see the port."""
        used: set[str] = set()
        for i, block in enumerate(prompt.blocks):
            slot = self._check_block(f"blocks[{i}]", block)
            if slot in used and not prompt.turns:
                raise InvalidPromptError(
                    f"blocks[{i}].modality", f"blocks[{i}].modality is {block.modality!r}; one of it is taken"
                )
            used.add(slot)
        self._check_turns(prompt)
        if not prompt.question_ids:
            raise InvalidPromptError(
                "question_ids", "question_ids is empty; a question needs at least one language token"
            )
        self._check_ids("question_ids", prompt.question_ids)
        self._check_ids("context_ids", prompt.context_ids)
        check_biases(prompt, self._config.vocab_size)
        positions = len(self.written(prompt).ids)
        if positions >= self.max_positions:
            raise PromptTooLongError("question_ids", positions, self.max_positions - 1, "positions")
        return positions

    def written(self, prompt: Prompt) -> Written:
        """The language tokens of a prompt, placeholders included.

        Raises:
            InvalidPromptError: the chat template refuses it.
        """
        try:
            return self._chat.write(self._turns(prompt))
        except ChatError as error:
            field = "turns" if prompt.turns else "question_ids"
            raise InvalidPromptError(field, f"{field}: {error}") from error

    def _turns(self, prompt: Prompt) -> list[Turn]:
        shown = [Shown(SLOT_OF[block.modality], len(block.x_TC)) for block in prompt.blocks]
        if prompt.turns:
            return [
                Turn(
                    said.role,
                    tuple(shown[each] if isinstance(each, int) else self.text(each) for each in said.pieces),
                )
                for said in prompt.turns
            ]
        texts = [self.text(ids) for ids in (prompt.context_ids, prompt.question_ids)]
        text = "\n".join(text for text in texts if text)
        return [Turn("user", (*shown, text) if text else tuple(shown))]

    def _check_turns(self, prompt: Prompt) -> None:
        pieces = [(i, piece) for i, said in enumerate(prompt.turns) for piece in said.pieces]
        places = [piece for _, piece in pieces if isinstance(piece, int)]
        if prompt.turns and places != list(range(len(prompt.blocks))):
            raise InvalidPromptError(
                "turns", f"turns show blocks {places}; each of the {len(prompt.blocks)} once, in their order"
            )
        for i, piece in pieces:
            if not isinstance(piece, int):
                self._check_ids(f"turns[{i}]", piece)

    def _check_block(self, field: str, block: FeatureBlock) -> str:
        slot = SLOT_OF.get(block.modality)
        if slot not in self._config.parts:
            allowed = ", ".join(part.content for part in self._config.parts.values()) or "text alone"
            raise InvalidPromptError(
                f"{field}.modality", f"{field}.modality is {block.modality!r}; this model takes: {allowed}"
            )
        shape = block.x_TC.shape
        if len(shape) != 2 or shape[1] != self.channel_dim or shape[0] not in self.token_lengths:
            allowed = ", ".join(map(str, self.token_lengths))
            raise InvalidPromptError(
                f"{field}.shape",
                f"{field}.shape is {list(shape)}; [token_length, {self.channel_dim}] needed, with a token "
                f"length of {allowed}",
            )
        check_snr(field, block)
        return str(slot)

    def _check_ids(self, field: str, ids: tuple[int, ...]) -> None:
        if len(ids) >= self.max_positions:
            raise PromptTooLongError(field, len(ids), self.max_positions - 1)
        check_ids(field, ids, self._text_ids, self._special)


def load_split_info(directory: Path) -> SplitInfo:
    """Read what a model folder says of a split model, not its weights.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read.
    """
    return SplitInfo(*read_split(directory), bundle_hash_of(directory))
