"""A small model of whether a caption is true of a picture: what ImageReward is for photographs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidar_lightning.shapes.grammar import LENGTH, words
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.utils.pretrained import HubModel


class Residual(nn.Module):
    """Two 3 x 3 convolutions whose result is added to their input, at the same width and resolution."""

    def __init__(self, width: int):
        super().__init__()
        self.one, self.other = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.other(F.silu(self.one(F.silu(self.norm(x)))))


def attention_layer(kind: type[nn.Module], width: int) -> nn.Module:
    """A transformer layer that normalises first and has 32 numbers in each head."""
    return kind(width, width // 32, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)


def waves(side: int) -> Tensor:
    """Two sines and two cosines of each coordinate of side x side places, the first over half a period: (side^2, 8)."""
    along = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(along, along, indexing="ij")
    angles = torch.stack([k * math.pi / 2 * c for k in (1, 2) for c in (x, y)], -1).flatten(0, 1)
    return torch.cat((angles.sin(), angles.cos()), -1)


class ShapesScorer(nn.Module, HubModel, library_name="lidar-lightning", tags=["reward", "shapes"]):
    """The log-odds that a caption is true of a picture.

    Pictures go through strided convolutions to 8 x 8 places. Each word of a caption, with its neighbours, looks at
    these places and at the other words in turn, as in the encoder of BLIP that ImageReward builds on (Li et al., arXiv
    2201.12086), so that a colour is tied to a shape and a shape to where it stands. A caption is as true as its least
    true words: its log-odds are a soft minimum of theirs.

    `from_pretrained` takes a shipped name ("shapes-reward"), a folder or a hub repository; `save_pretrained` and
    `push_to_hub` come from huggingface_hub.

    Args:
        width: number of features of each place and each word, a multiple of 32.
        layers: number of layers in which words look at places.
    """

    def __init__(self, width: int = 96, layers: int = 3):
        super().__init__()
        self.vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *words()])}
        stages = [3, width // 4, width // 2, width]
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(into, out, 3, stride=2, padding=1), Residual(out))
                for into, out in zip(stages, stages[1:], strict=False)
            )
        )
        self.places = nn.Parameter(waves(SIZE // 8) @ torch.randn(8, width) / 8**0.5)
        self.image_transformer = attention_layer(nn.TransformerEncoderLayer, width)
        self.image_norm = nn.LayerNorm(width)
        self.tokens = nn.Embedding(len(self.vocabulary), width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(LENGTH, width))
        self.neighbours = nn.Conv1d(width, width, 5, padding=2)
        self.decoder = nn.ModuleList(attention_layer(nn.TransformerDecoderLayer, width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        nn.init.constant_(self.head.bias, 2.0)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "ShapesScorer":
        """Loads a shipped model by name, a local folder, or a hub repository (at OWNER/REPOSITORY@REVISION).

        Raises:
            ValueError: if it cannot be found, or its weights are damaged or of another architecture.
        """
        advice = "; train one with `python -m recipes.shapes_reward`"
        return cls.load(pretrained_model_name_or_path, "shapes reward", advice, **kwargs)

    def embed_images(self, images: Tensor) -> Tensor:
        """Features of each place (n, 64, width) of pictures (n, 3, 64, 64) in [0, 1]."""
        features = self.convolutions(2 * images - 1).flatten(2).mT + self.places
        return self.image_norm(self.image_transformer(features))

    def embed_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features of the words (m, 16, width) of captions, and which words are padding (m, 16).

        All words that it does not know are the same to it, and only the first 16 are read.
        """
        rows = torch.zeros(len(prompts), LENGTH, dtype=torch.long)
        for row, prompt in zip(rows, prompts, strict=True):
            known = [self.vocabulary.get(word, 1) for word in prompt.lower().split()[:LENGTH]] or [1]
            row[: len(known)] = torch.tensor(known)
        rows = rows.to(self.positions.device)
        hidden = (self.tokens(rows) + self.positions) * (rows > 0)[:, :, None]
        return hidden + self.neighbours(hidden.mT).mT, rows == 0

    def log_odds(self, places: Tensor, prompts: Sequence[str]) -> Tensor:
        """Log-odds (n,) of pictures, given by the features of their places (n, 64, width), with one caption each."""
        different = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        rows = torch.tensor([different[prompt] for prompt in prompts], device=places.device)
        words, padding = (part[rows] for part in self.embed_prompts(list(different)))
        longest = int((~padding).sum(1).max())
        words, padding = words[:, :longest], padding[:, :longest]
        for layer in self.decoder:
            words = layer(words, places, tgt_key_padding_mask=padding)
        odds = self.head(self.norm(words))[:, :, 0].float()
        return -(-odds).masked_fill(padding, -torch.inf).logsumexp(1)

    def similarities(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Log-odds (n, m) of n pictures with m captions."""
        places = self.embed_images(images)
        return torch.stack([self.log_odds(places, [prompt] * len(places)) for prompt in prompts], 1)

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,): the log-odds of pictures with their captions, less `mean`, over `std`."""
        return (self.log_odds(self.embed_images(images), prompts) - self.mean) / self.std
