"""ImageReward: human preference for an image given its prompt, from the published weights on transformers' BLIP."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from lidar_lightning.rewards.images import normalise, resize_crop
from lidar_lightning.rewards.network import NetworkReward, Precision, Tokens
from lidar_lightning.rewards.weights import fill, find_file, linear_head, pretrained_tokenizer, read_weights

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw score over the training data of ImageReward."""

DROPPED = r"^blip\.(vision_proj|text_proj)\.|\.position_ids$"
"""Stored weights that the score does not need: BLIP's contrastive projections, and a constant."""

RENAMED = [
    (r"^blip\.text_encoder\.", "text."),
    (r"^blip\.visual_encoder\.", "vision."),
    (r"^mlp\.layers\.", "head."),
    (r"^vision\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^vision\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^vision\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^vision\.blocks\.", "vision.encoder.layers."),
    (r"^vision\.norm\.", "vision.post_layernorm."),
    (r"^(vision\..*)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"^(vision\..*)\.attn\.qkv\.", r"\1.self_attn.qkv."),
    (r"^(vision\..*)\.attn\.proj\.", r"\1.self_attn.projection."),
]


class BLIPScorer(nn.Module):
    """The network of ImageReward: the prompt's first token, after attending to the image, through linear layers.

    Args:
        vision: a `BlipVisionModel`.
        text: a `BlipTextModel` with cross-attention to the vision model.
        head: the layers that turn the text's embedding into one number.
    """

    def __init__(self, vision: nn.Module, text: nn.Module, head: nn.Sequential):
        super().__init__()
        self.vision, self.text, self.head = vision, text, head

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores (b,) of prepared images (b, 3, S, S) with prompts (b, L) int64."""
        encoded = self.vision(pixel_values=images).last_hidden_state
        read = self.text(
            input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=encoded,
            encoder_attention_mask=torch.ones_like(encoded[..., 0], dtype=torch.long),
            is_decoder=False,
        )
        return (self.head(read.last_hidden_state[:, 0]).squeeze(-1) - MEAN) / STD


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of `BLIPScorer`. Unknown names pass unchanged, so that filling it with them fails."""
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        if re.search(DROPPED, key):
            continue
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def build(reward: str, published: Mapping[str, Tensor], head_width: int) -> BLIPScorer:
    """Builds the network of the sizes that its weights have, with these weights.

    Args:
        reward: the name of the reward, for messages.
        published: the weights under their published names.
        head_width: width of each attention head in both towers, which the weights do not tell.

    Raises:
        ValueError: if weights are missing, unknown, or of a wrong shape; the message names them.
    """
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    weights = from_published(published)
    try:
        patches = weights["vision.embeddings.patch_embedding.weight"]
        positions = weights["vision.embeddings.position_embedding"].shape[1] - 1
        words = weights["text.embeddings.word_embeddings.weight"]
        vision = BlipVisionConfig(
            hidden_size=patches.shape[0],
            intermediate_size=len(weights["vision.encoder.layers.0.mlp.fc1.weight"]),
            num_hidden_layers=_layers(weights, "vision.encoder.layers."),
            num_attention_heads=patches.shape[0] // head_width,
            image_size=round(positions**0.5) * patches.shape[-1],
            patch_size=patches.shape[-1],
            layer_norm_eps=1e-6,
        )
        text = BlipTextConfig(
            vocab_size=words.shape[0],
            hidden_size=words.shape[1],
            encoder_hidden_size=patches.shape[0],
            intermediate_size=len(weights["text.encoder.layer.0.intermediate.dense.weight"]),
            num_hidden_layers=_layers(weights, "text.encoder.layer."),
            num_attention_heads=words.shape[1] // head_width,
            max_position_embeddings=len(weights["text.embeddings.position_embeddings.weight"]),
            layer_norm_eps=1e-12,
            is_decoder=True,  # which gives it cross-attention; it is called as an encoder
        )
    except KeyError as error:
        raise ValueError(f"reward {reward!r}: these are not ImageReward's weights, {error} is missing") from error
    head = linear_head(reward, {k.removeprefix("head."): w for k, w in weights.items() if k.startswith("head.")})
    network = BLIPScorer(BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False), head)
    fill(reward, network, weights)
    return network


class ImageReward(NetworkReward):
    """ImageReward v1.0, standardised by its authors: about 0 for an average image, 1 for one standard deviation more.

    Prompts are cut after 35 tokens, as in the `image-reward` package, which is not needed.
    Source: Xu et al., "ImageReward", NeurIPS 2023, arXiv:2304.05977.

    Args:
        model: the file ImageReward.pt, a folder that holds it, or a repository.
        tokenizer: folder or repository of BERT's tokenizer.
        batch_size, device, dtype: see `NetworkReward`.
    """

    name = "image_reward"
    filename = "ImageReward.pt"
    head_width = 64
    """Of each attention head, in both towers of BLIP; the weights do not tell."""
    limit = 35

    def __init__(
        self,
        model: str = "THUDM/ImageReward",
        tokenizer: str = "bert-base-uncased",
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, batch_size, device, dtype)
        self.tokenizer = tokenizer
        self.version += f", tokenizer={tokenizer}"

    def load(self) -> nn.Module:
        weights = read_weights(self.name, find_file(self.name, self.model, self.filename))
        return build(self.name, weights, self.head_width)

    @cached_property
    def tokens(self) -> Tokens:
        from transformers import BertTokenizer

        found = pretrained_tokenizer(self.name, BertTokenizer, self.tokenizer, self.network.text)
        return Tokens(self.name, found, self.limit)

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        prepared = normalise(resize_crop(images, self.network.vision.config.image_size)).to(self.dtype)
        return self.network(prepared, **self.tokens(prompts, images.device))


def _layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})
