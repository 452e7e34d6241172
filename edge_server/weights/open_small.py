"""``open-small`` as a link: SmolLM2-135M-Instruct, EfficientNet-Lite0, and what both ends know by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from edge_server.errors import ModelError
from edge_server.model import tokenizer as tk
from edge_server.model.config import ListenerAudio, LoraTraining, MemoryConfig, MemoryField, ReceiverConfig
from edge_server.model.description import LinkConfig
from edge_server.model.link import Encoder, Link, Parts
from edge_server.model.listener import ListenerEncoder
from edge_server.model.memory import MemoryReceiver
from edge_server.model.published.config import CheckpointFoundation, LiteVisual
from edge_server.model.published.lite import LiteEncoder
from edge_server.weights.captions import COLOURS, LEVELS, NOT_SURE, SIDES, Captions
from edge_server.weights.gguf_file import read_llama
from edge_server.weights.names import ClassName
from edge_server.weights.sound_names import SOUNDS

NAME = "open-small"
CLASSES = 1000
#: Longest prompt with its answer.
MAX_POSITIONS = 1024
#: Language tokens of a caption.
QUERIES = 28
# Of fields: what is seen, its colour, where it is.
_SIDE = 2
# A class that is less probable is told as a guess. What that costs photos, and how many pictures of nothing
# it finds, at this and at other levels: tests.benchmarks.open_small_doubt.
_DOUBTED_BELOW = 0.2
#: Slots of the prompt that captions fill.
SEEN, HEARD = "visual", "audio"

# SmolLM2's chat template around a question of one turn; how it begins is what the foundation was tuned to.
_OPENING = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n"
)
_ANSWERING = "<|im_end|>\n<|im_start|>assistant\n"
_ENDS = "<|im_end|>"
# What the marks around a slot begin as: a new line, which a chat may have anywhere.
_MARK = "\n"


def read_foundation(path: Path) -> tuple[CheckpointFoundation, LlamaForCausalLM, Tokenizer]:
    """SmolLM2 from its GGUF file, with the tokens that mark the slots of a prompt.

    Raises:
        ModelError: as :func:`edge_server.weights.gguf_file.read_llama`.
    """
    model, tokenizer = read_llama(path)
    opening, answering, mark = (tuple(tokenizer.encode(text).ids) for text in (_OPENING, _ANSWERING, _MARK))
    special = tk.add_special_tokens(tokenizer, {"pad": "<|endoftext|>", "bos": "<|im_start|>", "eos": _ENDS})
    before = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(tokenizer.get_vocab_size(with_added_tokens=True), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[before:] = weight[mark[0]]
    special = replace(special, begins=opening, asks=(), answers=answering)
    return CheckpointFoundation(model.config.to_dict(), special, "float32", MAX_POSITIONS), model, tokenizer


def read_encoder(path: Path) -> LiteEncoder:
    """EfficientNet-Lite0 from its published state; nothing in it is executed.

    Raises:
        ModelError: it is no such file.
    """
    encoder = LiteEncoder(LiteVisual(CLASSES, doubted_below=_DOUBTED_BELOW))
    try:
        weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        encoder.network.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: no weights of EfficientNet-Lite0: {error}") from error
    encoder.derive()
    return encoder.eval().requires_grad_(False)


def new_listener() -> ListenerAudio:
    """What its audio encoder is."""
    return ListenerAudio(len(SOUNDS))


def base_link(
    foundation: Path, encoder: Path, names: Sequence[ClassName], listener: ListenerEncoder | None = None
) -> Link:
    """The link with a foundation as it was published: it has no LoRA.

    Receivers know codes and captions by heart.

    Args:
        foundation: SmolLM2's file.
        encoder: EfficientNet-Lite0's.
        names: of its classes.
        listener: the encoder of sounds; None: it hears nothing.
    """
    described, network, tokenizer = read_foundation(foundation)
    visual = read_encoder(encoder)
    seen = visual.config
    memory = {SEEN: MemoryConfig(_fields(seen.classes, seen.class_width, seen.others), doubts=_SIDE)}
    if listener is not None:
        heard = listener.config
        memory[HEARD] = MemoryConfig(_fields(heard.classes, heard.class_width, heard.others))
    config = LinkConfig(
        name=NAME,
        foundation=described,
        visual=seen,
        audio=None if listener is None else listener.config,
        receiver=ReceiverConfig(num_queries=QUERIES),
        lora=LoraTraining(rank=16, alpha=32, applies_to="media"),
        memory=memory,
        analog_text=False,
        unsure=NOT_SURE,
    )
    parts: dict[str, Encoder] = {SEEN: visual}
    if listener is not None:
        parts[HEARD] = listener
    link = Link(config, tokenizer, Parts(parts, network)).eval()
    captions = Captions(tokenizer, QUERIES)
    by_heart = _memory(link, SEEN, captions)
    sure, guess = ([captions.photo(name, sure=known) for name in names] for known in (True, False))
    by_heart.learn(0, visual.codes.detach(), sure, guess)
    by_heart.learn(1, torch.eye(len(COLOURS)), [captions.colour(each) for each in COLOURS])
    by_heart.learn(2, torch.eye(len(SIDES)), [captions.side(each) for each in SIDES])
    if listener is not None:
        by_heart = _memory(link, HEARD, captions)
        sure, guess = ([captions.sound(sound, sure=known) for sound in SOUNDS] for known in (True, False))
        by_heart.learn(0, listener.codes, sure, guess)
        by_heart.learn(1, torch.eye(len(LEVELS)), [captions.level(each) for each in LEVELS])
    return link


def _fields(things: int, width: int, others: Sequence[int]) -> tuple[MemoryField, ...]:
    """What names the thing; and what else is said, each thing of which has a direction of its own."""
    return (MemoryField(things, width), *(MemoryField(each, each) for each in others))


def _memory(link: Link, slot: str, captions: Captions) -> MemoryReceiver:
    receiver = link.receiver(slot)
    assert isinstance(receiver, MemoryReceiver)  # noqa: S101 - as configured
    receiver.filler.fill_(captions.filler)
    return receiver
