"""LAION aesthetic: how much people like an image on average, whatever the prompt, from its CLIP embedding."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lidar_lightning.rewards.clip import CLIPReward
from lidar_lightning.rewards.network import Precision
from lidar_lightning.rewards.weights import find_file, linear_head, read_weights


class Aesthetic(CLIPReward):
    """Linear layers on the CLIP embedding of length 1: a rating from about 1 to 10. Prompts are not looked at.

    Source: Schuhmann, github.com/christophschuhmann/improved-aesthetic-predictor, model sac+logos+ava1-l14-linearMSE,
    as published again for TRL's DDPO.

    Args:
        model: a file with weights "layers.<i>.weight" and "layers.<i>.bias", such as the author's .pth, a folder that
            holds "aesthetic-model.pth", or a repository.
        clip: folder or repository of the `CLIPModel` on whose embeddings the layers were trained.
        batch_size, device, dtype: see `NetworkReward`.
    """

    name = "aesthetic"
    filename = "aesthetic-model.pth"

    def __init__(
        self,
        model: str = "trl-lib/ddpo-aesthetic-predictor",
        clip: str = "openai/clip-vit-large-patch14",
        batch_size: int = 16,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        super().__init__(clip, None, batch_size, device, dtype)
        self.layers = model
        self.version += f", layers={model}"

    @property
    def sources(self) -> list[str]:
        return [self.model, self.layers]

    def load(self) -> nn.Module:
        """The CLIP model, which holds the layers as `head`.

        Raises:
            ValueError: as `NetworkReward.load`, or if the layers do not take the embeddings of that CLIP.
        """
        weights = read_weights(self.name, find_file(self.name, self.layers, self.filename))
        layers = {key.removeprefix("layers."): value for key, value in weights.items() if key.startswith("layers.")}
        head = linear_head(self.name, layers)
        network: Any = super().load()
        if head[0].in_features != network.config.projection_dim:
            raise ValueError(
                f"reward {self.name!r}: the layers of {self.layers} take embeddings of {head[0].in_features} numbers, "
                f"but {self.model} gives {network.config.projection_dim}: choose the CLIP they were trained on"
            )
        network.head = head
        return network

    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.network.head(self.embed_images(images)).squeeze(-1)
