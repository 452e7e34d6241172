"""The foundation's own tokenizer: byte-level BPE, so that any text has token ids and every id has text.

Special tokens mark the slots of a prompt (:mod:`edge_server.model.foundation`). They are added tokens that
the encoder never produces from text: a question that spells ``<answer>`` gets the ids of its characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<visual>",
    "</visual>",
    "<audio>",
    "</audio>",
    "<text>",
    "<question>",
    "<answer>",
)
PAD_ID, BOS_ID, EOS_ID, VISUAL_ID, VISUAL_END_ID, AUDIO_ID, AUDIO_END_ID, TEXT_ID, QUESTION_ID, ANSWER_ID = (
    range(len(SPECIAL_TOKENS))
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn merges from text. Words keep their leading space, so common words become one token each."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read ``tokenizer.json``; text that spells a special token is encoded as text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no tokenizer.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{path}: {error}") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Language token ids of a text; never an id of a special token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of language token ids, special tokens left out."""
    text: str = tokenizer.decode([i for i in ids if i >= len(SPECIAL_TOKENS)], skip_special_tokens=True)
    return text.strip()
