"""Random checkpoints of the families that ``edge-server split`` knows, and what their own classes answer.

Each is of its family's class, with a tokenizer of a few hundred tokens and a chat template in its manner.
What a model is asked is prepared here as its own processor would: by its image processor (the library's, with
Pillow), and with the text that stands for a picture, written out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from edge_server.engine.ports import Role

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
Conversation: TypeAlias = Sequence[tuple[Role, Sequence[Any]]]
"""Turns: whose, and texts and media in their order."""


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
        kinds: what else ``generate`` is told of the ids.
        picture: rows and columns that pictures are brought to, where the family leaves that open.
        together: the axis along which pixels of several pictures are put together.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    shows: Callable[[Any], tuple[Mapping[str, Any], str]] | None = None
    image: str = "<image>"
    audio: str = ""
    kinds: Callable[[torch.Tensor], Mapping[str, Any]] = lambda ids: {}
    picture: tuple[int, int] | None = None
    together: int = 0

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

    def conversation(self, turns: Conversation, tokens: int = 12) -> list[int]:
        """What its own class generates at the end of a conversation."""
        shown: list[Mapping[str, Any]] = []
        texts: list[str] = []
        messages = []
        kind, written = ("audio", self.audio) if self.audio else ("image", self.image)
        for role, pieces in turns:
            content: list[dict[str, str]] = []
            for piece in pieces:
                if isinstance(piece, str):
                    content.append({"type": "text", "text": piece})
                    continue
                assert self.shows is not None
                made, stands_for = self.shows(piece)
                shown.append(made)
                texts.append(stands_for)
                content.append({"type": kind})
            plain = "\n".join(str(piece) for piece in pieces)
            messages.append({"role": role, "content": plain if self.shows is None else content})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for stands_for in texts:
            # Marked, so that the next one is not looked for in it.
            text = text.replace(written, stands_for.replace(written, "\0"), 1)
        ids = torch.tensor([self.tokenizer(text.replace("\0", written), add_special_tokens=False).input_ids])
        return self._generated(ids, self._together(shown), tokens)

    def _together(self, shown: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        if not shown:
            return {}
        joined = {
            name: torch.cat([each[name] for each in shown], self.together if "pixel" in name else 0)
            for name in shown[0]
        }
        if "batch_num_images" in joined and len(shown) > 1:
            joined["batch_num_images"] = torch.tensor([len(shown)])
        return joined

    def _generated(self, ids: torch.Tensor, shown: Mapping[str, Any], tokens: int) -> list[int]:
        with torch.inference_mode():
            said = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                **shown,
                **(self.kinds(ids) if shown else {}),
            )
        answer: list[int] = said[0, ids.shape[1] :].tolist()
        ends = self.model.generation_config.eos_token_id
        return answer[: answer.index(ends)] if ends in answer else answer

    def answer(self, question: str, media: Any = None, tokens: int = 12) -> list[int]:
        """What its own class generates, greedily, the token that ends it left out."""
        shown, stands_for = ({}, None) if media is None or self.shows is None else self.shows(media)
        return self._generated(self.ids(question, stands_for), shown, tokens)


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

    return Tiny(folder, model, wrapped, shows, together=1)


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


def internvl(folder: Path) -> Tiny:
    """InternVL: InternViT and Qwen2."""
    wrapped = tokenizer(
        ("<|endoftext|>", "<|im_start|>", END, "<IMG_CONTEXT>", "<img>", "</img>"), "<IMG_CONTEXT>"
    )
    config = transformers.InternVLConfig(
        vision_config=_TOWER | {"image_size": [56, 56], "patch_size": [14, 14]},
        text_config=_TEXT | {"model_type": "qwen2", "vocab_size": len(wrapped)},
        image_token_id=wrapped.convert_tokens_to_ids("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
    )
    processor = transformers.GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, crop_to_patches=False)
    model = _write(folder, transformers.InternVLForConditionalGeneration(config), wrapped, processor)

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        made = processor(Image.fromarray(pixels), return_tensors="pt")
        return {"pixel_values": made["pixel_values"]}, f"<img>{'<IMG_CONTEXT>' * 4}</img>"

    return Tiny(folder, model, wrapped, shows, image="<IMG_CONTEXT>")


def fast_vlm(folder: Path) -> Tiny:
    """FastVLM: FastViTHD, narrow and of few blocks, and Qwen2; skipped without its tower's package."""
    pytest.importorskip("timm")
    wrapped = tokenizer()
    config = transformers.FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 128,
            "model_args": {
                "inference_mode": True,
                "layers": (1, 1, 1, 1, 1),
                "embed_dims": (8, 16, 16, 32, 64),
            },
        },
        text_config=_TEXT | {"model_type": "qwen2", "vocab_size": len(wrapped)},
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 256, "width": 256},
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
    )
    model = _write(folder, transformers.FastVlmForConditionalGeneration(config), wrapped, processor)

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        made = processor(Image.fromarray(pixels), return_tensors="pt")
        return {"pixel_values": made["pixel_values"]}, "<image>" * 16

    return Tiny(folder, model, wrapped, shows)


