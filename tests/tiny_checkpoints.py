"""Random checkpoints of the classes that the recipe ``paper`` takes, small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
    VivitConfig,
    VivitImageProcessor,
    VivitModel,
)

from edge_server.training.paper import Checkpoints
from edge_server.training.pretrain_foundation import world_texts

END = "<|endoftext|>"
ROWS = 700


def write_checkpoints(folder: Path) -> Checkpoints:
    """Write all three, as ``save_pretrained`` does."""
    torch.manual_seed(0)
    folders = Checkpoints(folder / "qwen2", folder / "vivit", folder / "ast")
    write_foundation(folders.foundation)
    VivitModel(
        VivitConfig(
            image_size=32,
            num_frames=8,
            tubelet_size=[2, 8, 8],
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    ).save_pretrained(folders.visual)
    VivitImageProcessor(
        size={"shortest_edge": 40},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.5, 0.6, 0.7],
    ).save_pretrained(folders.visual)
    ASTModel(
        ASTConfig(
            max_length=256,
            num_mel_bins=64,
            patch_size=16,
            frequency_stride=16,
            time_stride=16,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    ).save_pretrained(folders.audio)
    ASTFeatureExtractor(num_mel_bins=64, max_length=256, mean=-4.5, std=4.2).save_pretrained(folders.audio)
    return folders


def write_foundation(
    folder: Path,
    rows: int = ROWS,
    tied: bool = True,
    network: type[PreTrainedModel] = Qwen2ForCausalLM,
) -> None:
    """A network with ``rows`` embeddings, and a tokenizer like Qwen2's: its one special token ends a text."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(world_texts(100, seed=0), trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    wrapped.save_pretrained(folder)
    model = network(
        network.config_class(
            vocab_size=rows,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=tied,
            eos_token_id=tokenizer.token_to_id(END),
            bos_token_id=None,
            pad_token_id=None,
        )
    )
    model.save_pretrained(folder)
