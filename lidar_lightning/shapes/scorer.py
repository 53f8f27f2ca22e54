"""A small contrastive model of pictures and captions, the part that ImageReward plays for photographs."""

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
    """Two 3 x 3 convolutions around which the input passes; the width and the resolution stay."""

    def __init__(self, width: int):
        super().__init__()
        self.one, self.other = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.other(F.silu(self.one(F.silu(self.norm(x)))))


def transformer(width: int, layers: int) -> nn.Module:
    """Encoder layers with normalisation first."""
    layer = nn.TransformerEncoderLayer(width, width // 32, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


class ShapesScorer(nn.Module, HubModel, library_name="lidar-lightning", tags=["reward", "shapes"]):
    """Embeds pictures and captions on one sphere; the cosine of the two is what they have in common.

    Pictures go through strided convolutions to 8 x 8 places and then, like captions, through a transformer whose
    outputs are averaged. `from_pretrained` takes a shipped name ("shapes-reward"), a folder or a hub repository;
    `save_pretrained` and `push_to_hub` come from huggingface_hub.

    Args:
        width: of the embeddings and both transformers, a multiple of 32.
        layers: of each transformer.
    """

    def __init__(self, width: int = 128, layers: int = 2):
        super().__init__()
        self.vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *words()])}
        stages = [3, width // 4, width // 2, width]
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(into, out, 3, stride=2, padding=1), Residual(out))
                for into, out in zip(stages, stages[1:], strict=False)
            )
        )
        self.places = nn.Parameter(torch.randn(SIZE // 8 * SIZE // 8, width) * 0.02)
        self.image_transformer = transformer(width, layers)
        self.image_projection = nn.Linear(width, width, bias=False)
        self.tokens = nn.Embedding(len(self.vocabulary), width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        self.text_transformer = transformer(width, layers)
        self.text_projection = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
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
        """Unit vectors (n, width) of pictures (n, 3, 64, 64) in [0, 1]."""
        features = self.convolutions(2 * images - 1).flatten(2).mT + self.places
        return F.normalize(self.image_projection(self.image_transformer(features).mean(1)).float(), dim=-1)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (n, width) of captions; words it does not know count as one, and only 16 are read."""
        rows = torch.zeros(len(prompts), LENGTH, dtype=torch.long)
        for row, prompt in zip(rows, prompts, strict=True):
            known = [self.vocabulary.get(word, 1) for word in prompt.lower().split()[:LENGTH]] or [1]
            row[: len(known)] = torch.tensor(known)
        rows = rows.to(self.positions.device)
        given = rows > 0
        hidden = self.text_transformer(self.tokens(rows) + self.positions, src_key_padding_mask=~given)
        mean = (hidden * given[:, :, None]).sum(1) / given.sum(1, keepdim=True)
        return F.normalize(self.text_projection(mean).float(), dim=-1)

    def similarities(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scaled cosines (n, m) of n pictures with m captions."""
        scale = self.log_scale.exp().clamp(max=100)
        return scale * self.embed_images(images) @ self.embed_prompts(prompts).T

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,): the scaled cosines of pictures with their captions, less `mean`, over `std`."""
        different = list(dict.fromkeys(prompts))
        rows = torch.tensor([different.index(prompt) for prompt in prompts], device=self.positions.device)
        pairs = self.embed_images(images) * self.embed_prompts(different)[rows]
        return (self.log_scale.exp().clamp(max=100) * pairs.sum(-1) - self.mean) / self.std
