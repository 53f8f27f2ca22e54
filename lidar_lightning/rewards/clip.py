"""Rewards that compare a CLIP embedding of the image with one of the prompt: CLIPScore and PickScore."""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor, nn
from torch.nn import functional

from lidar_lightning.rewards.images import normalise, resize_crop
from lidar_lightning.rewards.network import NetworkReward, Precision, Tokens
from lidar_lightning.rewards.weights import pretrained, pretrained_tokenizer


class CLIPReward(NetworkReward):
    """Embeds images and prompts with a transformers `CLIPModel`; a subclass turns the embeddings into a score.

    Args:
        model: folder or repository of the `CLIPModel`.
        tokenizer: folder or repository of its tokenizer; None takes the model's own.
        batch_size, device, dtype: see `NetworkReward`.
    """

    def __init__(
        self,
        model: str,
        tokenizer: str | None = None,
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, batch_size, device, dtype)
        self.tokenizer = tokenizer or self.model
        if self.tokenizer != self.model:
            self.version += f", tokenizer={self.tokenizer}"

    def load(self) -> nn.Module:
        from transformers import CLIPModel

        return pretrained(self.name, CLIPModel, self.model)

    @cached_property
    def tokens(self) -> Tokens:
        from transformers import CLIPTokenizer

        limit = self.network.config.text_config.max_position_embeddings
        found = pretrained_tokenizer(self.name, CLIPTokenizer, self.tokenizer, self.network.text_model)
        return Tokens(self.name, found, limit)

    def prepare(self, images: Tensor) -> Tensor:
        """The network's input (b, 3, S, S) from images (b, 3, H, W) in [0, 1]."""
        return normalise(resize_crop(images, self.network.config.vision_config.image_size))

    def embed_images(self, images: Tensor) -> Tensor:
        """Embeddings (b, d) of length 1 of images (b, 3, H, W) in [0, 1]."""
        pooled = self.network.vision_model(pixel_values=self.prepare(images).to(self.dtype)).pooler_output
        return functional.normalize(self.network.visual_projection(pooled), dim=-1)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (b, d) of length 1; equal prompts are embedded once."""
        unique = list(dict.fromkeys(prompts))
        pooled = self.network.text_model(**self.tokens(unique, self.network.logit_scale.device)).pooler_output
        embedded = functional.normalize(self.network.text_projection(pooled), dim=-1)
        return embedded[[unique.index(prompt) for prompt in prompts]]

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine (b,) between the embeddings of image and prompt, in [-1, 1]."""
        return (self.embed_images(images) * self.embed_prompts(prompts)).sum(-1)


class CLIPScore(CLIPReward):
    """100 max(cos, 0) of the CLIP embeddings of image and prompt, in [0, 100]; where cos < 0 there is no gradient.

    The scale is torchmetrics'; the paper takes 2.5 in place of 100, and prefixes the prompt with "A photo depicts".
    Source: Hessel et al., "CLIPScore", EMNLP 2021, arXiv:2104.08718.

    Args:
        model: folder or repository of a `CLIPModel` with its tokenizer.
        tokenizer, batch_size, device, dtype: see `CLIPReward`.
    """

    name = "clip_score"

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        tokenizer: str | None = None,
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, tokenizer, batch_size, device, dtype)

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return 100 * self.cosine(images, prompts).clamp(min=0)


class PickScore(CLIPReward):
    """exp(logit scale) cos of a CLIP ViT-H/14 trained on choices of the users of Pick-a-Pic; typically about 20.

    The scale is the model's own, about 100. Source: Kirstain et al., "Pick-a-Pic", NeurIPS 2023, arXiv:2305.01569.

    Args:
        model: folder or repository of the `CLIPModel`.
        tokenizer: folder or repository of the tokenizer of the model it was tuned from, which its authors use.
        batch_size, device, dtype: see `CLIPReward`.
    """

    name = "pick_score"

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        tokenizer: str | None = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, tokenizer, batch_size, device, dtype)

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.network.logit_scale.exp() * self.cosine(images, prompts)
