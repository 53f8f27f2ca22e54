"""Tiny random networks of the published classes, saved as folders, for tests of image rewards."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

CLIP_TOKENS = 16
"""That the tiny CLIP reads, its start and end tokens included."""


def clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_TOKENS)


def clip_config(act: str = "quick_gelu") -> CLIPConfig:
    """Text and image widths differ, and neither is the width of the embeddings, so that a mix-up shows."""
    text = dict(vocab_size=514, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    text |= dict(max_position_embeddings=CLIP_TOKENS, bos_token_id=512, eos_token_id=513, hidden_act=act)
    vision = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    vision |= dict(image_size=32, patch_size=8, hidden_act=act)
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)


def save_clip(folder: Path, act: str = "quick_gelu") -> CLIPModel:
    """A random CLIP with its tokenizer in the folder. Weights are large enough that scores depend on every layer."""
    torch.manual_seed(0)
    model = CLIPModel(clip_config(act)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return model


def save_bert_tokenizer(folder: Path) -> BertTokenizer:
    """Knows 26 letters and a few words: 40 tokens in all, as many as the network of the golden file embeds."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "red", "on", "grass", "two", "hat", "##s"]
    words += [chr(ord("a") + i) for i in range(1, 26)]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    return tokenizer
