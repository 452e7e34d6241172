"""Random checkpoints of the families that ``edge-server split`` knows, and what their own classes answer.

Each is of its family's class, with a tokenizer of a few hundred tokens and a chat template in its manner.
What a model is asked is prepared here as its own processor would: by its image processor (the library's, with
Pillow), and with the text that stands for a picture, written out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

END = "<|im_end|>"
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    END,
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}{IMAGE}{% elif part.type == 'audio' %}{AUDIO}{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXTS = (
    "what is shown in this picture?",
    "where is the small red square? it is on the left, above the blue circle.",
    "how many people are there? three, two of them sitting.",
    "is somebody speaking? yes, quietly, while music plays.",
    "describe what happens. a dog runs over a field of grass and a child throws a ball.",
)
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tiny:
    """A random checkpoint.

    Attributes:
        folder: where it lies.
        model: its own class, with its weights.
        tokenizer: its own.
        shows: a picture or sound, as its own processor makes it: what ``generate`` takes beside ids, and the
            text that stands for it.
        image, audio: what its chat template writes for one.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    shows: Callable[[Any], tuple[Mapping[str, Any], str]] | None = None
    image: str = "<image>"
    audio: str = ""

    def ids(self, question: str, stands_for: str | None) -> torch.Tensor:
        """Language tokens of one turn, as the processor makes them, [1, L]."""
        kind = "audio" if self.audio else "image"
        content: Any = [{"type": kind}, {"type": "text", "text": question}]
        if self.shows is None:
            content = question
        elif stands_for is None:
            content = [{"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        if stands_for is not None:
            text = text.replace(self.audio or self.image, stands_for)
        return torch.tensor([self.tokenizer(text, add_special_tokens=False).input_ids])

    def answer(self, question: str, media: Any = None, tokens: int = 12) -> list[int]:
        """What its own class generates, greedily, the token that ends it left out."""
        shown, stands_for = ({}, None) if media is None or self.shows is None else self.shows(media)
        ids = self.ids(question, stands_for)
        with torch.inference_mode():
            said = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                **shown,
            )
        answer: list[int] = said[0, ids.shape[1] :].tolist()
        ends = self.model.generation_config.eos_token_id
        return answer[: answer.index(ends)] if ends in answer else answer


def tokenizer(special: tuple[str, ...] = SPECIAL, image: str = "<image>", audio: str = "") -> Any:
    """A byte-level tokenizer with these special tokens and a chat template."""
    made = Tokenizer(models.BPE(unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        _TEXTS,
        trainers.BpeTrainer(
            vocab_size=320,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
            special_tokens=list(special),
        ),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=special[0])
    wrapped.chat_template = CHAT.replace("{IMAGE}", image).replace("{AUDIO}", audio)
    return wrapped


def picture(seed: int, height: int = 90, width: int = 130) -> Pixels:
    """A smooth picture, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _write(folder: Path, model: Any, wrapped: Any, *processors: Any) -> PreTrainedModel:
    model.generation_config.eos_token_id = wrapped.convert_tokens_to_ids(END)
    model.generation_config.pad_token_id = 0
    model.eval()
    for part in (model, wrapped, *processors):
        part.save_pretrained(folder)
    return model


def smolvlm(folder: Path, kind: str = "SmolVLM") -> Tiny:
    """SmolVLM, or Idefics3, which is built alike."""
    wrapped = tokenizer()
    config = getattr(transformers, f"{kind}Config")(
        vision_config=_TOWER | {"image_size": 64, "patch_size": 8},
        text_config=_TEXT | {"model_type": "llama", "vocab_size": len(wrapped), "pad_token_id": 0},
        scale_factor=2,
        image_token_id=wrapped.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(
        size={"longest_edge": 128}, max_image_size={"longest_edge": 64}, do_image_splitting=False
    )
    model = _write(
        folder, getattr(transformers, f"{kind}ForConditionalGeneration")(config), wrapped, processor
    )

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        made = processor([[Image.fromarray(pixels)]], return_tensors="pt")
        around = "<fake_token_around_image>"
        return (
            {"pixel_values": made["pixel_values"], "pixel_attention_mask": made["pixel_attention_mask"]},
            f"{around}<global-img>{'<image>' * 16}{around}",
        )

    return Tiny(folder, model, wrapped, shows)


def llava(folder: Path) -> Tiny:
    """LLaVA: CLIP and Llama."""
    wrapped = tokenizer()
    config = transformers.LlavaConfig(
        vision_config=_TOWER | {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14},
        text_config=_TEXT | {"model_type": "llama", "vocab_size": len(wrapped), "pad_token_id": 0},
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    model = _write(folder, transformers.LlavaForConditionalGeneration(config), wrapped, processor)

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        made = processor(Image.fromarray(pixels), return_tensors="pt")
        return {"pixel_values": made["pixel_values"]}, "<image>" * 16

    return Tiny(folder, model, wrapped, shows)


TINY: Mapping[str, Callable[[Path], Tiny]] = {
    "smolvlm": smolvlm,
    "idefics3": lambda folder: smolvlm(folder, "Idefics3"),
    "llava": llava,
}
"""By ``model_type``, what writes one."""