def llava_onevision(folder: Path) -> Tiny:
    """LLaVA-OneVision: SigLIP and Qwen2; one tile, as of several pictures."""
    wrapped = tokenizer()
    config = transformers.LlavaOnevisionConfig(
        vision_config=_TOWER | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14},
        text_config=_TEXT | {"model_type": "qwen2", "vocab_size": len(wrapped)},
        image_token_index=wrapped.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[56, 56]],
    )
    processor = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": 56, "width": 56}, image_grid_pinpoints=[[56, 56]]
    )
    model = _write(folder, transformers.LlavaOnevisionForConditionalGeneration(config), wrapped, processor)

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        # The picture as a whole comes first, then what was cut out of it.
        made = processor(Image.fromarray(pixels), return_tensors="pt")
        shown = {
            "pixel_values": made["pixel_values"][:1, :1],
            "image_sizes": torch.tensor([pixels.shape[:2]]),
            "batch_num_images": torch.tensor([2]),
        }
        return shown, "<image>" * 17

    return Tiny(folder, model, wrapped, shows)


def lfm2_vl(folder: Path) -> Tiny:
    """LFM2-VL: SigLIP 2 and LFM2; pixels are laid out in patches as its processor does."""
    wrapped = tokenizer(("<|endoftext|>", "<|im_start|>", END, "<image>", "<|image_start|>", "<|image_end|>"))
    config = transformers.Lfm2VlConfig(
        vision_config=_TOWER | {"patch_size": 16, "num_patches": 16},
        text_config=_TEXT
        | {
            "model_type": "lfm2",
            "vocab_size": len(wrapped),
            "layer_types": ["conv", "full_attention"],
            "block_auto_adjust_ff_dim": False,
        },
        image_token_id=wrapped.convert_tokens_to_ids("<image>"),
        projector_hidden_size=32,
    )
    model = _write(folder, transformers.Lfm2VlForConditionalGeneration(config), wrapped)
    (folder / "preprocessor_config.json").write_text('{"tile_size": 96, "encoder_patch_size": 16}')

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BILINEAR)
        values = (np.asarray(image, np.float32) / 255 - 0.5) / 0.5
        patches = values.reshape(6, 16, 6, 16, 3).transpose(0, 2, 1, 3, 4).reshape(1, 36, -1)
        shown = {
            "pixel_values": torch.from_numpy(patches),
            "spatial_shapes": torch.tensor([[6, 6]]),
            "pixel_attention_mask": torch.ones(1, 36, dtype=torch.int64),
        }
        return shown, f"<|image_start|>{'<image>' * 9}<|image_end|>"

    return Tiny(folder, model, wrapped, shows)


