"""HPSv2.1: human preference for an image given its prompt, from open_clip weights on transformers' CLIP classes."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from lidar_lightning.rewards.clip import CLIPReward
from lidar_lightning.rewards.images import normalise, resize_pad
from lidar_lightning.rewards.network import Precision
from lidar_lightning.rewards.weights import fill, find_file, pretrained, read_weights

DROPPED = ("attn_mask",)
"""Constants that some versions of open_clip store and transformers computes."""

RENAMED = [
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^visual\.(class_embedding)$", r"vision_model.embeddings.\1"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.", ".self_attn."),
]


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an open_clip CLIP (ViT and text transformer) under the names of transformers' `CLIPModel`.

    Queries, keys and values, stored as one matrix, come apart, and both projections are transposed. Unknown names pass
    unchanged, so that filling a model with them fails.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key in DROPPED:
            continue
        name = key
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".in_proj_" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace("in_proj_", f"{part}_proj.")] = rows
        else:
            renamed[name] = value.T if key in ("visual.proj", "text_projection") else value
    return renamed


class HPSv21(CLIPReward):
    """Cosine of the embeddings of a CLIP ViT-H/14 trained on human choices; typically 0.2 to 0.35.

    Images are fitted to their longer edge and padded with black, as in the `hpsv2` package. That package resizes with
    or without antialiasing depending on the version of torchvision; here it is always on. Its prompts are also cleaned
    of HTML entities, here not.
    Source: Wu et al., "Human Preference Score v2", 2023, arXiv:2306.09341.

    Args:
        model: the file HPS_v2.1_compressed.pt, a folder that holds it, or a repository.
        clip: folder or repository of the CLIP it was tuned from; only its configuration and tokenizer are read.
        batch_size, device, dtype: see `NetworkReward`.
    """

    name = "hpsv2.1"
    filename = "HPS_v2.1_compressed.pt"

    def __init__(
        self,
        model: str = "xswu/HPSv2",
        clip: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(model, clip, batch_size, device, dtype)

    def load(self) -> nn.Module:
        from transformers import CLIPConfig, CLIPModel

        path = find_file(self.name, self.model, self.filename)
        network = CLIPModel(pretrained(self.name, CLIPConfig, self.tokenizer))
        return fill(self.name, network, from_open_clip(read_weights(self.name, path)))

    def prepare(self, images: Tensor) -> Tensor:
        return normalise(resize_pad(images, self.network.config.vision_config.image_size))

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.cosine(images, prompts)