def qwen2_vl(folder: Path, kind: str = "Qwen2VL") -> Tiny:
    """Qwen2-VL, or Qwen2.5-VL, whose tower attends within windows."""
    around = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    wrapped = tokenizer(("<|endoftext|>", "<|im_start|>", END, *around), "".join(around))
    tower = {"patch_size": 14, "depth": 2, "num_heads": 4, "initializer_range": 0.2}
    if kind == "Qwen2VL":
        tower |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    else:
        tower |= {
            "hidden_size": 32,
            "out_hidden_size": 32,
            "intermediate_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        }
    config = getattr(transformers, f"{kind}Config".replace("2_5VL", "2_5_VL"))(
        vision_config=tower,
        text_config=_TEXT
        | {
            "vocab_size": len(wrapped),
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        image_token_id=wrapped.convert_tokens_to_ids("<|image_pad|>"),
        vision_start_token_id=wrapped.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=wrapped.convert_tokens_to_ids("<|vision_end|>"),
        video_token_id=0,
    )
    # It keeps to the shape of a picture: one that has the fixed shape already is not resized.
    processor = transformers.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": 224 * 224}
    )
    name = f"{kind}ForConditionalGeneration".replace("2_5VL", "2_5_VL")
    model = _write(folder, getattr(transformers, name)(config), wrapped, processor)
    pad = wrapped.convert_tokens_to_ids("<|image_pad|>")

    def shows(pixels: Pixels) -> tuple[Mapping[str, Any], str]:
        image = Image.fromarray(pixels).resize((168, 112), Image.Resampling.BICUBIC)
        made = processor(image, return_tensors="pt")
        shown = {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}
        return shown, "<|image_pad|>" * 24

    return Tiny(
        folder,
        model,
        wrapped,
        shows,
        image="<|image_pad|>",
        kinds=lambda ids: {"mm_token_type_ids": (ids == pad).int()},
        picture=(112, 168),
    )


RATE_HZ = 16_000
_EARS = {
    "num_mel_bins": 16,
    "max_source_positions": 50,
    "initializer_range": 0.2,
}


def sound(seed: int, seconds: float = 1.0) -> npt.NDArray[np.float32]:
    """A hum that comes and goes, with noise, float32 [S]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch, beat = rng.uniform(100, 1000), rng.uniform(1, 9)
    hum = np.sin(2 * np.pi * pitch * time) * np.abs(np.sin(2 * np.pi * beat * time))
    return (0.3 * hum + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def _ears(folder: Path, model: Any, wrapped: Any, stands_for: str, written: str, mask: bool) -> Tiny:
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    _write(folder, model, wrapped, extractor)

    def shows(pcm: npt.NDArray[np.float32]) -> tuple[Mapping[str, Any], str]:
        made = extractor(pcm, sampling_rate=RATE_HZ, return_tensors="pt", padding="max_length")
        shown = {"input_features": made["input_features"]}
        if mask:
            shown["feature_attention_mask"] = torch.ones(1, 100, dtype=torch.int64)
        return shown, stands_for

    return Tiny(folder, model, wrapped, shows, audio=written)


def qwen2_audio(folder: Path) -> Tiny:
    """Qwen2-Audio: Whisper's encoder and Qwen2."""
    around = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
    wrapped = tokenizer(("<|endoftext|>", "<|im_start|>", END, *around), audio="".join(around))
    config = transformers.Qwen2AudioConfig(
        audio_config=_EARS
        | {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64},
        text_config=_TEXT | {"model_type": "qwen2", "vocab_size": len(wrapped)},
        audio_token_index=wrapped.convert_tokens_to_ids("<|AUDIO|>"),
    )
    model = transformers.Qwen2AudioForConditionalGeneration(config)
    return _ears(folder, model, wrapped, "<|AUDIO|>" * 25, "<|AUDIO|>", mask=True)


def voxtral(folder: Path) -> Tiny:
    """Voxtral: Whisper's encoder and Llama."""
    wrapped = tokenizer(
        ("<|endoftext|>", "<|im_start|>", END, "[AUDIO]", "[BEGIN_AUDIO]"), audio="[BEGIN_AUDIO][AUDIO]"
    )
    config = transformers.VoxtralConfig(
        audio_config=_EARS
        | {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "head_dim": 8,
        },
        text_config=_TEXT | {"model_type": "llama", "vocab_size": len(wrapped), "pad_token_id": 0},
        audio_token_id=wrapped.convert_tokens_to_ids("[AUDIO]"),
    )
    model = transformers.VoxtralForConditionalGeneration(config)
    return _ears(folder, model, wrapped, "[AUDIO]" * 25, "[AUDIO]", mask=False)


def text(kind: str, **more: Any) -> Callable[[Path], Tiny]:
    """A model of text alone, of a class ``{kind}ForCausalLM``."""

    def write(folder: Path) -> Tiny:
        wrapped = tokenizer()
        config = getattr(transformers, f"{kind}Config".replace("Gemma3Config", "Gemma3TextConfig"))(
            **(_TEXT | {"vocab_size": len(wrapped), "pad_token_id": 0} | more)
        )
        return Tiny(
            folder, _write(folder, getattr(transformers, f"{kind}ForCausalLM")(config), wrapped), wrapped
        )

    return write


TINY: Mapping[str, Callable[[Path], Tiny]] = {
    "smolvlm": smolvlm,
    "idefics3": lambda folder: smolvlm(folder, "Idefics3"),
    "llava": llava,
    "fast_vlm": fast_vlm,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "lfm2_vl": lfm2_vl,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": lambda folder: qwen2_vl(folder, "Qwen2_5VL"),
    "qwen2_audio": qwen2_audio,
    "voxtral": voxtral,
    "llama": text("Llama"),
    "mistral": text("Mistral", sliding_window=None),
    "qwen2": text("Qwen2"),
    "qwen3": text("Qwen3", head_dim=8),
    "gemma3_text": text("Gemma3", head_dim=8, sliding_window=16),
    "smollm3": text("SmolLM3", bos_token_id=None, eos_token_id=None),
}
"""By ``model_type``, what writes one."""
